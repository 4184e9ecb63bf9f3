"""Length buckets with static shapes: few shapes to compile, little padding to compute."""

import bisect
import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from transformer_jax.data.epoch_plan import EpochPlan, IntArray
from transformer_jax.errors import DataError, ShapeError

Lengths = npt.NDArray[np.integer] | Sequence[int]

MAX_CANDIDATES = 1024
"""Most shapes that `choose_shapes` considers, so 32 lengths on each of two axes; more are thinned out to quantiles."""


@dataclasses.dataclass(frozen=True)
class BucketPlan:
    """Static shapes from small to large: of pairs ``(source_len, target_len)``, of texts ``(len,)``.

    Each shape is at least as long as the one before on every axis, so an example belongs to the first that holds it,
    which is also the cheapest.

    Attributes:
      shapes: The shapes; the ``target_len`` of pairs counts the end token.
      columns: Names of the axes, for messages.

    Raises:
      ShapeError: If there is no shape, a length is below 1, or the shapes do not grow.
    """

    shapes: tuple[tuple[int, ...], ...]
    columns: tuple[str, ...] = ("source", "target")

    def __post_init__(self) -> None:
        check_shapes(self.shapes)

    def assign(self, *lengths: Lengths) -> npt.NDArray[np.int64]:
        """Index of each example's shape.

        Args:
          *lengths: Tokens of each example, one sequence for each axis.

        Raises:
          DataError: If an example fits in no shape, naming it and the largest shape.
        """
        edges = np.asarray(self.shapes)
        axes = [np.asarray(axis) for axis in lengths]
        buckets = np.max([np.searchsorted(edges[:, place], axis) for place, axis in enumerate(axes)], axis=0)
        outside = np.flatnonzero(buckets == len(self.shapes))
        if len(outside):
            first = outside[0]
            found = " and ".join(f"{axis[first]} {name}".rstrip() for axis, name in zip(axes, self.columns))
            raise DataError(
                f"example {first} has {found} tokens; the largest bucket is {_shown(self.shapes[-1])}"
            )
        return buckets

    def counts(self, *lengths: Lengths) -> list[int]:
        """Examples in each shape."""
        return np.bincount(self.assign(*lengths), minlength=len(self.shapes)).tolist()

    def padding_share(self, *lengths: Lengths) -> float:
        """Share of the padded tokens on all axes together that are padding; dummy rows not counted.

        Example:
          >>> BucketPlan(((2, 2), (4, 4))).padding_share([2, 2], [2, 4])
          0.16666666666666663
        """
        if not len(lengths[0]):
            return 0.0
        areas = np.asarray(self.shapes).sum(axis=1)
        padded = int(areas[self.assign(*lengths)].sum())
        return 1.0 - sum(int(np.sum(axis)) for axis in lengths) / padded


class PlannedBatch(NamedTuple):
    """A batch to be made: the number of its shape and the examples of its first rows."""

    bucket: int
    indices: IntArray


