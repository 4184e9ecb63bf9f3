"""A user's own files of words with labels."""

import dataclasses
import os
from typing import Literal

from transformer_jax.bounds import Length, check_bounds
from transformer_jax.data.sources.part_files import PARTS, PartFiles
from transformer_jax.data.sources.tag_lines import CONLLU_COLUMNS, TagFormat, read_tag_file
from transformer_jax.data.tagged_text import TaggedSentence, TagSplits, with_held_out
from transformer_jax.errors import check_choice, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class TagFiles(PartFiles):
    """Your own files: one word a line with its label, an empty line behind each sentence; or CoNLL-U.

    Without a development set, a tenth of the sentences is held out of the training set, by a hash of the words; without
    a test set there is none. Columns are counted from 0, negative ones from the last. A comment ``# class = NAME``
    before each sentence gives the label of the whole sentence.

    Attributes:
      train: Path of the training sentences, plain or compressed by gzip or xz.
      development: Path of the development sentences.
      test: Path of the test sentences.
      format: ``"conllu"``, ``"columns"``, or ``"auto"`` to go by the names of the files.
      word_column: Of a file in columns, where the word stands.
      label_column: Where its label stands.
      conllu_column: Of a CoNLL-U file, the column of labels: ``"upos"`` or ``"xpos"``.
    """

    kind: Literal["files"] = "files"
    format: TagFormat = "auto"
    word_column: Length = 0
    label_column: Length = -1
    conllu_column: str = "upos"

    def __post_init__(self) -> None:
        check_bounds(self)
        for name in PARTS:
            require(getattr(self, name) != "", f"the path of {name} is empty")
        check_choice("format", self.format, ("auto", "conllu", "columns"))
        check_choice("conllu_column", self.conllu_column, CONLLU_COLUMNS)
        for name in ("word_column", "label_column"):
            require(
                -100 <= getattr(self, name) <= 100,
                f"{name} must be between -100 and 100, got {getattr(self, name)}",
            )
        require(
            self.word_column != self.label_column,
            f"word_column {self.word_column} and label_column {self.label_column} are the same",
        )

    def load(self) -> TagSplits:
        """Read the three parts.

        Raises:
          DataError: If a file is missing or bad; one line that says which and what to do.
        """
        return with_held_out(
            self.read(self.train),
            None if self.development is None else self.read(self.development),
            None if self.test is None else self.read(self.test),
        )

    def read(self, path: str) -> list[TaggedSentence]:
        """Sentences of a file of this form.

        Raises:
          DataError: If it is missing or bad.
        """
        return read_tag_file(
            os.path.expanduser(path),
            form=self.format,
            word_column=self.word_column,
            label_column=self.label_column,
            conllu_column=self.conllu_column,
        )
