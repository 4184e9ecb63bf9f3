"""The labels of a classifier or tagger: names in a fixed order, kept beside a model as its tokenizer is."""

import dataclasses
import functools
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from transformer_jax.data.artifact_file import fingerprint_of, load_artifact
from transformer_jax.errors import DataError, nearest_hint, shortened
from transformer_jax.files import write_whole

MAX_SHOWN = 8


@dataclasses.dataclass(frozen=True)
class LabelSet:
    """Labels in the order of their numbers.

    Args:
      labels: Names, each once.

    Raises:
      DataError: If there is no label, one is empty or no text, or one comes twice.

    Example:
      >>> labels = LabelSet.of(["place", "person", "place"])
      >>> labels.labels, labels.index("place"), len(labels)
      (('person', 'place'), 1, 2)
    """

    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.labels:
            raise DataError("a label set needs at least one label, got none")
        for label in self.labels:
            if not isinstance(label, str) or not label.strip():
                raise DataError(f"a label must be a text that is not empty, got {label!r}")
        if len(set(self.labels)) != len(self.labels):
            twice = next(label for label in self.labels if self.labels.count(label) > 1)
            raise DataError(f"label {shortened(twice)!r} is in the label set twice")

    @classmethod
    def of(cls, labels: Iterable[str]) -> "LabelSet":
        """The distinct labels of examples, in order of code points."""
        return cls(tuple(sorted(set(labels))))

    def __len__(self) -> int:
        return len(self.labels)

    def index(self, label: str) -> int:
        """Number of a label.

        Raises:
          DataError: If it is none of them; names the nearest.

        Example:
          >>> LabelSet(("NOUN", "VERB")).index("VEBR")
          Traceback (most recent call last):
          transformer_jax.errors.DataError: no label 'VEBR'; did you mean 'VERB'?; known: NOUN, VERB
        """
        found = self._numbers().get(label)
        if found is None:
            known = ", ".join(self.labels[:MAX_SHOWN]) + (", ..." if len(self) > MAX_SHOWN else "")
            raise DataError(
                f"no label {shortened(label)!r}{nearest_hint(label, self.labels)}; known: {known}"
            )
        return found

    def indices(self, labels: Sequence[str]) -> npt.NDArray[np.int32]:
        """Numbers of several labels.

        Raises:
          DataError: If one is none of them.
        """
        return np.array([self.index(label) for label in labels], np.int32)

    def __contains__(self, label: object) -> bool:
        return label in self._numbers()

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any number would mean another label."""
        return fingerprint_of(self.labels)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the labels as JSON."""
        write_whole(Path(path), json.dumps({"labels": self.labels}, ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "LabelSet":
        """Read a file that `save` wrote.

        Raises:
          DataError: If it is missing or damaged.
        """
        return load_artifact(path, cls._of_document, what="the label set", noun="a label set")

    @classmethod
    def _of_document(cls, document: Any) -> "LabelSet":
        labels = document["labels"]
        if not isinstance(labels, list):
            raise ValueError("labels must be a list")
        return cls(tuple(labels))

    def _numbers(self) -> dict[str, int]:
        return _numbers_of(self.labels)


@functools.lru_cache(maxsize=64)
def _numbers_of(labels: tuple[str, ...]) -> dict[str, int]:
    return {label: number for number, label in enumerate(labels)}
