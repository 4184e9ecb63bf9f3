"""Assignment of sequences to rows: planned once from lengths alone, redrawn in each epoch.

A sequence has one length for each column of the data: two for a pair of lines, one for a piece of text. The pattern of
a row is the lengths of its sequences. Patterns are planned once, and each epoch draws which sequences of those lengths
fill them: every epoch has the same number of rows, and the data's state stays one integer.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from transformer_jax.data.epoch_plan import EpochPlan, IntArray
from transformer_jax.errors import DataError


class RowPattern(NamedTuple):
    """Rows whose sequences have the same lengths.

    Attributes:
      lengths: For each column, the length of each sequence of a row.
      num_rows: How many such rows.
    """

    lengths: tuple[tuple[int, ...], ...]
    num_rows: int


def pack_rows(
    lengths: IntArray, capacities: Sequence[int], *, columns: Sequence[str] = ("",)
) -> list[RowPattern]:
    """Rows that hold every sequence once, filled greedily: always the longest sequence that still fits.

    Sequences of equal lengths are interchangeable, so a row found once is repeated as often as its sequences last: the
    work grows with the number of different lengths, not of sequences.

    Args:
      lengths: ``[num_sequences, num_columns]``, tokens of each sequence.
      capacities: Tokens that a row holds in each column.
      columns: Names of the columns, for messages.

    Raises:
      DataError: If a sequence is longer than a row; says which.

    Example:
      >>> pack_rows(np.array([[3, 3], [1, 2], [1, 2]]), (4, 5), columns=("source", "target"))
      [RowPattern(lengths=((3, 1), (3, 2)), num_rows=1), RowPattern(lengths=((1,), (2,)), num_rows=1)]
    """
    outside = np.flatnonzero((lengths > tuple(capacities)).any(axis=1))
    if len(outside):
        found = " and ".join(
            f"{length} {name}".rstrip() for length, name in zip(lengths[outside[0]], columns, strict=True)
        )
        raise DataError(
            f"example {outside[0]} has {found} tokens; a packed row holds {' and '.join(map(str, capacities))}"
        )
    kinds, counts = np.unique(lengths, axis=0, return_counts=True)
    order = np.argsort(-kinds.sum(axis=1), kind="stable")  # the longest first
    kinds, counts = kinds[order], counts[order]
    patterns = []
    while counts.any():
        left, room = counts.copy(), np.array(capacities)
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
        patterns.append(RowPattern(tuple(map(tuple, kinds[chosen].T.tolist())), num_rows))
    return patterns


class RowPlan(EpochPlan[list[IntArray]]):
    """Rows of several sequences for every epoch, each sequence once an epoch, in an order determined by the seed."""

    def __init__(
        self,
        lengths: IntArray,
        capacities: Sequence[int],
        *,
        batch_size: int,
        seed: int,
        columns: Sequence[str] = ("",),
    ) -> None:
        """Plan the rows.

        Args:
          lengths: ``[num_sequences, num_columns]``, tokens of each sequence.
          capacities: Tokens that a row holds in each column.
          batch_size: Rows of a batch; the last batch of an epoch may have fewer.
          seed: Seed of the order.
          columns: Names of the columns, for messages.

        Raises:
          DataError: If a sequence is longer than a row.
        """
        super().__init__(seed)
        self.batch_size = batch_size
        self._columns = [lengths[:, column] for column in range(lengths.shape[1])]
        patterns = pack_rows(lengths, capacities, columns=columns)
        self.max_in_row = max(len(pattern.lengths[0]) for pattern in patterns)
        num_sequences = np.concatenate([[len(one.lengths[0])] * one.num_rows for one in patterns])
        self._row_offsets = np.concatenate([[0], np.cumsum(num_sequences)])
        # Places in all rows, one a sequence, with the lengths that belong there; then both sorted by lengths.
        place_lengths = [
            np.concatenate([np.tile(one.lengths[column], one.num_rows) for one in patterns])
            for column in range(len(self._columns))
        ]
        self._places = np.lexsort(place_lengths[::-1])
        self.num_rows = len(num_sequences)
        self.batches_per_epoch = -(-self.num_rows // batch_size)

    def epoch(self, epoch: int) -> list[list[IntArray]]:
        """The sequences of each row of each batch: those of equal lengths change places, then rows are shuffled."""
        generator = self.generator(epoch)
        shuffled = np.lexsort((generator.random(len(self._places)), *self._columns[::-1]))
        filled = np.empty(len(shuffled), np.int64)
        filled[self._places] = shuffled
        rows = np.split(filled, self._row_offsets[1:-1])
        order = generator.permutation(self.num_rows)
        return [
            [rows[row] for row in order[start : start + self.batch_size]]
            for start in range(0, self.num_rows, self.batch_size)
        ]
