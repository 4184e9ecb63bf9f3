"""Batches of feature frames, or of images, with the texts to be written of them; buckets over their lengths."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from transformer_jax.bounds import check_at_least
from transformer_jax.data.batches import BOS_ID, DUMMY_EXAMPLE_ID, EOS_ID
from transformer_jax.data.buckets import BucketEpochs, BucketPlan, choose_shapes
from transformer_jax.data.padding import pad_rows, planned_integers
from transformer_jax.data.pipeline import BatchIterator, rows_of
from transformer_jax.data.sequence_pipeline import CountsTokens
from transformer_jax.data.text_batches import row_values
from transformer_jax.errors import ConfigError, DataError, ShapeError

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]

Batch = TypeVar("Batch", bound=CountsTokens)


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
        self._rows = [
            int(rows or 0) if batch_tokens is None else rows_of(batch_tokens, sum(shape))
            for shape in self.plan.shapes
        ]
        self.epochs = BucketEpochs(self.plan.assign(*self.columns), self._rows, seed=seed)
        self.batches_per_epoch = self.epochs.batches_per_epoch

    def shapes(self) -> list[tuple[int, tuple[int, ...]]]:
        """Rows and lengths of every static shape, from short to long."""
        return list(zip(self._rows, self.plan.shapes))

    def abstract_batches(self) -> list[Batch]:
        """A batch of padding alone for each shape: what a trainer compiles for."""
        nothing = np.zeros(0, np.int64)
        return [self.collate(nothing, rows, shape) for rows, shape in self.shapes()]

    def count_tokens(self, batch: Batch) -> int:
        """Positions of a batch, without padding."""
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
            for (rows, shape), members in zip(self.shapes(), self.epochs.members)
        ]
        return f"{' by '.join(self.plan.columns)} (examples): {', '.join(parts)}"


def _arrays(batch: Any) -> Iterator[npt.NDArray[Any]]:
    """The arrays of a batch, of nested tuples."""
    for part in batch:
        if isinstance(part, tuple):
            yield from _arrays(part)
        elif part is not None:
            yield part
