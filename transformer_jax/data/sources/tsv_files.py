"""Files of fields separated by tabs, one pair a row."""

import dataclasses
import os
from typing import Literal

from transformer_jax.bounds import Width, check_at_least, check_bounds
from transformer_jax.data import readers
from transformer_jax.data.language_codes import check_languages
from transformer_jax.data.line_pairs import Pair, PairSplits, with_held_out
from transformer_jax.data.sources.part_files import PartFiles
from transformer_jax.errors import DataError, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class TsvFiles(PartFiles):
    """Your own files of fields separated by tabs; columns are counted from 0.

    A missing development or test set is treated as in `ParallelFiles`, and so are the languages.
    """

    kind: Literal["tsv"] = "tsv"
    source_column: Width = 0
    target_column: Width = 1
    source_language: str | None = None
    target_language: str | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        super().__post_init__()
        check_languages(source_language=self.source_language, target_language=self.target_language)
        check_at_least(0, source_column=self.source_column, target_column=self.target_column)
        require(
            self.source_column != self.target_column,
            f"source_column {self.source_column} and target_column {self.target_column} are the same",
        )

    def load(self) -> PairSplits:
        """Read the three parts.

        Raises:
          DataError: If a file is missing or bad; one line that says which and what to do.
        """
        return with_held_out(
            self._read(self.train) or [], self._read(self.development), self._read(self.test)
        )

    def _read(self, path: str | None) -> list[Pair] | None:
        if path is None:
            return None
        rows = readers.read_tsv(os.path.expanduser(path))
        last = max(self.source_column, self.target_column)
        if last >= len(rows[0]):
            raise DataError(
                f"{path}: wanted column {last}, counted from 0; its rows have {len(rows[0])} column(s)"
            )
        return [
            Pair(row[self.source_column], row[self.target_column], line) for line, row in enumerate(rows, 1)
        ]
