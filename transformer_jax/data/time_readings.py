"""Ways to count the time stamps of a column: in months, in weekdays, in seconds or as numbers."""

import collections
import dataclasses
import datetime
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from transformer_jax.data.time_axis import LAST_DAY, TimeAxis, month_days
from transformer_jax.data.time_stamps import EPOCH, Stamps, compact_stamps, epoch_stamps, read_stamps

_DAY = 86_400
_MICRO = 1_000_000


@dataclasses.dataclass(frozen=True)
class Spacing:
    """Where the values of a reading lie.

    Attributes:
      step: The most frequent distance of two neighbours.
      rows: Row of each value.
      off: Whether a value lies between two rows.
    """

    step: int | float
    rows: npt.NDArray[np.int64]
    off: npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Reading:
    """One way to count stamps.

    Attributes:
      axis: The axis, without its start and step.
      values: Each stamp in parts of the axis's unit: integers, exact, except of numbers with decimals.
      parts: How many of them are a unit.
      multiple: What the step has to be a multiple of.

    Example:
      >>> reading = Reading(TimeAxis(unit="numbers", start=0, step=1), np.array([7, 3, 5, 11]))
      >>> reading.spacing().step, reading.spacing().rows.tolist(), reading.axis_of(2).text(3)
      (2, [2, 0, 1, 4], '9')
    """

    axis: TimeAxis
    values: npt.NDArray[np.int64] | npt.NDArray[np.float64]
    parts: int = 1
    multiple: int = 1

    def spacing(self) -> Spacing | None:
        """Where the values lie; None if two are the same, or their step is no multiple of what it has to be."""
        values = self.values
        distances: npt.NDArray[Any] = np.diff(np.sort(values))
        tolerance = 0.0
        if values.dtype == np.float64:
            # Rounding of large numbers makes equal distances differ in their last digits.
            largest = max(float(np.abs(values).max()), 1e-300)
            rounded = np.round(distances, max(0, 14 - math.ceil(math.log10(largest))))
            distances = np.where(rounded > 0, rounded, distances)
            tolerance = 4.0 * float(np.spacing(largest))
        if (distances <= 0).any():
            return None
        counts = collections.Counter(distances.tolist())
        step = min(counts, key=lambda one: (-counts[one], one))
        if self.multiple > 1 and step % self.multiple:
            return None
        behind = values - values.min()
        rows = np.round(behind / step).astype(np.int64)
        off = np.abs(behind - rows * step) > max(tolerance, 0.0 if isinstance(step, int) else 1e-6 * step)
        return Spacing(step, rows, off)

    def axis_of(self, step: int | float) -> TimeAxis:
        """The axis with its start and its step."""
        start = self.values.min().item()
        if self.parts != 1:
            start, step = start / self.parts, step / self.parts
        return dataclasses.replace(self.axis, start=start, step=step)

    def spoken(self, step: int | float) -> str:
        """A step in words."""
        if self.axis.unit == "seconds":
            return str(datetime.timedelta(seconds=step / self.parts))
        return f"{step:g} {self.axis.unit}" if self.axis.unit != "numbers" else f"{step:g}"


def readings_of(texts: Sequence[str], where: str, lines: Sequence[int]) -> list[Reading]:
    """How a column may be counted, the likeliest first; messages speak of the last.

    Args:
      texts: The stamps.
      where: Name of the file, for messages.
      lines: Line of each text, for messages.

    Raises:
      DataError: If a text is no time.

    Example:
      >>> found = readings_of(["2024-01-31", "2024-02-29", "2024-03-31"], "a.csv", [1, 2, 3])
      >>> [(reading.axis.unit, reading.spacing().step, reading.spacing().off.any().item()) for reading in found]
      [('months', 1, False), ('seconds', 2505600000000, True)]
    """
    compact = compact_stamps(texts)
    if compact is not None:
        return _calendar_readings(compact)
    numbers = _numbers(texts)
    if numbers is None:
        return _calendar_readings(read_stamps(texts, where=where, lines=lines))
    plain = Reading(TimeAxis(unit="numbers", start=0, step=1), numbers)
    if numbers.dtype != np.int64:
        return [plain]
    epoch = epoch_stamps(numbers.tolist())
    # Those that are equally spaced as numbers, as hours are, stay numbers.
    return [plain] if epoch is None else [*_calendar_readings(epoch)[:-1], plain]


