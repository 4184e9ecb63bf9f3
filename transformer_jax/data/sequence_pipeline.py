"""Endless training batches of examples of one length each, by length buckets, resumable from one integer.

What a batch holds is its user's: `SequenceBatches` knows the examples by their lengths and a function that makes a
batch of some of them.
"""

import hashlib
from collections.abc import Callable, Iterator
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

Collate = Callable[[IntArray, int, int], Batch]
"""``(indices, num_rows, length) -> batch``: examples as the first rows of a batch of a shape; a pure function, which
takes no indices too and then gives a batch of padding alone."""


class SequenceBatches(Generic[Batch]):
    """Batches of few static shapes, each example once an epoch, in an order determined by the seed.

    A ``BatchSource``: the trainer compiles for `abstract_batches` and reads `iterate`.

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
        self.lengths = np.asarray(lengths, np.int64).reshape(-1)
        if not len(self.lengths):
            raise DataError("no training example is left to make batches of")
        if (batch_tokens is None) == (rows is None):
            raise ConfigError(f"wanted one of batch_tokens and rows, got {batch_tokens} and {rows}")
        check_at_least(1, batch_tokens=batch_tokens, rows=rows, num_buckets=num_buckets)
        self.collate = collate
        self.plan = BucketPlan(choose_shapes(self.lengths, max_shapes=num_buckets), columns=("",))
        longest = self.plan.shapes[-1][0]
        if batch_tokens is not None and batch_tokens < longest:
            raise ShapeError(
                f"batch_tokens must be at least {longest}, the longest example; got {batch_tokens}"
            )
        self._rows = [
            int(rows or 0) if batch_tokens is None else rows_of(batch_tokens, length)
            for (length,) in self.plan.shapes
        ]
        self.epochs = BucketEpochs(self.plan.assign(self.lengths), self._rows, seed=seed)
        self.batches_per_epoch = self.epochs.batches_per_epoch

    def shapes(self) -> list[tuple[int, int]]:
        """Rows and length of every static shape, from short to long."""
        return [(rows, length) for rows, (length,) in zip(self._rows, self.plan.shapes)]

    def abstract_batches(self) -> list[Batch]:
        """A batch of padding alone for each shape: what a trainer compiles for."""
        nothing = np.zeros(0, np.int64)
        return [self.collate(nothing, rows, length) for rows, length in self.shapes()]

    def count_tokens(self, batch: Batch) -> int:
        """Tokens of a batch, without padding."""
        return batch.num_tokens()

    def batch_at(self, step: int) -> Batch:
        """The batch of a training step, counted from 0 over all epochs."""
        bucket, indices = self.epochs.at(step)
        return self.collate(indices, *self.shapes()[bucket])

    def iterate(self, start_step: int = 0) -> Iterator[Batch]:
        """Batches from a step on, without end."""
        return BatchIterator(self.batch_at, start_step)

    def padding_share(self) -> float:
        """Share of an epoch's positions that is padding, dummy rows included."""
        return 1.0 - int(self.lengths.sum()) / self.epochs.num_positions(self.plan.shapes)

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any example, or their order, does; the shapes change nothing."""
        digest = hashlib.sha256()
        for index, length in enumerate(self.lengths.tolist()):
            batch: Any = self.collate(np.array([index]), 1, max(1, length))
            for array in batch:
                if array is not None:
                    digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:12]

    def describe(self) -> str:
        """Shapes of the batches in words, for reports."""
        parts = [
            f"{length} in {rows} rows ({len(members):,})"
            for (rows, length), members in zip(self.shapes(), self.epochs.members)
        ]
        return f"lengths (examples): {', '.join(parts)}"
