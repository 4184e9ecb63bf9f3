"""Files of labelled texts: a label and a text a row, separated by a tab, with or without a header."""

import dataclasses
import os
from typing import Literal

from transformer_jax.bounds import Width, check_at_least, check_bounds
from transformer_jax.data import readers
from transformer_jax.data.labelled_texts import HELD_OUT_SHARE, ClassSplits, LabelledText, hold_out
from transformer_jax.data.sources.part_files import PartFiles
from transformer_jax.errors import DataError, require, shortened

LABEL_NAMES = ("label", "labels", "class", "category", "target", "sentiment", "gold_label", "intent")
TEXT_NAMES = ("text", "sentence", "question", "review", "utterance", "document", "content")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassFiles(PartFiles):
    """Your own files of UTF-8 text, plain or compressed: rows of fields separated by tabs.

    The first row is a header if it names the columns (`LABEL_NAMES` and `TEXT_NAMES`, in any case); then the columns
    may stand in any order. Without a header the label stands before the text. Empty lines, and training rows without
    text, are left out and counted in the notes.

    Attributes:
      train: Path of the training texts.
      development: The same of the development texts; None holds a tenth of each class out of the training texts.
      test: The same of the test texts; None for none.
      label_column: Column of the label, from 0; None takes the header's, else 0.
      text_column: Column of the text; None takes the header's, else 1.

    Raises:
      ConfigError: If a path is empty, or a column is below 0 or the same as the other.
    """

    kind: Literal["files"] = "files"
    label_column: Width | None = None
    text_column: Width | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(0, label_column=self.label_column, text_column=self.text_column)
        super().__post_init__()
        require(
            self.label_column is None or self.label_column != self.text_column,
            f"label_column and text_column are both {self.label_column}",
        )

    def load(self) -> ClassSplits:
        """Read the three parts.

        Raises:
          DataError: If a file is missing or bad, a row has no tab, or a label is empty; one line that says which.
        """
        train, notes = self._read(self.train, keeps_empty=False)
        test, more = ([], ()) if self.test is None else self._read(self.test, keeps_empty=True)
        notes += more
        if self.development is not None:
            development, more = self._read(self.development, keeps_empty=True)
            return ClassSplits(train=train, development=development, test=test, notes=(*notes, *more))
        train, development = hold_out(train)
        held_out = (
            f"development set: {HELD_OUT_SHARE:.0%} of each class of the training set, held out by SHA-256 of the text"
            if development
            else "no development set: too few texts of each class to hold one out"
        )
        return ClassSplits(train=train, development=development, test=test, notes=(*notes, held_out))

    def _read(self, path: str, *, keeps_empty: bool) -> tuple[list[LabelledText], tuple[str, ...]]:
        return read_labelled_file(
            path, label_column=self.label_column, text_column=self.text_column, keeps_empty=keeps_empty
        )


def read_labelled_file(
    path: str | os.PathLike[str],
    *,
    label_column: int | None = None,
    text_column: int | None = None,
    keeps_empty: bool = True,
) -> tuple[list[LabelledText], tuple[str, ...]]:
    """Labelled texts of a file of rows separated by tabs, see `ClassFiles`.

    Args:
      path: The file.
      label_column: Column of the label; None takes the header's, else 0.
      text_column: Column of the text; None takes the header's, else 1.
      keeps_empty: Whether rows with a label and without text are kept.

    Returns:
      The examples, and remarks on what was left out.

    Raises:
      DataError: If the file cannot be read, a row has too few fields, a label is empty, or no example is left.
    """
    lines = readers.read_lines(os.path.expanduser(path))
    header = _header(lines[0].split("\t"))
    label_column = header[0] if label_column is None and header else label_column or 0
    if text_column is None:
        text_column = header[1] if header and header[1] != label_column else int(label_column == 0)
    examples, num_blank, num_empty = [], 0, 0
    for number, line in enumerate(lines, start=1):
        if number == 1 and header:
            continue
        if not line.strip():
            num_blank += 1
            continue
        fields = line.split("\t")
        if len(fields) <= max(label_column, text_column):
            raise DataError(
                f"{path}, line {number}: wanted label and text separated by a tab (columns {label_column} and "
                f"{text_column}, from 0), got {len(fields)} field(s): {shortened(line, 40)!r}"
            )
        label, text = fields[label_column].strip(), fields[text_column].strip()
        if not label:
            raise DataError(f"{path}, line {number}: the label is empty")
        if not text and not keeps_empty:
            num_empty += 1
            continue
        examples.append(LabelledText(text, label, number))
    if not examples:
        raise DataError(f"{path}: no row with a label and a text")
    notes = []
    if num_blank:
        notes.append(f"{path}: left out {num_blank} empty line(s)")
    if num_empty:
        notes.append(f"{path}: left out {num_empty} row(s) without text")
    return examples, tuple(notes)


def _header(fields: list[str]) -> tuple[int, int] | None:
    """Columns of label and text if the fields name them; None if they are an example."""
    names = [field.strip().lower() for field in fields]
    label = next((place for place, name in enumerate(names) if name in LABEL_NAMES), None)
    text = next((place for place, name in enumerate(names) if name in TEXT_NAMES), None)
    return None if label is None or text is None else (label, text)
