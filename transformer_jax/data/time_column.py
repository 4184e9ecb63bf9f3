"""The axis of a column of time stamps: dates, dates with a time of day, or numbers."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from transformer_jax.data.time_axis import TimeAxis
from transformer_jax.data.time_readings import Reading, Spacing, readings_of
from transformer_jax.data.time_stamps import is_stamp
from transformer_jax.errors import DataError, shortened


def read_time_axis(
    texts: Sequence[str], *, where: str, lines: Sequence[int] | None = None
) -> tuple[TimeAxis, npt.NDArray[np.int64]]:
    """The axis of a column of time stamps, and the row of each stamp on it.

    Stamps are dates without separators where all are (`compact_stamps`), numbers where all are, and dates or times of
    the other forms (`read_stamps`), which lie at equal distances

    - in months, if each is at the same time of the same day of its month, or of the last day of one that is shorter, so
      that month starts, month ends, quarters and years are regular;
    - in weekdays, if most are a day apart and none of those within is a Saturday or a Sunday;
    - else in seconds.

    Numbers are counted as they are; whole seconds or milliseconds since 1970 may lie at equal distances in months or
    weekdays, too. Stamps with different offsets from UTC, as with summer time, do so in the local time, where they
    are whole days or months apart, or in UTC.

    Rows that the column leaves out are gaps: the step is the most frequent distance of two neighbours in time. Of hours
    without an offset, the one that summer time leaves out is such a gap, and the one that comes twice is refused.

    Args:
      texts: Dates and times, or numbers.
      where: Name of the file, for messages.
      lines: Line of each text, for messages; None counts from 1.

    Returns:
      The axis, and the rows ``[texts]``, which do not grow where the stamps are not in order.

    Raises:
      DataError: If a text is no time, one stands twice, there are fewer than two, or they are not at multiples of one
        step; names the line.

    Example:
      >>> read_time_axis(["2024-03-31", "2024-01-31", "2024-02-29", "2024-05-31"], where="a.csv")[1].tolist()
      [2, 0, 1, 4]
    """
    numbers = list(lines) if lines is not None else list(range(1, len(texts) + 1))
    if len(texts) < 2:
        raise DataError(f"{where}: wanted at least two rows with a time, got {len(texts)}")
    readings = readings_of(texts, where, numbers)
    _check_distinct(readings[-1], texts, where, numbers)
    chosen = [(one, found) for one in readings if (found := one.spacing()) is not None]
    reading, spacing = next((pair for pair in chosen if not pair[1].off.any()), chosen[-1])
    if reading.axis.unit == "numbers":
        _check_dates(spacing, texts, where, numbers)
    if spacing.off.any():
        place = int(np.flatnonzero(spacing.off)[0])
        raise DataError(
            f"{where}, line {numbers[place]}: time {shortened(texts[place], 40)!r} is not a whole number of steps "
            f"behind the first; the most frequent step is {reading.spoken(spacing.step)}; bring the rows to one step"
        )
    return reading.axis_of(spacing.step), spacing.rows


def _check_distinct(reading: Reading, texts: Sequence[str], where: str, lines: Sequence[int]) -> None:
    order = np.argsort(reading.values, kind="stable")
    same = np.flatnonzero(np.diff(reading.values[order]) == 0)
    if not same.size:
        return
    place = int(same[0])
    first, second = sorted(lines[order[place + one]] for one in (0, 1))
    is_local = reading.axis.unit == "seconds" and reading.axis.zone is None and reading.axis.form != "date"
    advice = "; an hour that the end of summer time repeats needs its offset from UTC" if is_local else ""
    raise DataError(
        f"{where}, line {second}: time {shortened(texts[order[place]], 40)!r} stands in line {first}, too; keep one of "
        f"them{advice}"
    )


def _check_dates(spacing: Spacing, texts: Sequence[str], where: str, lines: Sequence[int]) -> None:
    """Digits that are not equally spaced, and are dates but for a few, are dates with a mistake."""
    if int(spacing.rows.max()) + 1 == len(texts) and not spacing.off.any():
        return
    wrong = [place for place, text in enumerate(texts) if not is_stamp(text)]
    if 0 < 2 * len(wrong) < len(texts):
        raise DataError(
            f"{where}, line {lines[wrong[0]]}: time {shortened(texts[wrong[0]], 40)!r} is no date, and most others "
            "are; correct it"
        )
