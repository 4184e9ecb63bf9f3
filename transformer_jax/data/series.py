"""Time series: values in rows of time, cut into a training, a development and a test part by time."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from transformer_jax.data.time_axis import TimeAxis
from transformer_jax.errors import DataError

Values = npt.NDArray[np.float64]

Part = Literal["train", "development", "test"]

Gaps = Literal["fail", "hold"]
"""What to do with values that are missing: refuse the series, or put the last value before them in their place."""

PARTS: tuple[Part, ...] = ("train", "development", "test")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """One or several values at each of equally spaced points in time.

    Attributes:
      name: Name, for messages.
      values: ``[time, channels]``; NaN where a value is missing.
      axis: The points in time; None where they are only counted.
      ends: The row behind the last one of the training, the development and the test part; each begins where the one
        before ends. All rows are one training part where there are no others.

    Raises:
      DataError: If the values are not of two axes, or a part ends before it begins.

    Example:
      >>> one = Series(name="a", values=np.zeros((10, 1)), ends=(6, 8, 10))
      >>> [one.rows(part) for part in PARTS], one.training_values().shape
      ([(0, 6), (6, 8), (8, 10)], (6, 1))
    """

    name: str
    values: Values
    axis: TimeAxis | None = None
    ends: tuple[int, int, int] = (-1, -1, -1)

    def __post_init__(self) -> None:
        if self.values.ndim != 2:
            raise DataError(f"{self.name}: values must be [time, channels], got shape {self.values.shape}")
        if self.ends == (-1, -1, -1):
            object.__setattr__(self, "ends", (len(self.values),) * 3)
        first, second, third = self.ends
        if not 0 <= first <= second <= third <= len(self.values):
            raise DataError(
                f"{self.name}: the parts must end in order and within the {len(self.values):,} rows, got {self.ends}"
            )

    def rows(self, part: Part) -> tuple[int, int]:
        """First row of a part, and the row behind its last."""
        place = PARTS.index(part)
        return (self.ends[place - 1] if place else 0), self.ends[place]

    def training_values(self) -> Values:
        """The rows of the training part alone: all that scalers are fitted on."""
        return self.values[: self.ends[0]]

    def before(self, part: Part) -> Values:
        """The rows before a part; of the training part those of itself."""
        return self.values[: self.rows(part)[0]] if part != "train" else self.training_values()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SeriesSet:
    """Series with the same columns.

    Attributes:
      series: The series.
      columns: Names of the channels.
      notes: Remarks on how they were read, for reports.

    Example:
      >>> one = Series(name="a", values=np.zeros((10, 1)), ends=(6, 8, 10))
      >>> SeriesSet(series=(one, one), columns=("x",)).num_rows("test")
      4
    """

    series: tuple[Series, ...]
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def num_rows(self, part: Part) -> int:
        """Rows of a part, of all series together."""
        return sum(stop - start for start, stop in (one.rows(part) for one in self.series))


def fill_gaps(series: Series, gaps: Gaps, columns: Sequence[str], *, option: str = "data.gaps") -> Values:
    """The values without gaps.

    A value that is held is the last one before the gap, so that nothing from behind it is known within it.

    Args:
      series: The series.
      gaps: What to do with missing values.
      columns: Names of its channels.
      option: What to set so that gaps are held, for messages.

    Raises:
      DataError: If a value is missing and must not be, or nothing stands before it.

    Example:
      >>> one = Series(name="a", values=np.array([[1.0], [np.nan], [3.0]]))
      >>> fill_gaps(one, "hold", ["x"])[:, 0].tolist()
      [1.0, 1.0, 3.0]
    """
    missing = np.isnan(series.values)
    if not missing.any():
        return series.values
    row, channel = (int(one) for one in np.argwhere(missing)[0])
    when = f"row {row + 1}" if series.axis is None else series.axis.text(row)
    if gaps == "fail":
        raise DataError(
            f"{series.name}: {int(missing.sum()):,} of {missing.size:,} values are missing, the first is "
            f"{columns[channel]!r} at {when}; fill them, or hold the value before by `{option}=hold`"
        )
    if missing[0].any():
        first = int(np.flatnonzero(missing[0])[0])
        raise DataError(
            f"{series.name}: begins with a gap in {columns[first]!r}: no value stands before it; cut the first rows"
        )
    last = np.where(missing, 0, np.arange(len(missing))[:, None])
    return np.take_along_axis(series.values, np.maximum.accumulate(last, axis=0), axis=0)
