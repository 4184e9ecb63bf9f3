"""Kinds of data sets, a family for each form of examples, to which packages and programs add their own."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, get_args

from transformer_jax.errors import check_choice
from transformer_jax.kinds import Kinds
from transformer_jax.plugins import config_fault

__all__ = ["DatasetForm", "dataset_kinds", "register_dataset", "with_absolute_dataset_paths"]

_Config = TypeVar("_Config", bound=type)

DatasetForm = Literal["pairs", "text", "classes", "tags", "captions", "series", "speech"]
"""Form of the examples of a data set, by which the families are named."""

_CONFIGS: dict[str, str] = {
    "pairs": "pairs_config",
    "text": "sources.text_sources",
    "classes": "classes_config",
    "tags": "tag_config",
    "captions": "captions_config",
    "series": "series_config",
    "speech": "speech_config",
}
"""The module of `transformer_jax.data` whose ``DATASET_KINDS`` is the family."""


def dataset_kinds(form: DatasetForm, own: Sequence[type]) -> Kinds[Any]:
    """The family of data sets of a form: the library's own, and those that others add.

    Args:
      form: Form of the examples. Entry points of the group ``transformer_jax.datasets.FORM`` add members.
      own: The library's members.

    Example:
      >>> dataset_kinds("pairs", []).group
      'transformer_jax.datasets.pairs'
    """
    return Kinds(f"data set of {form}", own, f"transformer_jax.datasets.{form}", fault=_fault)


def register_dataset(form: DatasetForm) -> Callable[[_Config], _Config]:
    """A decorator that makes a data set of the running program known by its ``kind``.

    Installed packages do the same by an entry point of the group ``transformer_jax.datasets.FORM``, which commands
    see too.

    Args:
      form: Form of its examples, which says what its method ``load()`` returns: `PairSplits` of ``"pairs"``,
        `TextSplits` of ``"text"``, `ClassSplits` of ``"classes"``, `TagSplits` of ``"tags"``, `CaptionSplits` of
        ``"captions"``, `SeriesSet` of ``"series"``, `SpeechSplits` of ``"speech"``.

    Returns:
      The decorator of a frozen dataclass, which returns the class itself. Where the class has
      ``with_absolute_paths()``, which gives the same value with paths that are found from any folder, runs keep that.

    Raises:
      ConfigError: If there is no such form; by the decorator, if the ``kind`` is no text or taken, or ``load`` is
        missing.

    Example:
      >>> import dataclasses
      >>> from typing import Literal
      >>> from transformer_jax.data.line_pairs import Pair, PairSplits
      >>> from transformer_jax.data.pairs_config import PairsConfig
      >>> @register_dataset("pairs")
      ... @dataclasses.dataclass(frozen=True, kw_only=True)
      ... class Doubled:
      ...   kind: Literal["doubled"] = "doubled"
      ...   words: tuple[str, ...]
      ...   def load(self):
      ...     pairs = [Pair(word, word + word, line) for line, word in enumerate(self.words, 1)]
      ...     return PairSplits(train=pairs, development=[], test=[], notes=())
      >>> len(PairsConfig(dataset=Doubled(words=("ab", "c"))).dataset.load().train)
      2
    """
    check_choice("form", form, get_args(DatasetForm))
    config = importlib.import_module(f"transformer_jax.data.{_CONFIGS[form]}")
    register: Callable[[_Config], _Config] = config.DATASET_KINDS.register
    return register


def with_absolute_dataset_paths(dataset: Any) -> Any:
    """The same data set, its paths to be found from any folder where it has such."""
    absolute = getattr(dataset, "with_absolute_paths", None)
    return dataset if absolute is None else absolute()


def _fault(dataset: Any) -> str | None:
    has_load = callable(getattr(dataset, "load", None))
    return config_fault(dataset) or (None if has_load else "it has no method load()")
