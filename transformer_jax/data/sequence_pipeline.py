"""Endless training batches of examples by length buckets, resumable from one integer.

What a batch holds is its user's: `ColumnBatches` knows the examples by their lengths, one or several each, and a
function that makes a batch of some of them.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from transformer_jax.bounds import check_at_least
from transformer_jax.data.buckets import BucketEpochs, BucketPlan, choose_shapes
from transformer_jax.data.epoch_plan import IntArray
from transformer_jax.data.pipeline import BatchIterator, rows_of
from transformer_jax.errors import ConfigError, DataError, ShapeError


class CountsTokens(Protocol):
    """A batch that knows how many of its positions are no padding."""

    def num_tokens(self) -> int:
        """Tokens without padding."""
        ...


Batch = TypeVar("Batch", bound=CountsTokens)

ColumnCollate = Callable[[npt.NDArray[np.int64], int, tuple[int, ...]], Batch]
"""``(indices, num_rows, shape) -> batch``: examples as the first rows of a batch; a pure function, which takes no
indices too and then gives a batch of padding alone."""


class ColumnBatches(Generic[Batch]):
    """Batches of few static shapes of examples with any number of lengths, each example once an epoch.

    A ``BatchSource``: the trainer compiles for `abstract_batches` and reads `iterate`. What a batch
    holds is its user's.

    Args:
      columns: For each axis the length of each example on it.
      collate: Makes a batch, see `ColumnCollate`.
      names: Names of the axes, for messages.
      rows: Rows of every batch.
      batch_tokens: Instead, positions of a batch on all axes together at most: short examples make more rows.
      num_buckets: Most shapes; chosen for the least padding.
      seed: Of the order.

    Raises:
      DataError: If there is no example.
      ConfigError: Unless one of ``batch_tokens`` and ``rows`` is given, or if it is below 1.

    Example:
      >>> from transformer_jax.data.feature_batches import FeatureBatch, FrameStore, text_columns
      >>> store, texts = FrameStore.of([np.ones((n, 2)) for n in (3, 9, 4)]), [[7], [7, 8], []]
      >>> def collate(indices, num_rows, shape):
      ...   return FeatureBatch(store.padded(indices, num_rows, shape[0]),
      ...     *text_columns(texts, indices, num_rows, shape[1]))
      >>> batches = ColumnBatches(
      ...   [store.lengths, [2, 3, 1]], collate, names=("frames", "target"), rows=2, num_buckets=2, seed=0)
      >>> [batch.inputs[0].shape for batch in batches.abstract_batches()]
      [(2, 4, 2), (2, 9, 2)]
    """

    def __init__(
        self,
        columns: Sequence[npt.ArrayLike],
        collate: ColumnCollate[Batch],
        *,
        names: tuple[str, ...],
        rows: int | None = None,
        batch_tokens: int | None = None,
        num_buckets: int = 4,
        seed: int,
    ) -> None:
        self.columns = [np.asarray(column, np.int64).reshape(-1) for column in columns]
        if not len(self.columns[0]):
            raise DataError("no training example is left to make batches of")
        if (batch_tokens is None) == (rows is None):
            raise ConfigError(f"wanted one of batch_tokens and rows, got {batch_tokens} and {rows}")
        check_at_least(1, batch_tokens=batch_tokens, rows=rows, num_buckets=num_buckets)
        self.collate = collate
        self.plan = BucketPlan(choose_shapes(*self.columns, max_shapes=num_buckets), columns=names)
        row_counts = [
            int(rows or 0) if batch_tokens is None else rows_of(batch_tokens, sum(shape))
            for shape in self.plan.shapes
        ]
        self._tiles = list(zip(row_counts, self.plan.shapes))
        self.epochs = BucketEpochs(self.plan.assign(*self.columns), row_counts, seed=seed)
        self.batches_per_epoch = self.epochs.batches_per_epoch

    def shapes(self) -> list[tuple[int, Any]]:
        """Rows and lengths of every static shape, from short to long."""
        return list(self._tiles)

    def abstract_batches(self) -> list[Batch]:
        """A batch of padding alone for each shape: what a trainer compiles for."""
        nothing = np.zeros(0, np.int64)
        return [self.collate(nothing, rows, shape) for rows, shape in self._tiles]

    def count_tokens(self, batch: Batch) -> int:
        """Positions of a batch, without padding."""
        return batch.num_tokens()

    def batch_at(self, step: int) -> Batch:
        """The batch of a training step, counted from 0 over all epochs."""
        bucket, indices = self.epochs.at(step)
        return self.collate(indices, *self._tiles[bucket])

    def iterate(self, start_step: int = 0) -> Iterator[Batch]:
        """Batches from a step on, without end."""
        return BatchIterator(self.batch_at, start_step)

    def padding_share(self) -> float:
        """Share of an epoch's positions that is padding, dummy rows included."""
        real = sum(int(column.sum()) for column in self.columns)
        return 1.0 - real / self.epochs.num_positions(self.plan.shapes)

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any example, or their order, does; the shapes change nothing."""
        digest = hashlib.sha256()
        for index, lengths in enumerate(zip(*(column.tolist() for column in self.columns))):
            shape = tuple(max(1, length) for length in lengths)
            for array in _arrays(self.collate(np.array([index]), 1, shape)):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:12]

    def describe(self) -> str:
        """Shapes of the batches in words, for reports."""
        parts = [
            f"{' by '.join(map(str, shape))} in {rows} rows ({len(members):,})"
            for (rows, shape), members in zip(self._tiles, self.epochs.members)
        ]
        return f"{' by '.join(self.plan.columns)} (examples): {', '.join(parts)}"


Collate = Callable[[IntArray, int, int], Batch]
"""``(indices, num_rows, length) -> batch``: examples as the first rows of a batch of a shape; a pure function, which
takes no indices too and then gives a batch of padding alone."""


class SequenceBatches(ColumnBatches[Batch]):
    """`ColumnBatches` of examples of one length each.

    Args:
      lengths: Tokens of each example.
      collate: Makes a batch, see `Collate`.
      batch_tokens: Positions of a batch at most: the shorter the examples, the more rows.
      rows: Instead, rows of every batch.
      num_buckets: Most shapes; chosen for the least padding.
      seed: Of the order.

    Raises:
      DataError: If there is no example.
      ConfigError: Unless one of ``batch_tokens`` and ``rows`` is given, or if it is below 1.
      ShapeError: If ``batch_tokens`` cannot hold the longest example.

    Example:
      >>> from transformer_jax.data.padding import pad_rows
      >>> from transformer_jax.data.text_batches import ClassBatch, row_values
      >>> texts, classes = [[5, 6, 7], [8], [9]], np.array([1, 0, 1])
      >>> def collate(indices, num_rows, length):
      ...   tokens, lengths = pad_rows([texts[i] for i in indices], num_rows=num_rows, length=length)
      ...   return ClassBatch(tokens, lengths, row_values(classes[indices], num_rows), row_values(indices, num_rows))
      >>> batches = SequenceBatches([3, 1, 1], collate, rows=2, num_buckets=2, seed=0)
      >>> batches.batches_per_epoch, [batch.tokens.shape for batch in batches.abstract_batches()]
      (2, [(2, 1), (2, 3)])
    """

    def __init__(
        self,
        lengths: npt.ArrayLike,
        collate: Collate[Batch],
        *,
        batch_tokens: int | None = None,
        rows: int | None = None,
        num_buckets: int = 4,
        seed: int,
    ) -> None:
        super().__init__(
            [lengths],
            lambda indices, num_rows, shape: collate(indices, num_rows, *shape),
            names=("lengths",),
            rows=rows,
            batch_tokens=batch_tokens,
            num_buckets=num_buckets,
            seed=seed,
        )
        longest = self.plan.shapes[-1][0]
        if batch_tokens is not None and batch_tokens < longest:
            raise ShapeError(
                f"batch_tokens must be at least {longest}, the longest example; got {batch_tokens}"
            )

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each example."""
        return self.columns[0]

    def shapes(self) -> list[tuple[int, int]]:
        """Rows and length of every static shape, from short to long."""
        return [(rows, length) for rows, (length,) in self._tiles]


def _arrays(batch: Any) -> Iterator[npt.NDArray[Any]]:
    """The arrays of a batch, of nested tuples."""
    for part in batch:
        if isinstance(part, tuple):
            yield from _arrays(part)
        elif part is not None:
            yield part