class BucketEpochs(EpochPlan[PlannedBatch]):
    """Batches of examples that share a shape, each example once an epoch, in an order determined by the seed."""

    def __init__(self, buckets: IntArray, rows: Sequence[int], *, seed: int) -> None:
        """Plan the batches.

        Args:
          buckets: Index of each example's shape, see `BucketPlan.assign`.
          rows: Rows of a batch of each shape; the last batch of a shape may have fewer.
          seed: Seed of the order.
        """
        super().__init__(seed)
        self.rows = rows
        self.members = [np.flatnonzero(buckets == bucket) for bucket in range(len(rows))]
        self.batches_per_epoch = sum(-(-len(members) // size) for members, size in zip(self.members, rows))

    def epoch(self, epoch: int) -> list[PlannedBatch]:
        """The batches of an epoch: shuffled inside each bucket, then the batches shuffled."""
        generator = self.generator(epoch)
        planned = []
        for bucket, (members, size) in enumerate(zip(self.members, self.rows)):
            shuffled = generator.permutation(members)
            planned += [
                PlannedBatch(bucket, shuffled[start : start + size])
                for start in range(0, len(shuffled), size)
            ]
        return [planned[place] for place in generator.permutation(len(planned))]

    def num_positions(self, shapes: Sequence[tuple[int, ...]]) -> int:
        """Positions of an epoch's batches on all axes, padding and dummy rows included."""
        return sum(
            -(-len(members) // size) * size * sum(shape)
            for size, shape, members in zip(self.rows, shapes, self.members)
        )


GROWTH = 1.5
"""Each length beyond those of `PaddedLengths` is so much longer than the one before."""
SHORT = 64
"""Padded lengths below so many tokens are not halved any further."""


@dataclasses.dataclass(frozen=True)
class PaddedLengths:
    """The few lengths that sequences are padded to; a sequence's own length determines which.

    Sequences longer than the last length are padded to lengths that grow by half, up to a limit.

    Attributes:
      lengths: From small to large.
      limit: The longest sequence allowed; None for the last of ``lengths``.

    Raises:
      ShapeError: If the lengths do not grow, or the limit is below the last of them.

    Example:
      >>> padded = PaddedLengths((10, 20), limit=50)
      >>> [padded.of(length) for length in (0, 11, 21, 31, 50)]
      [10, 20, 30, 45, 50]
    """

    lengths: tuple[int, ...]
    limit: int | None = None

    def __post_init__(self) -> None:
        if not self.lengths or self.lengths[0] < 1 or list(self.lengths) != sorted(set(self.lengths)):
            raise ShapeError(f"padded lengths must grow from at least 1, got {self.lengths}")
        if self.limit is not None and self.limit < self.lengths[-1]:
            raise ShapeError(f"limit must be at least {self.lengths[-1]}, the last length; got {self.limit}")

    @classmethod
    def in_steps(cls, longest: int, *, steps: int = 4, limit: int | None = None) -> "PaddedLengths":
        """So many equal steps up to ``longest``, and halves of the first one down to `SHORT` where that is long.

        A short sequence is not padded to a quarter of a very long one.

        Example:
          >>> PaddedLengths.in_steps(10).lengths
          (2, 5, 8, 10)
          >>> PaddedLengths.in_steps(2048).lengths
          (64, 128, 256, 512, 1024, 1536, 2048)
        """
        lengths = {max(1, round(longest * step / steps)) for step in range(1, steps + 1)}
        half = min(lengths) // 2
        while half >= SHORT:
            lengths.add(half)
            half //= 2
        return cls(tuple(sorted(lengths)), limit)

    @property
    def usual(self) -> int:
        """The last of the lengths that all sequences but a few have."""
        return self.lengths[-1]

    @property
    def longest(self) -> int:
        """The longest sequence allowed."""
        return self.usual if self.limit is None else self.limit

    def of(self, length: int) -> int:
        """Length that a sequence of ``length`` tokens is padded to.

        Raises:
          ShapeError: If it is over the limit.
        """
        if length > self.longest:
            raise ShapeError(f"a sequence has {length} tokens, at most {self.longest} are taken")
        if length <= self.usual:
            return self.lengths[bisect.bisect_left(self.lengths, length)]
        padded = self.usual
        while padded < length:
            padded = math.ceil(padded * GROWTH)
        return min(padded, self.longest)

    def rows(self, padded: int, batch_size: int) -> int:
        """Rows of a batch of this length: fewer the longer it is, so that no batch takes more memory than usual."""
        return batch_size if padded <= self.usual else max(1, batch_size * self.usual // padded)


def check_shapes(shapes: Sequence[tuple[int, ...]]) -> None:
    """Raise `ShapeError` unless there are shapes, each grows on the one before, and lengths are positive."""
    if not shapes:
        raise ShapeError("buckets: wanted at least one shape (source_len, target_len), got none")
    for shape in shapes:
        if min(shape) < 1 or len(shape) != len(shapes[0]):
            raise ShapeError(
                f"buckets: lengths must be at least 1, {len(shapes[0])} a shape; got {_shown(shape)}"
            )
    for smaller, larger in itertools.pairwise(shapes):
        if not all(one <= other for one, other in zip(smaller, larger)) or smaller == larger:
            raise ShapeError(f"buckets: shapes must grow, but {_shown(larger)} follows {_shown(smaller)}")


def _shown(shape: Sequence[int]) -> str:
    return " by ".join(map(str, shape))


def choose_shapes(*lengths: Lengths, max_shapes: int, multiple_of: int = 1) -> tuple[tuple[int, ...], ...]:
    r"""The growing chain of at most ``max_shapes`` shapes with the least padding.

    With :math:`C(s)` the number of examples that a shape :math:`s` of lengths :math:`s_1, s_2, \ldots` holds, a chain
    costs

    .. math:: \sum_k \bigl(C(s^k) - C(s^{k-1})\bigr) \sum_a s^k_a

    padded tokens, and dynamic programming over the last shape finds the least. It is exact where the lengths make at
    most `MAX_CANDIDATES` shapes, the same number on each axis; otherwise shapes end at quantiles of the lengths.

    Args:
      *lengths: Tokens of each example, one sequence for each axis; of pairs the source tokens, and the target tokens
        with the end token.
      max_shapes: Most shapes.
      multiple_of: Round lengths up to multiples of this.

    Raises:
      ShapeError: If ``max_shapes`` or ``multiple_of`` is below 1, or there is no example.

    Example:
      >>> choose_shapes([1, 1, 1, 9], [2, 2, 2, 3], max_shapes=2)
      ((1, 2), (9, 3))
      >>> choose_shapes([3, 4, 4, 30], max_shapes=2)
      ((4,), (30,))
    """
    if max_shapes < 1 or multiple_of < 1:
        raise ShapeError(f"max_shapes {max_shapes} and multiple_of {multiple_of} must be at least 1")
    if not len(lengths[0]):
        raise ShapeError("buckets: no example to choose shapes for")
    most = math.floor(MAX_CANDIDATES ** (1 / len(lengths)) + 1e-9)  # on each axis
    edges = [_candidates(axis, multiple_of, most) for axis in lengths]
    covered = np.zeros([len(axis) for axis in edges], np.int64)
    np.add.at(covered, tuple(np.searchsorted(edge, axis) for edge, axis in zip(edges, lengths)), 1)
    for place in range(covered.ndim):
        covered = covered.cumsum(place)
    covered = covered.ravel()  # examples that each shape holds
    axes = [axis.ravel() for axis in np.meshgrid(*edges, indexing="ij")]
    width = np.sum(axes, axis=0).astype(np.float64)
    grows = np.all([axis[:, None] <= axis[None, :] for axis in axes], axis=0)  # [before, after]
    cost = covered * width
    before: list[IntArray] = []
    for _ in range(max_shapes - 1):
        longer = np.where(grows, cost[:, None] - covered[:, None] * width[None, :], np.inf)
        before.append(longer.argmin(axis=0))
        cost = longer.min(axis=0) + covered * width
    chain = [len(width) - 1]
    for step in reversed(before):
        chain.append(int(step[chain[-1]]))
    places = sorted(set(chain))
    held = [0, *(int(covered[place]) for place in places)]
    # A place that holds no more than the one before was a tie in the programme; it needs no shape.
    return tuple(
        tuple(int(axis[place]) for axis in axes)
        for place, fewer, more in zip(places, held, held[1:])
        if more > fewer
    )


def _candidates(lengths: Lengths, multiple_of: int, most: int) -> IntArray:
    """Lengths that a shape may end at, growing, at most ``most``; the last holds every example."""
    rounded = np.maximum(-(-np.asarray(lengths, np.int64) // multiple_of), 1) * multiple_of
    unique = np.unique(rounded)
    if len(unique) <= most:
        return unique
    shares = np.arange(1, most + 1) / most
    return np.unique(np.quantile(rounded, shares, method="higher"))
