"""Texts of time stamps: the forms in which dates and times are read and written."""

import dataclasses
import datetime
import re
from collections.abc import Sequence

from transformer_jax.errors import DataError, shortened

EPOCH = datetime.datetime(1970, 1, 1)

YEARS = range(1800, 2200)
"""Years of dates without separators: other digits are numbers."""

_PATTERNS_OF_DIGITS = {6: "%Y%m", 8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_SEPARATED = (
    (re.compile(r"\d{4}-\d\d"), "%Y-%m"),
    (re.compile(r"\d{4}-?Q[1-4]"), "quarter"),
    (re.compile(r"\d{8}T\d{4}"), "%Y%m%dT%H%M"),
    (re.compile(r"\d{8}T\d{6}"), "%Y%m%dT%H%M%S"),
)
_EPOCH_UNITS = {"epoch seconds": 1, "epoch milliseconds": 1000}


@dataclasses.dataclass(frozen=True)
class Stamps:
    """Time stamps of a column.

    Attributes:
      moments: Each stamp, with its offset from UTC where it has one; a month or a quarter by its first day.
      form: How they are written, see `stamp_text`.

    Example:
      >>> compact_stamps(["20240131", "20240229"])
      Stamps(moments=(datetime.datetime(2024, 1, 31, 0, 0), datetime.datetime(2024, 2, 29, 0, 0)), form='%Y%m%d')
    """

    moments: tuple[datetime.datetime, ...]
    form: str


def stamp_text(moment: datetime.datetime, form: str) -> str:
    """A moment as a text.

    Args:
      moment: The moment.
      form: ``"time"`` or ``"date"`` by ISO 8601, ``"quarter"``, ``"epoch seconds"`` or ``"epoch milliseconds"`` since
        1970, or a pattern of ``strftime``.

    Example:
      >>> moment = datetime.datetime(2024, 2, 29, 6)
      >>> [stamp_text(moment, form) for form in ("time", "date", "quarter", "%Y%m%dT%H%M", "epoch seconds")]
      ['2024-02-29 06:00:00', '2024-02-29', '2024-Q1', '20240229T0600', '1709186400']
    """
    if form == "time":
        return moment.isoformat(sep=" ")
    if form == "date":
        return moment.date().isoformat()
    if form == "quarter":
        return f"{moment.year:04}-Q{(moment.month + 2) // 3}"
    if form in _EPOCH_UNITS:
        return str(round((moment - EPOCH).total_seconds() * _EPOCH_UNITS[form]))
    return moment.strftime(form.replace("%Y", f"{moment.year:04}"))


def compact_stamps(texts: Sequence[str]) -> Stamps | None:
    """Dates of digits alone, such as ``20240131``; None if any text is something else.

    All texts have the same number of digits (6, 8, 12 or 14) and are dates of the years 1800 to 2199.

    Args:
      texts: The stamps.

    Example:
      >>> compact_stamps(["202401", "202402"]).form, compact_stamps(["202412", "202413"]), compact_stamps(["1", "2"])
      ('%Y%m', None, None)
    """
    stripped = [text.strip() for text in texts]
    if len({len(text) for text in stripped}) != 1:
        return None
    moments = []
    for text in stripped:
        moment = _of_digits(text)
        if moment is None:
            return None
        moments.append(moment)
    return Stamps(tuple(moments), _PATTERNS_OF_DIGITS[len(stripped[0])])


def epoch_stamps(numbers: Sequence[int]) -> Stamps | None:
    """Whole seconds or milliseconds since 1970, from 1973 to 2100; None if any number is something else.

    Args:
      numbers: The stamps.

    Example:
      >>> epoch_stamps([1704067200, 1706745600]).moments[1], epoch_stamps([1, 2])
      (datetime.datetime(2024, 2, 1, 0, 0), None)
    """
    for form, unit in _EPOCH_UNITS.items():
        if min(numbers) >= 100_000_000 * unit and max(numbers) < 4_102_444_800 * unit:
            return Stamps(tuple(EPOCH + datetime.timedelta(seconds=one / unit) for one in numbers), form)
    return None


def is_stamp(text: str) -> bool:
    """Whether a text is a date or a time of any form; digits alone have to be a date.

    Args:
      text: The text.

    Example:
      >>> [is_stamp(text) for text in ("2024-01-31", "2024Q1", "20240131", "20240132", "load", "2024")]
      [True, True, True, False, False, False]
    """
    text = text.strip()
    return (_of_digits(text) if text.isdigit() else _moment(text)) is not None


def read_stamps(texts: Sequence[str], *, where: str, lines: Sequence[int]) -> Stamps:
    """Stamps of a column that are not all numbers.

    Args:
      texts: The stamps.
      where: Name of the file, for messages.
      lines: Line of each text, for messages.

    Raises:
      DataError: If a text is no time, or some have an offset from UTC and some have none; names the line.

    Example:
      >>> read_stamps(["2024-01-31 22:00", "2024-02-01"], where="a.csv", lines=[1, 2]).form
      'time'
    """
    stripped = [text.strip() for text in texts]
    moments = []
    for line, text in zip(lines, stripped, strict=True):
        moment = _moment(text)
        if moment is None:
            raise DataError(
                f"{where}, line {line}: wanted a time such as 2024-01-31, 20240131 or 2024-01-31 22:00, got "
                f"{shortened(text, 40)!r}"
            )
        moments.append(moment)
    offsets = {one.utcoffset() for one in moments}
    if None in offsets and len(offsets) > 1:
        raise DataError(f"{where}: some times have an offset from UTC and some have none; give all or none")
    return Stamps(tuple(moments), _common_form(stripped))


def _common_form(texts: Sequence[str]) -> str:
    for pattern, form in _SEPARATED:
        if all(map(pattern.fullmatch, texts)):
            return form
    return "time" if any(":" in text or re.search(r"\d[T ]\d", text) for text in texts) else "date"


def _of_digits(text: str) -> datetime.datetime | None:
    pattern = _PATTERNS_OF_DIGITS.get(len(text))
    if pattern is None or not (text.isascii() and text.isdigit()) or int(text[:4]) not in YEARS:
        return None
    try:
        return datetime.datetime.strptime(text, pattern)
    except ValueError:
        return None


def _moment(text: str) -> datetime.datetime | None:
    quarter = re.fullmatch(r"(\d{4})-?Q([1-4])", text)
    try:
        if quarter:
            return datetime.datetime(int(quarter[1]), 3 * int(quarter[2]) - 2, 1)
        if re.fullmatch(r"\d{4}-\d\d", text):
            return datetime.datetime(int(text[:4]), int(text[5:]), 1)
        return datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
