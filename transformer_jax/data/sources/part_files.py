"""Data sets of one's own as a path for each part: what their configs share."""

import dataclasses
from typing import Self

from transformer_jax.errors import require
from transformer_jax.files import absolute_path

PARTS = ("train", "development", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartFiles:
    """Paths of the parts of a data set.

    Attributes:
      train: Of the training part.
      development: Of the development part; None for none, or for one that is held out of the training part.
      test: Of the test part; None for none.

    Raises:
      ConfigError: If a path is empty.
    """

    train: str
    development: str | None = None
    test: str | None = None

    def __post_init__(self) -> None:
        for name in PARTS:
            require(getattr(self, name) != "", f"{name}: the path is empty")

    def with_absolute_paths(self) -> Self:
        """The same files, to be found from any folder.

        Example:
          >>> PartFiles(train="/data/../mine.tsv").with_absolute_paths().train
          '/mine.tsv'
        """
        paths = {name: getattr(self, name) for name in PARTS}
        return dataclasses.replace(
            self, **{name: absolute_path(path) for name, path in paths.items() if path is not None}
        )
