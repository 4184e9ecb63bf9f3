"""Files of series: a CSV of one column of times and columns of numbers."""

import csv
import dataclasses
import os
from collections.abc import Sequence
from typing import Literal

import numpy as np

from transformer_jax.bounds import Count, check_at_least, check_bounds
from transformer_jax.data import readers
from transformer_jax.data.series import Series, SeriesSet
from transformer_jax.data.series_columns import (
    Header,
    is_missing,
    number_columns,
    number_of,
    read_header,
    time_column_place,
)
from transformer_jax.data.time_column import read_time_axis
from transformer_jax.errors import DataError, nearest_hint, require, shortened
from transformer_jax.files import absolute_path

MAX_STEPS_PER_ROW = 100
"""A time axis has at most so many rows for each row of the file: beyond it, a stamp is taken for a mistake."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeriesFiles:
    """Your own series: a UTF-8 file of columns, separated by commas, semicolons or tabs, plain or compressed.

    The first row names the columns unless it is one of data (`read_header`): a row of numbers alone is. Rows are sorted
    by their time, and a row that is missing between two others is a gap. The last rows are the test part, those before
    them the development part.

    Attributes:
      path: The file.
      time_column: Name of the column of times; None takes one that is named so (`TIME_NAMES`) or the first one if it
        holds dates, else rows are only counted.
      columns: Names of the columns of numbers; empty for all others.
      has_header: Whether the first row names the columns; None looks at the rows.
      num_development: Rows of the development part; None takes a tenth.
      num_test: Rows of the test part; None takes a fifth.

    Raises:
      ConfigError: If the path is empty, or a number is below 0.

    Example:
      >>> import tempfile
      >>> from pathlib import Path
      >>> with tempfile.TemporaryDirectory() as folder:
      ...   path = Path(folder) / "a.csv"
      ...   count = path.write_text("month,load\\n2024-01-31,5\\n2024-02-29,7\\n2024-03-31,6\\n")
      ...   series = SeriesFiles(path=str(path), num_development=0, num_test=1).load().series[0]
      >>> series.training_values()[:, 0].tolist(), series.axis.text(3)
      ([5.0, 7.0], '2024-04-30')
    """

    kind: Literal["files"] = "files"
    path: str
    time_column: str | None = None
    columns: tuple[str, ...] = ()
    has_header: bool | None = None
    num_development: Count | None = None
    num_test: Count | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(0, num_development=self.num_development, num_test=self.num_test)
        require(self.path != "", "path: the path is empty")
        require(len(set(self.columns)) == len(self.columns), "columns: a name stands there twice")

    def load(self) -> SeriesSet:
        """Read the file.

        Raises:
          DataError: If it is missing or bad, or too short for its parts; one line that says which and what to do.
        """
        found = read_series_file(
            self.path, time_column=self.time_column, columns=self.columns, has_header=self.has_header
        )
        (series,) = found.series
        rows = len(series.values)
        num_test = rows // 5 if self.num_test is None else self.num_test
        num_development = rows // 10 if self.num_development is None else self.num_development
        if num_test + num_development >= rows:
            raise DataError(
                f"{self.path}: {rows:,} rows, of which {num_development:,} are for development and {num_test:,} for "
                "the test: none is left to train on"
            )
        ends = (rows - num_test - num_development, rows - num_test, rows)
        return dataclasses.replace(found, series=(dataclasses.replace(series, ends=ends),))

    def with_absolute_paths(self) -> "SeriesFiles":
        """The same file, to be found from any folder.

        Example:
          >>> SeriesFiles(path="/data/../mine.csv").with_absolute_paths().path
          '/mine.csv'
        """
        return dataclasses.replace(self, path=absolute_path(self.path))


def read_series_file(
    path: str | os.PathLike[str],
    *,
    time_column: str | None = None,
    columns: Sequence[str] = (),
    wanted: Sequence[str] = (),
    has_header: bool | None = None,
    skip_text: bool = False,
) -> SeriesSet:
    """The series of a file, see `SeriesFiles`, as one part.

    Args:
      path: The file.
      time_column: Name of the column of times; None finds it.
      columns: Names of the columns of numbers, in the order of the channels; empty for all others.
      wanted: The same, of which nothing comes where they are not there: then all others are read.
      has_header: Whether the first row names the columns; None looks at the rows, see `read_header`.
      skip_text: Whether columns of which no field is a number are left out, with a note, where all are read.

    Raises:
      DataError: If the file cannot be read, a row has another number of fields, a time stands twice or is none, a field
        is no number, or a column is missing; names line and column.

    Example:
      >>> import tempfile
      >>> from pathlib import Path
      >>> with tempfile.TemporaryDirectory() as folder:
      ...   path = Path(folder) / "a.csv"
      ...   count = path.write_text("date,101,102\\n20240101,5,1\\n20240102,7,\\n")
      ...   found = read_series_file(path, columns=["102"])
      >>> found.columns, found.series[0].values[:, 0].tolist()
      (('102',), [1.0, nan])
    """
    where = str(path)
    lines = readers.read_lines(os.path.expanduser(path))
    return parse_series(
        lines, where, time_column, columns, wanted=wanted, has_header=has_header, skip_text=skip_text
    )


def parse_series(
    lines: Sequence[str],
    where: str,
    time_column: str | None = None,
    columns: Sequence[str] = (),
    *,
    wanted: Sequence[str] = (),
    has_header: bool | None = None,
    skip_text: bool = False,
) -> SeriesSet:
    """The series of the lines of a file.

    Args:
      lines: The lines, without their ends.
      where: Name of the file, for messages.
      time_column: As the others: see `read_series_file`.
      columns: See there.
      wanted: See there.
      has_header: See there.
      skip_text: See there.

    Raises:
      DataError: See there.

    Example:
      >>> found = parse_series(["date,load", "2024-01-01,1.5", "2024-01-03,2.5", "2024-01-04,3"], "a.csv")
      >>> found.columns, found.series[0].values[:, 0].tolist(), found.notes
      (('load',), [1.5, nan, 2.5, 3.0], ('a.csv: 1 row(s) are missing between others',))
    """
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise DataError(f"{where}: no row of numbers")
    first = numbered[0][1]
    delimiter = max(",;\t", key=first.count)
    rows = [(number, next(csv.reader([line], delimiter=delimiter))) for number, line in numbered]
    names = [field.strip() for field in rows[0][1]]
    notes = []
    below = [fields for _, fields in rows[1:]]
    known = [*columns, *([] if time_column is None else [time_column])] or list(wanted)
    header = read_header(names, below, known) if has_header is None else Header(has_header, True)
    if not header.is_certain:
        taken = "names" if header.has_names else "data"
        notes.append(
            f"{where}: the first row, {shortened(', '.join(names), 40)}, is read as {taken}; "
            "`data.dataset.has_header` settles it"
        )
    if header.has_names:
        rows = rows[1:]
    else:
        names = [f"column {place}" for place in range(1, len(names) + 1)]
    if not rows:
        raise DataError(f"{where}: no row of numbers below the names of the columns")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{where}: two columns have the name {shortened(twice, 40)!r}: rename one")
    for number, fields in rows:
        if len(fields) != len(names):
            raise DataError(f"{where}, line {number}: wanted {len(names)} fields, got {len(fields)}")
    if wanted and set(wanted) <= set(names):
        columns = wanted
    body = [fields for _, fields in rows]
    time_place = time_column_place(names, body, time_column, columns, where)
    if columns:
        places = _places(names, columns, where)
    else:
        places = number_columns(names, body, time_place, skip_text=skip_text, where=where)
        left_out = [name for place, name in enumerate(names) if place not in (*places, time_place)]
        if left_out:
            notes.append(f"{where}: columns of text are left out: {shortened(', '.join(left_out))}")
    values = np.array([[_field(row, place, names, where) for place in places] for row in rows], np.float64)
    axis = None
    if time_place is not None:
        texts = [fields[time_place] for fields in body]
        axis, found = read_time_axis(texts, where=where, lines=[number for number, _ in rows])
        num_rows = int(found.max()) + 1
        if num_rows > MAX_STEPS_PER_ROW * len(rows):
            raise DataError(
                f"{where}: {len(rows):,} rows reach over {num_rows:,} steps of time: look for a wrong time among them"
            )
        if (np.diff(found) < 0).any():
            notes.append(f"{where}: rows were not in the order of time and are sorted")
        if num_rows > len(rows):
            notes.append(f"{where}: {num_rows - len(rows):,} row(s) are missing between others")
        spread = np.full((num_rows, len(places)), np.nan)
        spread[found] = values
        values = spread
    return SeriesSet(
        series=(Series(name=where, values=values, axis=axis),),
        columns=tuple(names[place] for place in places),
        notes=tuple(notes),
    )


def _places(names: Sequence[str], wanted: Sequence[str], where: str) -> list[int]:
    for name in wanted:
        if name not in names:
            raise DataError(
                f"{where}: no column {name!r}{nearest_hint(name, names)}; it has {shortened(', '.join(names))}"
            )
    return [names.index(name) for name in wanted]


def _field(row: tuple[int, Sequence[str]], place: int, names: Sequence[str], where: str) -> float:
    number, fields = row
    text = fields[place].strip()
    if is_missing(text):
        return float("nan")
    value = number_of(text)
    if value is None or np.isinf(value):
        raise DataError(
            f"{where}, line {number}: column {names[place]!r} holds {shortened(text, 30)!r}, wanted a number; correct "
            "it, or leave the column out: name those of numbers in `data.dataset.columns`"
        )
    return value
