"""The batches that models train on: NumPy arrays of a fixed shape, dummy rows where a batch is short."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

PAD_ID = 0
UNK_ID = 1
BOS_ID = 2
EOS_ID = 3
NUM_SPECIAL_IDS = 4

DUMMY_EXAMPLE_ID = -1

IntArray = npt.NDArray[np.int32]


class BatchShape(NamedTuple):
    """Static shape of a batch: rows, source tokens a row, target tokens a row (the end token included)."""

    batch_size: int
    source_len: int
    target_len: int


class Seq2SeqBatch(NamedTuple):
    """Source and target of the same rows, padded with `PAD_ID`; all arrays are int32.

    A dummy row fills up a short batch: both lengths are 0, every token is `PAD_ID`, its id is -1.

    Attributes:
      source_tokens: ``[batch, source_len]``, without start or end token.
      source_lengths: ``[batch]``; 0 is a legal length (an empty line).
      target_inputs: ``[batch, target_len]``, the start token first.
      target_outputs: ``[batch, target_len]``, the end token last: ``target_inputs`` moved one step left.
      target_lengths: ``[batch]``, the end token included, so 0 for dummy rows only.
      example_ids: ``[batch]``, index of each row in the examples that the batch was made from.
    """

    source_tokens: IntArray
    source_lengths: IntArray
    target_inputs: IntArray
    target_outputs: IntArray
    target_lengths: IntArray
    example_ids: IntArray

    def shape(self) -> BatchShape:
        """The static shape."""
        batch_size, source_len = self.source_tokens.shape
        return BatchShape(batch_size, source_len, self.target_inputs.shape[1])

    def num_target_tokens(self) -> int:
        """Target tokens without padding, end tokens included."""
        return int(self.target_lengths.sum())

    def num_source_tokens(self) -> int:
        """Source tokens without padding."""
        return int(self.source_lengths.sum())

    def num_tokens(self) -> int:
        """Source and target tokens without padding."""
        return self.num_source_tokens() + self.num_target_tokens()

    def num_positions(self) -> int:
        """Source and target positions, padding included; follows from the shapes alone."""
        return self.source_tokens.size + self.target_outputs.size


class PackedBatch(NamedTuple):
    """Several pairs in each row, one after another, on both sides in the same order; all arrays are int32.

    Segments number the pairs of a row from 1 on and so separate their tokens; padding has segment 0 and `PAD_ID`. Both
    lengths of a dummy row are 0.

    Attributes:
      source_tokens: ``[batch, source_len]``, without start or end tokens.
      source_lengths: ``[batch]``, source tokens of all pairs of a row.
      target_inputs: ``[batch, target_len]``, each pair's start token first.
      target_outputs: ``[batch, target_len]``, each pair's end token last.
      target_lengths: ``[batch]``, target tokens of all pairs of a row, end tokens included.
      source_segments: ``[batch, source_len]``.
      target_segments: ``[batch, target_len]``.
      example_ids: ``[batch, pairs]``, index of each pair in the examples; -1 where there is none.
    """

    source_tokens: IntArray
    source_lengths: IntArray
    target_inputs: IntArray
    target_outputs: IntArray
    target_lengths: IntArray
    source_segments: IntArray
    target_segments: IntArray
    example_ids: IntArray

    def num_tokens(self) -> int:
        """Source and target tokens of all pairs, without padding."""
        return int(self.source_lengths.sum()) + int(self.target_lengths.sum())

    def num_positions(self) -> int:
        """Source and target positions, padding included; follows from the shapes alone."""
        return self.source_tokens.size + self.target_outputs.size


def empty_batch(batch_size: int, source_len: int, target_len: int) -> Seq2SeqBatch:
    """A batch of a shape without any content, which takes no memory: what to compile and plan for.

    Example:
      >>> batch = empty_batch(64, 20, 25)
      >>> batch.source_tokens.shape, batch.num_tokens(), batch.num_positions()
      ((64, 20), 0, 2880)
    """

    def zeros(*shape: int) -> IntArray:
        return np.broadcast_to(np.int32(0), shape)

    return Seq2SeqBatch(
        source_tokens=zeros(batch_size, source_len),
        source_lengths=zeros(batch_size),
        target_inputs=zeros(batch_size, target_len),
        target_outputs=zeros(batch_size, target_len),
        target_lengths=zeros(batch_size),
        example_ids=zeros(batch_size),
    )
