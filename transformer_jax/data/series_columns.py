"""Columns of a file of series: whether a first row names them, which holds the times, and which hold numbers."""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from transformer_jax.data.time_stamps import compact_stamps, is_stamp
from transformer_jax.errors import DataError, nearest_hint, shortened

TIME_NAMES = ("time", "date", "datetime", "timestamp", "ds", "day", "month", "year", "hour")
"""Names of columns of times, in any case; of several, the first of these is taken."""

MISSING = ("", "na", "n/a", "nan", "null", "none", "-")
"""Fields that stand for a missing value, in any case."""

_ROWS_LOOKED_AT = 100

Row = Sequence[str]


def number_of(field: str) -> float | None:
    """The number that a field holds; None if it holds something else.

    Example:
      >>> number_of(" 1e3 "), number_of("x")
      (1000.0, None)
    """
    try:
        return float(field)
    except ValueError:
        return None


def is_missing(field: str) -> bool:
    """Whether a field stands for a missing value.

    Example:
      >>> is_missing(" NA "), is_missing("0")
      (True, False)
    """
    return field.strip().lower() in MISSING


class Header(NamedTuple):
    """What the first row of a file is taken for.

    Attributes:
      has_names: Whether it names the columns; otherwise it is one of data.
      is_certain: Whether the rows leave no doubt.
    """

    has_names: bool
    is_certain: bool


def read_header(first: Row, below: Sequence[Row], known: Sequence[str] = ()) -> Header:
    """Whether the first row of a file names its columns.

    A name is a field that is no number, no time and not missing. The first row names the columns if

    - it holds all of the known names;
    - or a name stands above a column of numbers or times, or an empty field above a column of times, so that numbers
      may be names beside it, as ``101`` and ``102`` in ``date,101,102``;
    - or it has neither a number nor a time;
    - or a name that does not come again stands above a column of texts, which is doubtful.

    Else it is one of data: a row of numbers alone is. That is doubtful, too, if they are different whole numbers and
    each column below has a fraction.

    Args:
      first: Fields of the first row.
      below: The rows below it; only the first hundred are looked at.
      known: Names that columns must have, none if any will do.

    Example:
      >>> read_header(["date", "101"], [["2024-01-01", "1.5"]])
      Header(has_names=True, is_certain=True)
      >>> read_header(["101", "102"], [["1.5", "2.5"]]), read_header(["101", "102"], [["1", "2"]], known=["102"])
      (Header(has_names=False, is_certain=False), Header(has_names=True, is_certain=True))
    """
    fields = [field.strip() for field in first]
    looked_at = below[:_ROWS_LOOKED_AT]
    if known and set(known) <= set(fields):
        return Header(True, True)
    above_texts = False
    for place, field in enumerate(fields):
        column = [row[place] for row in looked_at if len(row) > place]
        if _is_value(field) or not column:
            continue
        if is_missing(field):
            if all(map(is_stamp, column)):
                return Header(True, True)
        elif _most(_is_value(one) or is_missing(one) for one in column):
            return Header(True, True)
        else:
            above_texts = above_texts or field not in {one.strip() for one in column}
    if not any(map(_is_value, fields)):
        return Header(True, True)
    return Header(True, False) if above_texts else Header(False, not _may_be_names(fields, looked_at))


def _is_value(field: str) -> bool:
    return number_of(field) is not None or is_stamp(field)


def _may_be_names(fields: Row, below: Sequence[Row]) -> bool:
    if not below or not all(field.isdigit() for field in fields) or len(set(fields)) < len(fields):
        return False
    return all(any((number_of(one) or 0.0) % 1 for one in column) for column in zip(*below, strict=False))


def time_column_place(
    names: Sequence[str], rows: Sequence[Row], wanted: str | None, numbers: Sequence[str], where: str
) -> int | None:
    """Place of the column of times; None where there is none.

    It is the wanted one, else one that is named so (`TIME_NAMES`) and holds different texts, else the first one if it
    holds dates: as its first field, or of digits alone as all of its fields, in growing order.

    Args:
      names: Names of the columns.
      rows: The rows below them.
      wanted: Name of the column; None finds it.
      numbers: Names of columns that are not to be taken for one.
      where: Name of the file, for messages.

    Raises:
      DataError: If the wanted column is not there.

    Example:
      >>> time_column_place(["load", "Date"], [["1", "2024-01-01"]], None, (), "a.csv")
      1
    """
    if wanted is not None:
        if wanted not in names:
            raise DataError(
                f"{where}: no column {wanted!r}{nearest_hint(wanted, names)}; it has {shortened(', '.join(names))}"
            )
        return names.index(wanted)
    free = [place for place, name in enumerate(names) if name not in numbers]
    named = [place for place in free if names[place].lower() in TIME_NAMES]
    if named:
        named.sort(key=lambda place: TIME_NAMES.index(names[place].lower()))
        # An hour or a weekday beside a date comes again and again.
        distinct = (place for place in named if len({row[place] for row in rows}) == len(rows))
        return next(distinct, named[0])
    if 0 not in free:
        return None
    texts = [row[0].strip() for row in rows]
    if number_of(texts[0]) is None:
        return 0 if is_stamp(texts[0]) else None
    is_growing = all(one < other for one, other in itertools.pairwise(texts))
    return 0 if len(texts) > 1 and is_growing and compact_stamps(texts) is not None else None


def number_columns(
    names: Sequence[str], rows: Sequence[Row], time_place: int | None, *, skip_text: bool, where: str
) -> list[int]:
    """Places of all columns but the times; with ``skip_text`` of those that hold a number, or nothing.

    Args:
      names: Names of the columns.
      rows: The rows below them.
      time_place: Place of the times.
      skip_text: Whether columns of which no field is a number are left out.
      where: Name of the file, for messages.

    Raises:
      DataError: If there is none.

    Example:
      >>> number_columns(["a", "b"], [["1", "x"]], None, skip_text=True, where="a.csv")
      [0]
    """
    places = [place for place in range(len(names)) if place != time_place]
    if skip_text:
        places = [place for place in places if not _is_text([row[place] for row in rows])]
    if not places:
        raise DataError(f"{where}: no column of numbers beside the times")
    return places


def _is_text(column: Sequence[str]) -> bool:
    held = [field for field in column if not is_missing(field)]
    return bool(held) and all(number_of(field) is None for field in held)


def _most(found: Iterable[bool]) -> bool:
    answers = list(found)
    return 2 * sum(answers) > len(answers)
