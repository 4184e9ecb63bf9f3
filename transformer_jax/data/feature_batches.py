"""Batches of feature frames, or of images, with the texts to be written of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from transformer_jax.data.batches import BOS_ID, DUMMY_EXAMPLE_ID, EOS_ID
from transformer_jax.data.padding import pad_rows, planned_integers
from transformer_jax.data.text_batches import row_values
from transformer_jax.errors import ShapeError

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]


class FeatureBatch(NamedTuple):
    """Features and the text of each row; a dummy row fills up a short batch, its lengths are 0 and its id is -1.

    Attributes:
      inputs: Frames ``[batch, frames, dim]`` with their numbers ``[batch]``, or pixels ``[batch, height, width,
        channels]`` with their sizes ``[batch, 2]``: a pair in the order of `FeatureInputs` and `ImageInputs`.
      target_inputs: ``[batch, target_len]``, the start token first.
      targets: ``[batch, target_len]``, the end token last: ``target_inputs`` moved one step left.
      target_lengths: ``[batch]``, the end token included, so 0 for dummy rows only.
      example_ids: ``[batch]``, index of each row in the examples.
    """

    inputs: tuple[FloatArray, IntArray]
    target_inputs: IntArray
    targets: IntArray
    target_lengths: IntArray
    example_ids: IntArray

    def num_tokens(self) -> int:
        """Frames, or pixels, and target tokens without padding."""
        sizes = self.inputs[1]
        real = sizes if sizes.ndim == 1 else sizes.prod(axis=1)
        return int(real.sum()) + int(self.target_lengths.sum())

    def num_positions(self) -> int:
        """The same with padding; follows from the shapes alone."""
        return int(np.prod(self.inputs[0].shape[:-1])) + self.targets.size


def abstract_feature_batch(rows: int, frames: int, dim: int, target_len: int) -> FeatureBatch:
    """A batch of frames of a shape without content, which takes no memory: what to compile and plan for.

    Example:
      >>> abstract_feature_batch(2, 50, 3, 7).inputs[0].shape
      (2, 50, 3)
    """
    return FeatureBatch(
        inputs=(np.broadcast_to(np.float32(0), (rows, frames, dim)), planned_integers(rows)),
        target_inputs=planned_integers(rows, target_len),
        targets=planned_integers(rows, target_len),
        target_lengths=planned_integers(rows),
        example_ids=planned_integers(rows),
    )


def text_columns(
    target_ids: Sequence[Sequence[int]], indices: npt.NDArray[np.int64], num_rows: int, target_len: int
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """The columns of a `FeatureBatch` that are of the texts.

    Args:
      target_ids: Ids of each example's text, without start and end.
      indices: Examples of the first rows.
      num_rows: Rows of the batch.
      target_len: Columns, the end token included.

    Example:
      >>> inputs, targets, lengths, ids = text_columns([[7, 8], []], np.array([0]), 2, 3)
      >>> inputs.tolist(), targets.tolist(), lengths.tolist(), ids.tolist()
      ([[2, 7, 8], [0, 0, 0]], [[7, 8, 3], [0, 0, 0]], [3, 0], [0, -1])
    """
    chosen = [list(target_ids[index]) for index in indices.tolist()]
    inputs, lengths = pad_rows([[BOS_ID, *ids] for ids in chosen], num_rows=num_rows, length=target_len)
    targets, _ = pad_rows([[*ids, EOS_ID] for ids in chosen], num_rows=num_rows, length=target_len)
    return inputs, targets, lengths, row_values(indices, num_rows, fill=DUMMY_EXAMPLE_ID)


class FrameStore:
    """Sequences of feature vectors behind each other in one array, padded only as they are taken.

    Args:
      frames: ``[total, dim]``, any type of number.
      offsets: ``[sequences + 1]``, growing from 0 to ``total``.

    Example:
      >>> store = FrameStore.of([np.ones((3, 2)), np.full((1, 2), 5.0)])
      >>> features, lengths = store.padded(np.array([1, 0]), 3, 4)
      >>> features[..., 0].tolist(), lengths.tolist()
      ([[5.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]], [1, 3, 0])
    """

    def __init__(self, frames: npt.NDArray[Any], offsets: npt.NDArray[np.integer]) -> None:
        if frames.ndim != 2 or len(offsets) < 1 or offsets[-1] != len(frames):
            raise ShapeError(
                f"wanted frames [total, dim] and offsets that end at the total; got {frames.shape} and "
                f"{len(offsets)} offsets up to {offsets[-1] if len(offsets) else 'none'}"
            )
        self.frames, self.offsets = frames, offsets

    @classmethod
    def of(cls, sequences: Sequence[npt.NDArray[Any]], *, dim: int | None = None) -> "FrameStore":
        """A store of arrays ``[frames, dim]``; ``dim`` is needed where there is none."""
        width = sequences[0].shape[1] if sequences else int(dim or 0)
        offsets = np.concatenate([[0], np.cumsum([len(one) for one in sequences], dtype=np.int64)])
        frames = np.concatenate(sequences) if sequences else np.zeros((0, width), np.float32)
        return cls(frames, offsets.astype(np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> npt.NDArray[Any]:
        return self.frames[self.offsets[index] : self.offsets[index + 1]]

    @property
    def dim(self) -> int:
        """Numbers of a frame."""
        return int(self.frames.shape[1])

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Frames of each sequence."""
        return np.diff(self.offsets)

    def padded(
        self, indices: npt.NDArray[np.int64], num_rows: int, length: int
    ) -> tuple[FloatArray, IntArray]:
        """Some of the sequences as the first rows of an array, zeros behind them, and their lengths."""
        return padded_frames([self[index] for index in indices.tolist()], num_rows, length, self.dim)


def padded_frames(
    sequences: Sequence[npt.NDArray[Any]], num_rows: int, length: int, dim: int
) -> tuple[FloatArray, IntArray]:
    """Arrays ``[frames, dim]`` as the first rows of one, zeros behind and below them, and the length of each row.

    Raises:
      ShapeError: If there are more sequences than rows, or one is longer than ``length``.
    """
    if len(sequences) > num_rows or any(len(one) > length for one in sequences):
        longest = max((len(one) for one in sequences), default=0)
        raise ShapeError(
            f"wanted at most {num_rows} sequences of {length} frames; got {len(sequences)} of up to {longest}"
        )
    features = np.zeros((num_rows, length, dim), np.float32)
    lengths = np.zeros(num_rows, np.int32)
    for row, one in enumerate(sequences):
        features[row, : len(one)] = one
        lengths[row] = len(one)
    return features, lengths
