"""Endless training batches, resumable from one integer.

An epoch's plan is a list of (bucket, indices), a pure function of seed and epoch; grain iterates over the plans of all
epochs, one element a training step, so its state is the number of the next step.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

import grain

from transformer_jax.data.batches import BatchShape, Seq2SeqBatch, empty_batch
from transformer_jax.data.buckets import BucketEpochs, BucketPlan
from transformer_jax.data.examples import EncodedExamples, make_batch
from transformer_jax.errors import DataError

PREFETCHED_BATCHES = 4
_ENDLESS = 2**62

Batch = TypeVar("Batch")


class BatchPipeline:
    """Endless training batches of static shapes, each example once an epoch, ordered by the seed."""

    def __init__(
        self,
        examples: EncodedExamples,
        plan: BucketPlan,
        *,
        batch_size: int,
        seed: int,
        batch_tokens: int | None = None,
    ) -> None:
        """Plan the buckets.

        Args:
          examples: Training examples.
          plan: The shapes; every example must fit in one.
          batch_size: Rows of every batch; the last batch of a bucket is filled up with dummy rows.
          seed: Seed of the order.
          batch_tokens: Instead of ``batch_size``, tokens of a batch: source and target, padding included.

        Raises:
          DataError: If there is no example, or one fits in no shape.
        """
        if not len(examples):
            raise DataError("no training example is left to make batches of")
        self.examples = examples
        self.plan = plan
        self._rows = [
            batch_size if batch_tokens is None else rows_of(batch_tokens, sum(shape)) for shape in plan.shapes
        ]
        self.seed = seed
        buckets = plan.assign(examples.source_lengths(), examples.target_lengths())
        self.epochs = BucketEpochs(buckets, self._rows, seed=seed)
        self.batches_per_epoch = self.epochs.batches_per_epoch

    def shapes(self) -> list[BatchShape]:
        """Every static shape that a batch of this plan can have, from small to large."""
        return [BatchShape(rows, *shape) for rows, shape in zip(self._rows, self.plan.shapes)]

    def abstract_batches(self) -> list[Seq2SeqBatch]:
        """A batch without content for each shape: what a trainer compiles for."""
        return [empty_batch(*shape) for shape in self.shapes()]

    def count_tokens(self, batch: Seq2SeqBatch) -> int:
        """Source and target tokens of a batch, without padding."""
        return batch.num_tokens()

    def batch_at(self, step: int) -> Seq2SeqBatch:
        """The batch of a training step, counted from 0 over all epochs."""
        bucket, indices = self.epochs.at(step)
        return make_batch(self.examples, indices, self.shapes()[bucket])

    def iterate(self, start_step: int = 0) -> Iterator[Seq2SeqBatch]:
        """Batches from a step on, without end."""
        return BatchIterator(self.batch_at, start_step)

    def padding_share(self) -> float:
        """Share of an epoch's tokens, source and target, that are padding, dummy rows included."""
        real = int(self.examples.source_lengths().sum() + self.examples.target_lengths().sum())
        return 1.0 - real / self.epochs.num_positions(self.plan.shapes)

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any example, or their order, does."""
        return self.examples.fingerprint()

    def describe(self) -> str:
        """Shapes of the batches in words, for reports."""
        shapes = ", ".join(
            f"{source_len}x{target_len} ({len(members):,})"
            for (source_len, target_len), members in zip(self.plan.shapes, self.epochs.members)
        )
        return f"source by target lengths: {shapes}"


def rows_of(batch_tokens: int, row_tokens: int) -> int:
    """Rows of a batch of at most so many tokens; a multiple of 8 where there are as many.

    Example:
      >>> rows_of(1000, 30), rows_of(100, 30)
      (32, 3)
    """
    rows = max(1, batch_tokens // row_tokens)
    return rows - rows % 8 if rows >= 8 else rows


class BatchIterator(Iterator[Batch]):
    """The batches of all steps from one on; one thread makes a few ahead."""

    def __init__(self, batch_at: Callable[[int], Batch], start_step: int) -> None:
        """Start before the batch of ``start_step``."""
        steps = grain.MapDataset.range(_ENDLESS).map(batch_at)
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=PREFETCHED_BATCHES)
        self._iterator = iter(steps.to_iter_dataset(options))
        self.restore(start_step)

    def __iter__(self) -> "BatchIterator[Batch]":
        return self

    def __next__(self) -> Batch:
        return next(self._iterator)

    def state(self) -> int:
        """Step of the next batch: the only state that a checkpoint has to hold."""
        return int(self._iterator.get_state()["next_index"])

    def restore(self, step: int) -> None:
        """Continue from the batch of a step, before or after the present one."""
        if step < 0:
            raise DataError(f"the data's step must be at least 0, got {step}")
        self._iterator.set_state({"next_index": int(step)})
