"""A named data set of words with labels, as a value of a config."""

import dataclasses
from typing import Literal

from transformer_jax.data.sources.registry import names_with, read_tags
from transformer_jax.data.tagged_text import TagSplits
from transformer_jax.errors import nearest_hint, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamedTags:
    """A set of `transformer_jax.data.sources.registry` that holds sentences with labels, with its published split.

    Attributes:
      name: ``ud-english-ewt`` (parts of speech) or ``snips-slots`` (IOB slots, and an intent of each sentence).
      annotation: Which labels of the set: ``"upos"`` or ``"xpos"`` of a treebank; None takes its first.
    """

    kind: Literal["named"] = "named"
    name: str = "ud-english-ewt"
    annotation: str | None = None

    def __post_init__(self) -> None:
        usable = names_with("tags")
        require(
            self.name in usable,
            f"no data set '{self.name}' of words with labels{nearest_hint(self.name, usable)}; known: "
            f"{', '.join(usable)}",
        )

    def load(self) -> TagSplits:
        """Read the three parts of the set.

        Raises:
          DataError: If a file is missing or bad, or the set has no such annotation; one line that says what to do.
        """
        return read_tags(self.name, self.annotation)
