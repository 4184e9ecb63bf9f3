"""Packed rows: several pairs share a row of fixed lengths, so that almost nothing is padding."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from transformer_jax.data.batches import BOS_ID, DUMMY_EXAMPLE_ID, EOS_ID, PAD_ID, PackedBatch
from transformer_jax.data.epoch_plan import IntArray
from transformer_jax.data.examples import EncodedExamples
from transformer_jax.data.pipeline import BatchIterator, rows_of
from transformer_jax.data.row_plan import RowPlan
from transformer_jax.errors import DataError


class PackedPipeline:
    """Endless training batches of packed rows, all of one shape, each example once an epoch, ordered by the seed."""

    def __init__(
        self,
        examples: EncodedExamples,
        *,
        source_len: int,
        target_len: int,
        batch_size: int,
        seed: int,
        batch_tokens: int | None = None,
    ) -> None:
        """Plan the rows.

        Args:
          examples: Training examples.
          source_len: Source tokens that a row holds.
          target_len: Target tokens that a row holds.
          batch_size: Rows of every batch; the last batch of an epoch is filled up with dummy rows.
          seed: Seed of the order.
          batch_tokens: Instead of ``batch_size``, tokens of a batch: source and target, padding included.

        Raises:
          DataError: If there is no example, or one is longer than a row.
        """
        if not len(examples):
            raise DataError("no training example is left to make batches of")
        self.examples = examples
        self.source_len, self.target_len = source_len, target_len
        self.batch_size = (
            batch_size if batch_tokens is None else rows_of(batch_tokens, source_len + target_len)
        )
        self.seed = seed
        lengths = np.stack([examples.source_lengths(), examples.target_lengths()], axis=1)
        self._num_tokens = int(lengths.sum())
        self.plan = RowPlan(
            lengths,
            (source_len, target_len),
            batch_size=self.batch_size,
            seed=seed,
            columns=("source", "target"),
        )
        self.num_rows = self.plan.num_rows
        self.batches_per_epoch = self.plan.batches_per_epoch

    def abstract_batches(self) -> list[PackedBatch]:
        """A batch without an example, of the one shape that all batches have: what a trainer compiles for."""
        return [self._batch([])]

    def count_tokens(self, batch: PackedBatch) -> int:
        """Source and target tokens of a batch, without padding."""
        return batch.num_tokens()

    def batch_at(self, step: int) -> PackedBatch:
        """The batch of a training step, counted from 0 over all epochs."""
        return self._batch(self.plan.at(step))

    def iterate(self, start_step: int = 0) -> Iterator[PackedBatch]:
        """Batches from a step on, without end."""
        return BatchIterator(self.batch_at, start_step)

    def padding_share(self) -> float:
        """Share of an epoch's tokens, source and target, that are padding, dummy rows included."""
        padded = self.batches_per_epoch * self.batch_size * (self.source_len + self.target_len)
        return 1.0 - self._num_tokens / padded

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any example, or their order, does."""
        return self.examples.fingerprint()

    def describe(self) -> str:
        """Shape and content of the batches in words, for reports."""
        return (
            f"{self.num_rows:,} rows of {self.source_len} source and {self.target_len} target tokens, "
            f"{len(self.examples) / self.num_rows:.1f} pairs in each"
        )

    def _batch(self, rows: list[IntArray]) -> PackedBatch:
        return make_packed_batch(
            self.examples,
            rows,
            batch_size=self.batch_size,
            source_len=self.source_len,
            target_len=self.target_len,
            pairs_per_row=self.plan.max_in_row,
        )


def make_packed_batch(
    examples: EncodedExamples,
    rows: list[IntArray],
    *,
    batch_size: int,
    source_len: int,
    target_len: int,
    pairs_per_row: int,
) -> PackedBatch:
    """Batch of rows, each the pairs at some indices one after another; what is left is padding and dummy rows."""

    def filled(value: int, *shape: int) -> npt.NDArray[np.int32]:
        return np.full(shape, value, np.int32)

    batch = PackedBatch(
        source_tokens=filled(PAD_ID, batch_size, source_len),
        source_lengths=filled(0, batch_size),
        target_inputs=filled(PAD_ID, batch_size, target_len),
        target_outputs=filled(PAD_ID, batch_size, target_len),
        target_lengths=filled(0, batch_size),
        source_segments=filled(0, batch_size, source_len),
        target_segments=filled(0, batch_size, target_len),
        example_ids=filled(DUMMY_EXAMPLE_ID, batch_size, pairs_per_row),
    )
    for row, indices in enumerate(rows):
        source_start = target_start = 0
        for segment, index in enumerate(indices, 1):
            source = examples.source_ids[slice(*examples.source_offsets[index : index + 2])]
            target = examples.target_ids[slice(*examples.target_offsets[index : index + 2])]
            source_stop = source_start + len(source)
            last = target_start + len(target)  # the place of the end token
            batch.source_tokens[row, source_start:source_stop] = source
            batch.source_segments[row, source_start:source_stop] = segment
            batch.target_inputs[row, target_start] = BOS_ID
            batch.target_inputs[row, target_start + 1 : last + 1] = target
            batch.target_outputs[row, target_start:last] = target
            batch.target_outputs[row, last] = EOS_ID
            batch.target_segments[row, target_start : last + 1] = segment
            source_start, target_start = source_stop, last + 1
        batch.source_lengths[row], batch.target_lengths[row] = source_start, target_start
        batch.example_ids[row, : len(indices)] = indices
    return batch
