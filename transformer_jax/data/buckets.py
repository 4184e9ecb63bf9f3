"""Length buckets with static shapes: few shapes to compile, little padding to compute."""

import bisect
import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from transformer_jax.errors import DataError, ShapeError

Lengths = npt.NDArray[np.integer] | Sequence[int]

MAX_CANDIDATES = 32
"""Most lengths on each axis that `choose_shapes` looks at; more are thinned out to quantiles."""


@dataclasses.dataclass(frozen=True)
class BucketPlan:
    """Static shapes ``(source_len, target_len)``, from small to large.

    Each shape is at least as long as the one before on both axes, so an example belongs to the first that
    holds it, which is also the cheapest.

    Attributes:
      shapes: The shapes; ``target_len`` counts the end token.

    Raises:
      ShapeError: If there is no shape, a length is below 1, or the shapes do not grow.
    """

    shapes: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        check_shapes(self.shapes)

    def assign(self, source_lengths: Lengths, target_lengths: Lengths) -> npt.NDArray[np.int64]:
        """Index of each example's shape.

        Raises:
          DataError: If an example fits in no shape, naming it and the largest shape.
        """
        sources, targets = np.asarray(source_lengths), np.asarray(target_lengths)
        edges = np.asarray(self.shapes)
        buckets = np.maximum(np.searchsorted(edges[:, 0], sources), np.searchsorted(edges[:, 1], targets))
        outside = np.flatnonzero(buckets == len(self.shapes))
        if len(outside):
            first = outside[0]
            raise DataError(
                f"example {first} has {sources[first]} source and {targets[first]} target tokens; the "
                f"largest bucket is {self.shapes[-1][0]} by {self.shapes[-1][1]}"
            )
        return buckets

    def counts(self, source_lengths: Lengths, target_lengths: Lengths) -> list[int]:
        """Examples in each shape."""
        return np.bincount(self.assign(source_lengths, target_lengths), minlength=len(self.shapes)).tolist()

    def padding_share(self, source_lengths: Lengths, target_lengths: Lengths) -> float:
        """Share of the padded tokens, source and target together, that are padding; dummy rows not counted.

        Example:
          >>> BucketPlan(((2, 2), (4, 4))).padding_share([2, 2], [2, 4])
          0.16666666666666663
        """
        if not len(source_lengths):
            return 0.0
        areas = np.asarray(self.shapes).sum(axis=1)
        padded = int(areas[self.assign(source_lengths, target_lengths)].sum())
        return 1.0 - (int(np.sum(source_lengths)) + int(np.sum(target_lengths))) / padded


GROWTH = 1.5
"""Each length beyond those of `PaddedLengths` is so much longer than the one before."""
SHORT = 64
"""Tokens below which a padded length is halved no more."""


@dataclasses.dataclass(frozen=True)
class PaddedLengths:
    """The few lengths that sequences are padded to, one by one: a sequence's length alone says which.

    Sequences longer than the last length are padded to lengths that grow by half, up to a limit.

    Attributes:
      lengths: From small to large.
      limit: The longest sequence that is taken; None for the last of ``lengths``.

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
        """The longest sequence that is taken."""
        return self.usual if self.limit is None else self.limit

    def of(self, length: int) -> int:
        """What a sequence of ``length`` tokens is padded to.

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


def check_shapes(shapes: Sequence[tuple[int, int]]) -> None:
    """Raise `ShapeError` unless there are shapes, each grows on the one before, and lengths are positive."""
    if not shapes:
        raise ShapeError("buckets: wanted at least one shape (source_len, target_len), got none")
    for shape in shapes:
        if shape[0] < 1 or shape[1] < 1:
            raise ShapeError(f"buckets: lengths must be at least 1, got {shape[0]} by {shape[1]}")
    for smaller, larger in itertools.pairwise(shapes):
        if not (smaller[0] <= larger[0] and smaller[1] <= larger[1] and smaller != larger):
            raise ShapeError(
                f"buckets: shapes must grow, but {larger[0]} by {larger[1]} follows {smaller[0]} by "
                f"{smaller[1]}"
            )


def choose_shapes(
    source_lengths: Lengths, target_lengths: Lengths, *, max_shapes: int, multiple_of: int = 1
) -> tuple[tuple[int, int], ...]:
    r"""The growing chain of at most ``max_shapes`` shapes with the least padding.

    With :math:`C(s, t)` the number of examples that a shape holds, a chain costs

    .. math:: \sum_k \bigl(C(s_k, t_k) - C(s_{k-1}, t_{k-1})\bigr) (s_k + t_k)

    padded tokens, and a dynamic programme over the last shape finds the least. It is exact where the lengths
    take at most `MAX_CANDIDATES` values on each axis; otherwise shapes end at that many quantiles.

    Args:
      source_lengths: Source tokens of each example.
      target_lengths: Target tokens of each example, the end token included.
      max_shapes: Most shapes.
      multiple_of: Round lengths up to multiples of this.

    Raises:
      ShapeError: If ``max_shapes`` or ``multiple_of`` is below 1, or there is no example.

    Example:
      >>> choose_shapes([1, 1, 1, 9], [2, 2, 2, 3], max_shapes=2)
      ((1, 2), (9, 3))
    """
    if max_shapes < 1 or multiple_of < 1:
        raise ShapeError(f"max_shapes {max_shapes} and multiple_of {multiple_of} must be at least 1")
    if not len(source_lengths):
        raise ShapeError("buckets: no example to choose shapes for")
    source_edges = _candidates(source_lengths, multiple_of)
    target_edges = _candidates(target_lengths, multiple_of)
    grid = np.zeros((len(source_edges), len(target_edges)), np.int64)
    np.add.at(
        grid,
        (np.searchsorted(source_edges, source_lengths), np.searchsorted(target_edges, target_lengths)),
        1,
    )
    covered = grid.cumsum(0).cumsum(1).ravel()  # examples that each shape holds
    sources, targets = (axis.ravel() for axis in np.meshgrid(source_edges, target_edges, indexing="ij"))
    width = (sources + targets).astype(np.float64)
    grows = (sources[:, None] <= sources[None, :]) & (targets[:, None] <= targets[None, :])  # [before, after]
    cost = covered * width
    before: list[npt.NDArray[np.int64]] = []
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
        (int(sources[place]), int(targets[place]))
        for place, fewer, more in zip(places, held, held[1:])
        if more > fewer
    )


def _candidates(lengths: Lengths, multiple_of: int) -> npt.NDArray[np.int64]:
    """Lengths that a shape may end at, growing; the last holds every example."""
    rounded = np.maximum(-(-np.asarray(lengths, np.int64) // multiple_of), 1) * multiple_of
    unique = np.unique(rounded)
    if len(unique) <= MAX_CANDIDATES:
        return unique
    shares = np.arange(1, MAX_CANDIDATES + 1) / MAX_CANDIDATES
    return np.unique(np.quantile(rounded, shares, method="higher"))
