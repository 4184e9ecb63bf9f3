"""Times of programs on a GPU: several calls in one sample, waited for once, so that launching is not what is timed.

Sides of a case take turns in an order shuffled anew each round. On a CPU the same code runs, a call a sample.
"""

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

SAMPLE_SECONDS, MOST_CALLS = 0.01, 200


class Queued:
    """A side that can be launched without waiting.

    Args:
      launch: Starts one call and gives what it will give.
      wait: Waits for what the last launch gave; the calls before it have ended then too, being in one queue.
    """

    def __init__(self, launch: Callable[[], Any], wait: Callable[[Any], Any]) -> None:
        self.launch, self.wait = launch, wait
        self.calls = 1

    def once(self) -> float:
        """Seconds of one sample."""
        began = time.perf_counter()
        for _ in range(self.calls - 1):
            self.launch()
        self.wait(self.launch())
        return time.perf_counter() - began

    def settle(self, sample_seconds: float = SAMPLE_SECONDS) -> None:
        """Warm up, and choose how many calls make a sample."""
        self.once()
        self.calls = 1
        seconds = min(self.once(), self.once())
        self.calls = max(1, min(MOST_CALLS, round(sample_seconds / max(seconds, 1e-6))))
        if self.calls > 1:
            seconds = self.once() / self.calls  # closer: the first look paid for the launch
            self.calls = max(1, min(MOST_CALLS, round(sample_seconds / max(seconds, 1e-6))))


def in_turns(
    sides: Mapping[str, Queued], *, samples: int = 9, seconds: float = 3.0, seed: int = 0
) -> dict[str, list[float]]:
    """Milliseconds of one call in each sample of each side.

    Args:
      sides: By name.
      samples: Of each.
      seconds: After which no further round begins, beyond the third.
      seed: Of the order.
    """
    for side in sides.values():
        side.settle()
    order, shuffler = list(sides), random.Random(seed)
    times: dict[str, list[float]] = {name: [] for name in sides}
    began = time.perf_counter()
    for round_index in range(samples):
        shuffler.shuffle(order)
        for name in order:
            times[name].append(sides[name].once() / sides[name].calls * 1e3)
        if round_index >= 2 and time.perf_counter() - began > seconds:
            break
    return times
