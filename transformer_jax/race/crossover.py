"""At which length one contestant overtakes another, with an interval."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Crossover:
    """Where two lines of time over length cross.

    Attributes:
      first: One contestant.
      second: The other.
      faster_at_start: Which of them is faster at the shortest length.
      length: Where the medians cross, ``None`` if they do not.
      low: Lower end of the 95 % interval, ``None`` if fewer than nineteen of twenty draws cross.
      high: Upper end.
      share: Of the draws that cross.
    """

    first: str
    second: str
    faster_at_start: str
    length: float | None
    low: float | None
    high: float | None
    share: float

    def __str__(self) -> str:
        slower = self.second if self.faster_at_start == self.first else self.first
        if self.length is None:
            return f"{self.faster_at_start} is faster than {slower} at every length measured"
        text = f"{slower} overtakes {self.faster_at_start} at a length of about {self.length:,.0f}"
        if self.low is None or self.high is None:
            return f"{text} (not certain: {self.share:.0%} of the draws cross)"
        return f"{text} (95 % interval {self.low:,.0f} to {self.high:,.0f})"


def crossover(
    first: str,
    second: str,
    times: Mapping[int, tuple[Sequence[float], Sequence[float]]],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Crossover:
    """The first length at which the slower of two becomes the faster.

    Between two measured lengths the logarithm of the ratio is taken for linear in the logarithm of the length. The
    interval is a bootstrap over the rounds, in which both ran one after the other.

    Args:
      first: One contestant.
      second: The other.
      times: Length to the times of both, round by round.
      draws: Of the bootstrap.
      seed: Of the bootstrap.

    Example:
      >>> times = {16: ([1.0, 1.0], [2.0, 2.0]), 64: ([8.0, 8.0], [4.0, 4.0])}
      >>> print(crossover("rnn", "transformer", times))
      transformer overtakes rnn at a length of about 32 (95 % interval 32 to 32)
    """
    lengths = sorted(times)
    ratios = []
    for length in lengths:
        ours, theirs = (np.asarray(side, float) for side in times[length])
        rounds = min(len(ours), len(theirs))
        ratios.append(np.log(ours[:rounds] / theirs[:rounds]))
    middle = [float(np.median(values)) for values in ratios]
    generator = np.random.default_rng(seed)
    drawn = np.stack(
        [np.median(generator.choice(values, size=(draws, len(values))), axis=1) for values in ratios], axis=1
    )
    log_lengths = np.log2(lengths)
    crossings = [crossing for row in drawn if (crossing := _crossing(log_lengths, row)) is not None]
    share = len(crossings) / draws
    low = high = None
    if share >= 0.95:
        low, high = (float(2**q) for q in np.quantile(crossings, [0.025, 0.975]))
    at = _crossing(log_lengths, np.asarray(middle))
    return Crossover(
        first, second, first if middle[0] <= 0.0 else second,
        None if at is None else float(2**at), low if at is not None else None, high if at is not None else None,
        share,
    )  # fmt: skip


def _crossing(log_lengths: np.ndarray, log_ratios: np.ndarray) -> float | None:
    """Where the line first changes its sign."""
    for index in range(len(log_lengths) - 1):
        left, right = log_ratios[index], log_ratios[index + 1]
        if (left <= 0.0) != (right <= 0.0):
            share = left / (left - right)
            return float(log_lengths[index] + share * (log_lengths[index + 1] - log_lengths[index]))
    return None


def all_crossovers(
    times: Mapping[str, Mapping[int, Sequence[float]]], names: Sequence[str] | None = None
) -> list[Crossover]:
    """Every pair's crossover.

    Args:
      times: Contestant to length to times, round by round.
      names: Only these.
    """
    found = []
    for first, second in itertools.combinations(names or list(times), 2):
        common = sorted(set(times[first]) & set(times[second]))
        if len(common) >= 2:
            found.append(
                crossover(
                    first,
                    second,
                    {length: (times[first][length], times[second][length]) for length in common},
                )
            )
    return found
