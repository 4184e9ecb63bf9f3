"""Mean of a few repeated runs with Student's interval, and of the paired differences of two sets of runs."""

import dataclasses
import math
import statistics
from collections.abc import Sequence

from transformer_jax.errors import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and the interval that holds it.

    Attributes:
      mean: Of the values.
      low: Lower end; None where one value says nothing of the spread.
      high: Upper end.
      num_values: How many there were.
    """

    mean: float
    low: float | None
    high: float | None
    num_values: int

    @property
    def half_width(self) -> float | None:
        """Half of the interval's length."""
        return None if self.high is None else self.high - self.mean

    @property
    def leaves_zero_out(self) -> bool:
        """Whether the interval lies wholly above or wholly below 0."""
        return self.low is not None and self.high is not None and (self.low > 0.0 or self.high < 0.0)


def t_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    r"""Student's interval of the mean of independent values.

    .. math:: \bar x \pm t_{n-1, (1 + c) / 2} \, s / \sqrt n

    Args:
      values: ``n`` finite numbers; of paired runs their differences.
      confidence: :math:`c`, the share of such intervals that hold the mean.

    Raises:
      DataError: If there is no value, one is not finite, or ``confidence`` is not between 0 and 1.

    Example:
      >>> found = t_interval([1.0, 2.0, 3.0])
      >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3)
      (2.0, -0.484, 4.484)

    Source: Student 1908, The probable error of a mean.
    """
    if not values or not all(math.isfinite(value) for value in values):
        raise DataError(f"wanted one finite number or more, got {list(values)}")
    if not 0.0 < confidence < 1.0:
        raise DataError(f"the confidence must be above 0 and below 1, got {confidence}")
    mean, number = statistics.fmean(values), len(values)
    if number == 1:
        return Interval(mean=mean, low=None, high=None, num_values=1)
    from scipy.special import stdtrit

    spread = statistics.stdev(values) / math.sqrt(number)
    half = float(stdtrit(number - 1, (1.0 + confidence) / 2.0)) * spread
    return Interval(mean=mean, low=mean - half, high=mean + half, num_values=number)
