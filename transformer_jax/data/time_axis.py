"""Equally spaced points in time, read from the texts of a column: dates, dates with a time of day, or numbers."""

import collections
import dataclasses
import datetime
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from transformer_jax.errors import DataError, shortened

Unit = Literal["seconds", "months", "numbers"]

_EPOCH = datetime.datetime(1970, 1, 1)
_SHORTEST_MONTH = 27 * 86_400


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimeAxis:
    """Points in time at equal distances.

    Attributes:
      unit: Of start and step: seconds since 1970, months since the year 0 (which differ in length), or plain numbers.
      start: The first point.
      step: Distance of two points, above 0.
      day_seconds: Of months, the day of the month and the time of day, as seconds since its first.
      has_time: Whether the texts have a time of day.
      zone: Their offset from UTC in seconds; None where they name none.

    Example:
      >>> axis = read_time_axis(["2024-01-31 22:00", "2024-01-31 23:00"], where="a.csv")[0]
      >>> axis.text(2), axis.step
      ('2024-02-01 00:00:00', 3600.0)
    """

    unit: Unit
    start: float
    step: float
    day_seconds: float = 0.0
    has_time: bool = True
    zone: float | None = None

    def text(self, row: int) -> str:
        """The point of a row, from 0, as a text; rows behind the last one are in the future."""
        value = self.start + row * self.step
        if self.unit == "numbers":
            return f"{value:.15g}"
        if self.unit == "months":
            year, month = divmod(round(value), 12)
            moment = datetime.datetime(year, month + 1, 1) + datetime.timedelta(seconds=self.day_seconds)
        else:
            moment = _EPOCH + datetime.timedelta(seconds=value)
        if not self.has_time:
            return moment.strftime("%Y-%m-%d")
        zone = None if self.zone is None else datetime.timezone(datetime.timedelta(seconds=self.zone))
        return moment.replace(tzinfo=zone).isoformat(sep=" ")


def read_time_axis(
    texts: Sequence[str], *, where: str, lines: Sequence[int] | None = None
) -> tuple[TimeAxis, npt.NDArray[np.int64]]:
    """The axis of a column of time stamps, and the row of each stamp on it.

    Rows that the column leaves out are gaps: the step is the most frequent distance of two neighbours in time.

    Args:
      texts: Dates and times by ISO 8601 (``2024-01-31``, ``2024-01-31 22:00``), or numbers.
      where: Name of the file, for messages.
      lines: Line of each text, for messages; None counts from 1.

    Returns:
      The axis, and the rows ``[texts]``, which do not grow where the stamps are not in order.

    Raises:
      DataError: If a text is no time, one stands twice, there are fewer than two, or they are not at multiples of one
        step; names the line.

    Example:
      >>> read_time_axis(["2024-03-01", "2024-01-01", "2024-02-01", "2024-05-01"], where="a.csv")[1].tolist()
      [2, 0, 1, 4]
    """
    numbers = list(lines) if lines is not None else list(range(1, len(texts) + 1))
    if len(texts) < 2:
        raise DataError(f"{where}: wanted at least two rows with a time, got {len(texts)}")
    if all(_number(text) is not None for text in texts):
        values = np.array([_number(text) for text in texts], np.float64)
        axis = TimeAxis(unit="numbers", start=float(values.min()), step=1.0)
    else:
        values, axis = _moments(texts, where, numbers)
    order = np.argsort(values, kind="stable")
    distances = np.diff(values[order])
    if (distances == 0).any():
        place = int(np.flatnonzero(distances == 0)[0])
        first, second = sorted(numbers[order[place + one]] for one in (0, 1))
        raise DataError(
            f"{where}, line {second}: time {shortened(texts[order[place]], 40)!r} stands in line {first}, too; keep "
            "one of them"
        )
    if axis.unit == "seconds":
        axis, values, distances = _in_months(axis, values, distances, order)
    counts = collections.Counter(distances.tolist())
    step = min(counts, key=lambda one: (-counts[one], one))
    rows = (values - values.min()) / step
    off = np.abs(rows - np.round(rows)) > 1e-6
    if off.any():
        place = int(np.flatnonzero(off)[0])
        raise DataError(
            f"{where}, line {numbers[place]}: time {shortened(texts[place], 40)!r} is not a whole number of steps "
            f"behind the first; the most frequent step is {_spoken(step, axis.unit)}; bring the rows to one step"
        )
    return dataclasses.replace(axis, step=float(step)), np.round(rows).astype(np.int64)


def _moments(
    texts: Sequence[str], where: str, numbers: Sequence[int]
) -> tuple[npt.NDArray[np.float64], TimeAxis]:
    found = []
    for number, text in zip(numbers, texts, strict=True):
        try:
            found.append(datetime.datetime.fromisoformat(text.strip()))
        except ValueError:
            raise DataError(
                f"{where}, line {number}: wanted a time such as 2024-01-31 or 2024-01-31 22:00, got "
                f"{shortened(text, 40)!r}"
            ) from None
    zones = {one.utcoffset() for one in found}
    zone = found[0].utcoffset()
    if None in zones and len(zones) > 1:
        raise DataError(f"{where}: some times have an offset from UTC and some have none; give all or none")
    # With several offsets, as with summer time, all are told in that of the first row.
    shift = None if zone is None else zone.total_seconds()
    moments = [
        one.replace(tzinfo=None)
        if zone is None
        else (one.astimezone(datetime.UTC) + zone).replace(tzinfo=None)
        for one in found
    ]
    values = np.array([(one - _EPOCH).total_seconds() for one in moments], np.float64)
    has_time = any(":" in text or "T" in text for text in texts)
    return values, TimeAxis(
        unit="seconds", start=float(values.min()), step=1.0, has_time=has_time, zone=shift
    )


def _in_months(
    axis: TimeAxis,
    values: npt.NDArray[np.float64],
    distances: npt.NDArray[np.float64],
    order: npt.NDArray[np.int64],
) -> tuple[TimeAxis, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The same counted in months where each stamp is at the same moment of a month."""
    if distances.min() < _SHORTEST_MONTH:
        return axis, values, distances
    moments = [_EPOCH + datetime.timedelta(seconds=float(one)) for one in values]
    within = {(one - datetime.datetime(one.year, one.month, 1)).total_seconds() for one in moments}
    if len(within) > 1:
        return axis, values, distances
    months = np.array([12 * one.year + one.month - 1 for one in moments], np.float64)
    changed = dataclasses.replace(axis, unit="months", start=float(months.min()), day_seconds=within.pop())
    return changed, months, np.diff(months[order])


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _spoken(step: float, unit: Unit) -> str:
    if unit == "seconds":
        return str(datetime.timedelta(seconds=step))
    return f"{step:g} months" if unit == "months" else f"{step:g}"
