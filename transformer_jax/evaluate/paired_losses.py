"""Whether one language model's loss on a text differs from another's by more than the choice of its parts explains."""

import dataclasses
import math

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """Difference of two losses on the same tokens, in nats a token; below 0 where the first is better.

    Attributes:
      nats: Mean difference.
      low: Lower end of its 95 % interval.
      high: Upper end.
      num_windows: Parts of the text that were drawn.
    """

    nats: float
    low: float
    high: float
    num_windows: int

    @property
    def differs(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0.0 or self.high < 0.0


def paired_difference(
    losses: npt.ArrayLike,
    other_losses: npt.ArrayLike,
    *,
    window_len: int,
    num_samples: int = 1000,
    seed: int = 0,
) -> PairedDifference:
    r"""Paired bootstrap of the difference of two models' losses over windows of a text.

    .. math:: \frac{\sum_{w \in W} \sum_{i \in w} (\ell_i - \ell'_i)}{\sum_{w \in W} |w|}

    over resampled sets :math:`W` of windows: neighbouring tokens depend on each other, windows far less.

    Args:
      losses: Negative log-probability of each token, ``[tokens]``.
      other_losses: The other model's, of the same tokens.
      window_len: Tokens of a window.
      num_samples: Resampled texts.
      seed: Of the draws.

    Example:
      >>> losses = np.random.default_rng(0).exponential(size=400)
      >>> found = paired_difference(losses, losses + 0.5, window_len=20)
      >>> found.nats, found.differs, found.num_windows
      (-0.5, True, 20)

    Source: Koehn 2004, https://aclanthology.org/W04-3250 (paired bootstrap).
    """
    differences = np.asarray(losses, np.float64) - np.asarray(other_losses, np.float64)
    if not len(differences):
        return PairedDifference(nats=math.nan, low=math.nan, high=math.nan, num_windows=0)
    starts = np.arange(0, len(differences), window_len)
    sums = np.add.reduceat(differences, starts)
    counts = np.diff(np.append(starts, len(differences)))
    generator, means = np.random.default_rng(seed), np.empty(num_samples)
    for sample in range(num_samples):  # one at a time: a long text has many windows
        drawn = generator.integers(0, len(starts), len(starts))
        means[sample] = sums[drawn].sum() / counts[drawn].sum()
    low, high = np.quantile(means, (0.025, 0.975))
    return PairedDifference(
        nats=float(differences.mean()), low=float(low), high=float(high), num_windows=len(starts)
    )
