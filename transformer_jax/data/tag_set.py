"""What a tagger can say: the labels of words, and of whole sentences where those have one."""

import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformer_jax.data.artifact_file import fingerprint_of, load_artifact
from transformer_jax.data.label_set import LabelSet
from transformer_jax.data.tagged_text import TaggedSentence
from transformer_jax.errors import DataError
from transformer_jax.files import write_whole


@dataclasses.dataclass(frozen=True)
class TagSet:
    """Labels in the order of their numbers.

    Attributes:
      labels: Of words.
      classes: Of whole sentences; None where they have none.

    Example:
      >>> sentences = [TaggedSentence(("play", "jazz"), ("O", "B-genre"), "PlayMusic")]
      >>> found = TagSet.of(sentences)
      >>> found.labels.labels, found.classes.labels
      (('B-genre', 'O'), ('PlayMusic',))
    """

    labels: LabelSet
    classes: LabelSet | None = None

    @classmethod
    def of(cls, sentences: Iterable[TaggedSentence]) -> "TagSet":
        """The distinct labels of sentences, in order of code points.

        Raises:
          DataError: If there is no sentence, or some have a label of the whole and others have none.
        """
        sentences = list(sentences)
        labels = {label for one in sentences for label in one.labels}
        classes = {one.label for one in sentences if one.label is not None}
        if classes and any(one.label is None for one in sentences):
            raise DataError(
                "some sentences have a label of the whole, others have none: give it to all or none"
            )
        return cls(LabelSet.of(labels), LabelSet.of(classes) if classes else None)

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any number would mean another label."""
        return fingerprint_of(self._document())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the labels as JSON."""
        write_whole(Path(path), json.dumps(self._document(), ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "TagSet":
        """Read a file that `save` wrote.

        Raises:
          DataError: If it is missing or damaged.
        """
        return load_artifact(path, cls._of_document, what="the labels", noun="the labels of a tagger")

    @classmethod
    def _of_document(cls, document: Any) -> "TagSet":
        labels, classes = document["labels"], document["classes"]
        if not isinstance(labels, list) or not (classes is None or isinstance(classes, list)):
            raise ValueError("labels must be a list, and classes a list or null")
        return cls(LabelSet(tuple(labels)), None if classes is None else LabelSet(tuple(classes)))

    def _document(self) -> dict[str, list[str] | None]:
        return {
            "labels": list(self.labels.labels),
            "classes": None if self.classes is None else list(self.classes.labels),
        }
