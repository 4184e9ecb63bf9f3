"""Packed rows: several pairs share a row of fixed lengths, so that almost nothing is padding.

The pattern of a row is the lengths of its pairs. Patterns are planned once, and each epoch draws which pairs of those
lengths fill them: every epoch has the same number of rows, and the data's state stays one integer.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from transformer_jax.data.batches import BOS_ID, DUMMY_EXAMPLE_ID, EOS_ID, PAD_ID, PackedBatch
from transformer_jax.data.buckets import Lengths
from transformer_jax.data.examples import EncodedExamples
from transformer_jax.data.pipeline import BatchIterator, rows_of
from transformer_jax.errors import DataError

IntArray = npt.NDArray[np.int64]


class RowPattern(NamedTuple):
    """Rows whose pairs have the same lengths.

    Attributes:
      source_lengths: Source tokens of each pair of a row.
      target_lengths: Target tokens of each, the end token included.
      num_rows: How many such rows.
    """

    source_lengths: tuple[int, ...]
    target_lengths: tuple[int, ...]
    num_rows: int


def pack_rows(
    source_lengths: Lengths, target_lengths: Lengths, *, source_len: int, target_len: int
) -> list[RowPattern]:
    """Rows that hold every pair once, filled greedily: always the longest pair that still fits.

    Pairs of equal lengths are interchangeable, so a row found once is repeated as often as its pairs last: the work
    grows with the number of different lengths, not of pairs.

    Args:
      source_lengths: Source tokens of each pair.
      target_lengths: Target tokens of each pair, the end token included.
      source_len: Source tokens that a row holds.
      target_len: Target tokens that a row holds.

    Raises:
      DataError: If a pair is longer than a row; says which.

    Example:
      >>> pack_rows([3, 1, 1], [3, 2, 2], source_len=4, target_len=5)
      [RowPattern(source_lengths=(3, 1), target_lengths=(3, 2), num_rows=1), \
RowPattern(source_lengths=(1,), target_lengths=(2,), num_rows=1)]
    """
    lengths = np.stack([np.asarray(source_lengths, np.int64), np.asarray(target_lengths, np.int64)], axis=1)
    outside = np.flatnonzero((lengths > (source_len, target_len)).any(axis=1))
    if len(outside):
        source, target = lengths[outside[0]]
        raise DataError(
            f"example {outside[0]} has {source} source and {target} target tokens; a packed row holds "
            f"{source_len} and {target_len}"
        )
    kinds, counts = np.unique(lengths, axis=0, return_counts=True)
    order = np.argsort(-kinds.sum(axis=1), kind="stable")  # the longest first
    kinds, counts = kinds[order], counts[order]
    patterns = []
    while counts.any():
        left, room = counts.copy(), np.array([source_len, target_len])
        chosen: list[int] = []
        while True:
            fits = (left > 0) & (kinds <= room).all(axis=1)
            first = int(fits.argmax())
            if not fits[first]:
                break
            chosen.append(first)
            left[first] -= 1
            room -= kinds[first]
        used = np.bincount(chosen, minlength=len(kinds))
        num_rows = int((counts[used > 0] // used[used > 0]).min())
        counts = counts - num_rows * used
        sources, targets = kinds[chosen].T.tolist()
        patterns.append(RowPattern(tuple(sources), tuple(targets), num_rows))
    return patterns


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
          examples: What to train on.
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
        sources, targets = examples.source_lengths(), examples.target_lengths()
        patterns = pack_rows(sources, targets, source_len=source_len, target_len=target_len)
        self.pairs_per_row = max(len(pattern.source_lengths) for pattern in patterns)
        num_pairs = np.concatenate([[len(one.source_lengths)] * one.num_rows for one in patterns])
        self._row_offsets = np.concatenate([[0], np.cumsum(num_pairs)])
        # Places in all rows, one a pair, with the lengths that belong there; then both sorted by lengths.
        place_lengths = [
            np.concatenate([np.tile(getattr(one, name), one.num_rows) for one in patterns])
            for name in ("source_lengths", "target_lengths")
        ]
        self._places = np.lexsort(place_lengths[::-1])
        self._example_lengths = (sources, targets)
        self.num_rows = len(num_pairs)
        self.batches_per_epoch = -(-self.num_rows // self.batch_size)
        self._cached_plan = functools.lru_cache(maxsize=2)(self.epoch_plan)

    def abstract_batches(self) -> list[PackedBatch]:
        """A batch without an example, of the one shape that all batches have: what a trainer compiles for."""
        return [self._batch([])]

    def count_tokens(self, batch: PackedBatch) -> int:
        """Source and target tokens of a batch, without padding."""
        return batch.num_tokens()

    def epoch_plan(self, epoch: int) -> list[list[IntArray]]:
        """The examples of each row of each batch: pairs of equal lengths change places, then rows are shuffled."""
        generator = np.random.default_rng(np.random.SeedSequence([self.seed, epoch]))
        sources, targets = self._example_lengths
        shuffled = np.lexsort((generator.random(len(sources)), targets, sources))
        filled = np.empty(len(shuffled), np.int64)
        filled[self._places] = shuffled
        rows = np.split(filled, self._row_offsets[1:-1])
        order = generator.permutation(self.num_rows)
        return [
            [rows[row] for row in order[start : start + self.batch_size]]
            for start in range(0, self.num_rows, self.batch_size)
        ]

    def batch_at(self, step: int) -> PackedBatch:
        """The batch of a training step, counted from 0 over all epochs."""
        epoch, place = divmod(int(step), self.batches_per_epoch)
        return self._batch(self._cached_plan(epoch)[place])

    def iterate(self, start_step: int = 0) -> Iterator[PackedBatch]:
        """Batches from a step on, without end."""
        return BatchIterator(self.batch_at, start_step)

    def padding_share(self) -> float:
        """Share of an epoch's tokens, source and target, that are padding, dummy rows included."""
        padded = self.batches_per_epoch * self.batch_size * (self.source_len + self.target_len)
        return 1.0 - int(sum(map(np.sum, self._example_lengths))) / padded

    def describe(self) -> str:
        """What the batches are like, for people."""
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
            pairs_per_row=self.pairs_per_row,
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
