"""A named data set of texts with a class each, as a value of a config."""

import dataclasses
from typing import Literal

from transformer_jax.bounds import Width, check_bounds
from transformer_jax.data.labelled_texts import ClassSplits
from transformer_jax.data.sources.registry import names_with, read_classes
from transformer_jax.data.sources.sentences import NUM_FOLDS, SUBSETS
from transformer_jax.errors import check_choice, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamedClasses:
    """A set of `transformer_jax.data.sources.registry` that holds texts with a class each.

    Attributes:
      name: ``sentences``.
      subset: ``trec-6``, ``trec-50``, ``sst-2`` or ``mr``.
      fold: Of ``mr``, which has no test set: the tenth, from 0, that is tested on.

    Raises:
      ConfigError: If there is no such set, subset or fold.

    Example:
      >>> NamedClasses(subset="mr", fold=3).num_classes
      2
    """

    kind: Literal["named"] = "named"
    name: str = "sentences"
    subset: str = "trec-6"
    fold: Width | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        check_choice("name", self.name, names_with("classes"))
        check_choice("subset", self.subset, SUBSETS)
        if self.subset == "mr":
            require(
                self.fold is not None and 0 <= self.fold < NUM_FOLDS,
                f"subset 'mr' has no test set: choose a fold from 0 to {NUM_FOLDS - 1}, got {self.fold}",
            )
        else:
            require(self.fold is None, f"subset '{self.subset}' has no folds; got fold {self.fold}")

    @property
    def num_classes(self) -> int:
        """Classes of the subset."""
        return SUBSETS[self.subset].num_classes

    def load(self) -> ClassSplits:
        """Read the three parts.

        Raises:
          DataError: If a file is missing or bad; one line that says which and what to do.
        """
        return read_classes(self.name, subset=self.subset, fold=self.fold)
