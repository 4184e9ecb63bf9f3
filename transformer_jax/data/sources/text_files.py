"""Files of plain text: each is a document, or several between separators."""

import dataclasses
import glob
import os
from typing import Literal

from transformer_jax.data.documents import (
    HELD_OUT_SHARE,
    Document,
    TextSplits,
    hold_out_last,
    split_documents,
)
from transformer_jax.data.readers import read_text_file
from transformer_jax.errors import DataError, require
from transformer_jax.files import absolute_path


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextFiles:
    """Your own files of UTF-8 text, plain or compressed by gzip or xz; each file is one document.

    Attributes:
      train: Paths, or patterns such as ``books/*.txt``, of the training text, in this order; those that match a pattern
        are sorted by name.
      development: The same of the development text; None holds the last tenth of the training text out.
      test: The same of the test text; None for none.
      document_separator: Text between two documents of one file, such as ``<|endoftext|>``; None for one document a
        file.
    """

    kind: Literal["files"] = "files"
    train: tuple[str, ...]
    development: tuple[str, ...] | None = None
    test: tuple[str, ...] | None = None
    document_separator: str | None = None

    def __post_init__(self) -> None:
        for name in ("train", "development", "test"):
            paths = getattr(self, name)
            require(
                paths is None or (not isinstance(paths, str) and len(paths) > 0 and all(paths)),
                f"{name} must be a tuple of paths, at least one and none of them empty; got {paths!r}",
            )
        require(self.document_separator != "", "document_separator must not be empty; None keeps files whole")

    def load(self) -> TextSplits:
        """Read the three parts.

        Raises:
          DataError: If no file matches, or one is missing or bad; one line that says which and what to do.
        """
        train = self._read(self.train)
        test = [] if self.test is None else self._read(self.test)
        if self.development is not None:
            return TextSplits(train=train, development=self._read(self.development), test=test)
        train, development = hold_out_last(train)
        note = (
            f"development text: the last {HELD_OUT_SHARE:.0%} of the characters, held out of the training text"
            if development
            else "no development text: the training text is too short to hold one out"
        )
        return TextSplits(train=train, development=development, test=test, notes=(note,))

    def with_absolute_paths(self) -> "TextFiles":
        """The same files, to be found from any folder.

        Example:
          >>> TextFiles(train=("/data/../books/*.txt",)).with_absolute_paths().train
          ('/books/*.txt',)
        """

        def absolute(paths: tuple[str, ...] | None) -> tuple[str, ...] | None:
            return paths and tuple(absolute_path(path) for path in paths)

        return dataclasses.replace(
            self,
            train=absolute(self.train) or (),
            development=absolute(self.development),
            test=absolute(self.test),
        )

    def _read(self, patterns: tuple[str, ...]) -> list[Document]:
        paths = dict.fromkeys(path for pattern in patterns for path in _matching(pattern))
        return [document for path in paths for document in self._documents(path)]

    def _documents(self, path: str) -> list[Document]:
        return read_documents(path, self.document_separator)


def read_documents(path: str, separator: str | None) -> list[Document]:
    """The documents of a file.

    Args:
      path: The file, plain or compressed.
      separator: Text between two documents; None takes the file as one.

    Raises:
      DataError: If the file is missing or bad, or has no document.
    """
    documents = split_documents(Document(path, read_text_file(path)), separator)
    if not documents:
        raise DataError(f"{path}: no document but separators {separator!r} and white space")
    return documents


def _matching(pattern: str) -> list[str]:
    """Files that a pattern matches, by name; a path without wildcards is itself."""
    expanded = os.path.expanduser(pattern)
    if not glob.has_magic(expanded) or os.path.isfile(expanded):
        return [expanded]
    found = sorted(path for path in glob.glob(expanded, recursive=True) if os.path.isfile(path))
    if not found:
        raise DataError(f"{pattern}: no file matches this pattern")
    return found
