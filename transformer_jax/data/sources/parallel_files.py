"""Files of lines, aligned by line: a file of sources and a file of targets for each part."""

import dataclasses
import os
from typing import Any, Literal

from transformer_jax.data import readers
from transformer_jax.data.language_codes import check_languages
from transformer_jax.data.line_pairs import Pair, PairSplits, with_held_out
from transformer_jax.data.sources.part_files import PARTS
from transformer_jax.errors import require
from transformer_jax.files import absolute_path


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelFiles:
    """Your own files, aligned by line.

    Without a development set, 2.5 % of the source lines are held out of the training set, by a hash of the
    line; without a test set there is none.

    Attributes:
      source_language: Code of the sources' language, such as ``"en"``; None where nothing needs it.
      target_language: The same of the targets, by which scores choose a tokenizer; None goes by the script.
    """

    kind: Literal["parallel"] = "parallel"
    train_source: str
    train_target: str
    development_source: str | None = None
    development_target: str | None = None
    test_source: str | None = None
    test_target: str | None = None
    source_language: str | None = None
    target_language: str | None = None

    def __post_init__(self) -> None:
        check_languages(source_language=self.source_language, target_language=self.target_language)
        for split in ("development", "test"):
            source, target = getattr(self, f"{split}_source"), getattr(self, f"{split}_target")
            require(
                (source is None) == (target is None),
                f"{split}_source and {split}_target go together, got {source!r} and {target!r}",
            )

    def load(self) -> PairSplits:
        """Read the three parts.

        Raises:
          DataError: If a file is missing or bad; one line that says which and what to do.
        """
        return with_held_out(
            _read(self.train_source, self.train_target) or [],
            _read(self.development_source, self.development_target),
            _read(self.test_source, self.test_target),
        )

    def with_absolute_paths(self) -> "ParallelFiles":
        """The same files, to be found from any folder.

        Example:
          >>> ParallelFiles(train_source="/data/../a.en", train_target="/b.de").with_absolute_paths().train_source
          '/a.en'
        """
        names = [f"{part}_{side}" for part in PARTS for side in ("source", "target")]
        paths = {name: getattr(self, name) for name in names}
        absolute: dict[str, Any] = {
            name: absolute_path(path) for name, path in paths.items() if path is not None
        }
        return dataclasses.replace(self, **absolute)


def _read(source: str | None, target: str | None) -> list[Pair] | None:
    if source is None or target is None:
        return None
    return readers.read_parallel(os.path.expanduser(source), os.path.expanduser(target))
