"""Whether a score of one system differs from another's by more than the choice of examples explains."""

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from transformer_jax.errors import DataError

Measure = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""From added-up counts ``[..., counts]`` to scores ``[...]``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairedScores:
    """Difference of two systems' scores on the same examples.

    Attributes:
      score: Of the first.
      other: Of the second.
      low: Lower end of the 95 % interval of the difference, the first less the second.
      high: Upper end.
      num_examples: Examples that were drawn from.
    """

    score: float
    other: float
    low: float
    high: float
    num_examples: int

    @property
    def difference(self) -> float:
        """The first less the second."""
        return self.score - self.other

    @property
    def differs(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0.0 or self.high < 0.0


def paired_bootstrap(
    sums: npt.ArrayLike,
    other_sums: npt.ArrayLike,
    measure: Measure,
    *,
    num_samples: int = 1000,
    seed: int = 0,
) -> PairedScores:
    """Paired bootstrap of the difference of two systems' scores, over examples drawn with replacement.

    Args:
      sums: ``[examples, counts]``, what the score is computed from, of each example.
      other_sums: The other system's, of the same examples.
      measure: The score of counts that are added up, as F1 is of right, put out and wanted pieces.
      num_samples: Resampled sets.
      seed: Of the draws.

    Raises:
      DataError: If the two differ in their shapes, or there is no example.

    Example:
      >>> right, wrong = np.tile([1, 1], (50, 1)), np.tile([0, 1], (50, 1))
      >>> found = paired_bootstrap(right, wrong, lambda sums: sums[..., 0] / sums[..., 1])
      >>> found.difference, found.low, found.differs
      (1.0, 1.0, True)

    Source: Koehn 2004, https://aclanthology.org/W04-3250; Berg-Kirkpatrick et al. 2012,
    https://aclanthology.org/D12-1091.
    """
    first, second = np.asarray(sums, np.float64), np.asarray(other_sums, np.float64)
    if first.shape != second.shape or first.ndim != 2 or not len(first):
        raise DataError(
            f"wanted counts [examples, counts] of the same examples, got {first.shape} and {second.shape}"
        )
    number = len(first)
    generator = np.random.default_rng(seed)
    differences = np.empty(num_samples)
    for sample in range(num_samples):
        times = np.bincount(generator.integers(0, number, number), minlength=number).astype(np.float64)
        differences[sample] = float(measure(times @ first)) - float(measure(times @ second))
    low, high = np.quantile(differences, (0.025, 0.975))
    return PairedScores(
        score=float(measure(first.sum(axis=0))),
        other=float(measure(second.sum(axis=0))),
        low=float(low),
        high=float(high),
        num_examples=number,
    )
