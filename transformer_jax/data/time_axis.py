"""Equally spaced points in time."""

import calendar
import dataclasses
import datetime
from typing import Literal

from transformer_jax.data.time_stamps import EPOCH, stamp_text
from transformer_jax.errors import DataError

Unit = Literal["seconds", "months", "weekdays", "numbers"]

LAST_DAY = 31
"""Day of the month of an axis of month ends: a month that is shorter has its point on its last day."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimeAxis:
    """Points in time at equal distances.

    Attributes:
      unit: Of start and step: seconds since 1970; months since the year 0, which differ in length; days from Monday to
        Friday since 1970; or plain numbers.
      start: The first point.
      step: Distance of two points, above 0.
      day: Of months: the day of the month, or the last one of a month that is shorter; 31 for month ends.
      day_seconds: Of months and weekdays: the time of day.
      form: How the points are written, see `stamp_text`.
      zone: Their offset from UTC in seconds; None where they name none, or differ in it.

    Example:
      >>> axis = TimeAxis(unit="months", start=12 * 2024, step=1, day=31, form="date")
      >>> axis.text(0), axis.text(1)
      ('2024-01-31', '2024-02-29')
    """

    unit: Unit
    start: float
    step: float
    day: int = 1
    day_seconds: float = 0.0
    form: str = "time"
    zone: float | None = None

    def text(self, row: int) -> str:
        """The point of a row, from 0, as a text; rows behind the last one are in the future.

        Raises:
          DataError: If it lies behind the year 9999.
        """
        value = self.start + row * self.step
        if self.unit == "numbers":
            return str(value) if isinstance(value, int) else f"{value:.15g}"
        try:
            moment = self._moment(value)
        except (OverflowError, ValueError):
            raise DataError(
                f"row {row + 1:,} of the times lies behind the year 9999: look for a wrong time"
            ) from None
        zone = None if self.zone is None else datetime.timezone(datetime.timedelta(seconds=self.zone))
        return stamp_text(moment.replace(tzinfo=zone), self.form)

    def _moment(self, value: float) -> datetime.datetime:
        if self.unit == "seconds":
            return EPOCH + datetime.timedelta(seconds=value)
        if self.unit == "weekdays":
            weeks, day = divmod(round(value) + EPOCH.weekday(), 5)
            days = 7 * weeks + day - EPOCH.weekday()
            return EPOCH + datetime.timedelta(days=days, seconds=self.day_seconds)
        year, month = divmod(round(value), 12)
        day = min(self.day, month_days(year, month + 1))
        return datetime.datetime(year, month + 1, day) + datetime.timedelta(seconds=self.day_seconds)


def month_days(year: int, month: int) -> int:
    """Days of a month, from 1.

    Example:
      >>> month_days(2024, 2)
      29
    """
    return calendar.monthrange(year, month)[1]
