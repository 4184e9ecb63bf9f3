"""Plans of epochs: which examples each batch holds, a pure function of seed and epoch.

A plan knows the examples by their lengths alone: one length for each column of the data, two for a pair of lines, one
for a text. Batches are made from it elsewhere.
"""

import abc
import functools
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

Planned = TypeVar("Planned")


class EpochPlan(abc.ABC, Generic[Planned]):
    """The batches of every epoch, the same number in each, so that one integer says where training is.

    Attributes:
      seed: Seed of the order.
      batches_per_epoch: Batches of an epoch.
    """

    batches_per_epoch: int

    def __init__(self, seed: int) -> None:
        """Keep the seed; the last two epochs are remembered."""
        self.seed = seed
        self._cached = functools.lru_cache(maxsize=2)(self.epoch)

    @abc.abstractmethod
    def epoch(self, epoch: int) -> Sequence[Planned]:
        """The batches of an epoch, in order."""

    def at(self, step: int) -> Planned:
        """The batch of a training step, counted from 0 over all epochs."""
        epoch, place = divmod(int(step), self.batches_per_epoch)
        return self._cached(epoch)[place]

    def generator(self, epoch: int) -> np.random.Generator:
        """Random numbers of an epoch."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, epoch]))