def _numbers(texts: Sequence[str]) -> npt.NDArray[np.int64] | npt.NDArray[np.float64] | None:
    try:
        values = np.array([int(text) for text in texts], np.int64)
    except (ValueError, OverflowError):
        try:
            values = np.array([float(text) for text in texts], np.float64)
        except ValueError:
            return None
    return values if np.isfinite(values).all() else None


def _calendar_readings(stamps: Stamps) -> list[Reading]:
    """Months, weekdays, seconds."""
    offsets = {one.utcoffset() for one in stamps.moments}
    first = stamps.moments[0].utcoffset()
    zone = None if first is None else first.total_seconds()
    local = [one.replace(tzinfo=None) for one in stamps.moments]
    if len(offsets) == 1:
        return [
            *_in_months(local, stamps.form, zone),
            *_in_weekdays(local, stamps.form, zone),
            _in_seconds(local, stamps.form, zone),
        ]
    # Which offset a local time of the future has is not known: none is written.
    universal = [
        (one.astimezone(datetime.UTC) + (first or datetime.timedelta())).replace(tzinfo=None)
        for one in stamps.moments
    ]
    whole_days = dataclasses.replace(_in_seconds(local, stamps.form, None), multiple=_DAY * _MICRO)
    return [
        *_in_months(local, stamps.form, None),
        *_in_weekdays(local, stamps.form, None),
        whole_days,
        _in_seconds(universal, stamps.form, zone),
    ]


def _in_seconds(moments: Sequence[datetime.datetime], form: str, zone: float | None) -> Reading:
    values = np.array(moments, "datetime64[us]").astype(np.int64)
    return Reading(TimeAxis(unit="seconds", start=0, step=1, form=form, zone=zone), values, parts=_MICRO)


def _in_months(moments: Sequence[datetime.datetime], form: str, zone: float | None) -> list[Reading]:
    """Months, if each stamp is at the same time of the same day, or of the last day of a month that is shorter."""
    lengths = [month_days(one.year, one.month) for one in moments]
    is_month_end = all(one.day == length for one, length in zip(moments, lengths, strict=True))
    day = LAST_DAY if is_month_end else max(one.day for one in moments)
    time = _time_of_day(moments)
    if time is None or any(one.day != min(day, length) for one, length in zip(moments, lengths, strict=True)):
        return []
    values = np.array([12 * one.year + one.month - 1 for one in moments], np.int64)
    axis = TimeAxis(unit="months", start=0, step=1, day=day, day_seconds=time, form=form, zone=zone)
    return [Reading(axis, values)]


def _in_weekdays(moments: Sequence[datetime.datetime], form: str, zone: float | None) -> list[Reading]:
    """Days from Monday to Friday, if the stamps are a day apart and leave out each Saturday and Sunday."""
    days = np.array(moments, "datetime64[D]")
    time = _time_of_day(moments)
    if time is None or not np.is_busday(days).all():
        return []
    values = np.busday_count(EPOCH.date(), days).astype(np.int64)
    order = np.argsort(days)
    distances = collections.Counter(np.diff(days[order]).astype(np.int64).tolist())
    crosses_weekend = int(np.ptp(days.astype(np.int64))) > int(np.ptp(values))
    if not crosses_weekend or distances[1] < max(distances.values()):
        return []
    axis = TimeAxis(unit="weekdays", start=0, step=1, day_seconds=time, form=form, zone=zone)
    return [Reading(axis, values)]


def _time_of_day(moments: Sequence[datetime.datetime]) -> float | None:
    """Seconds since midnight; None if they differ."""
    found = {one - datetime.datetime(one.year, one.month, one.day) for one in moments}
    return found.pop().total_seconds() if len(found) == 1 else None
