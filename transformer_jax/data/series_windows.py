"""Windows of series: a context, and behind it the horizon to forecast; and endless training batches of them."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from transformer_jax.data.batches import DUMMY_EXAMPLE_ID
from transformer_jax.data.pipeline import BatchIterator
from transformer_jax.data.series import Part, Series
from transformer_jax.errors import DataError

Floats = npt.NDArray[np.float32]


class SeriesBatch(NamedTuple):
    """Windows of series; every leaf has the window as axis 0.

    Attributes:
      inputs: ``[batch, context, channels]``, scaled values.
      targets: ``[batch, horizon, channels]``, the scaled values behind them.
      weights: ``[batch, horizon, channels]``: 1 for a target that was observed, 0 for one that was held in a gap, and
        in rows without a window.
      example_ids: ``[batch]``, number of the window; -1 for a row without one.
    """

    inputs: Floats
    targets: Floats
    weights: Floats
    example_ids: npt.NDArray[np.int32]

    def num_tokens(self) -> int:
        """Steps of the windows, each with all of its channels."""
        rows = int(np.count_nonzero(np.asarray(self.example_ids) >= 0))
        return rows * (self.inputs.shape[1] + self.targets.shape[1])

    def num_positions(self) -> int:
        """The same, rows without a window included; follows from the shapes alone."""
        return self.inputs.shape[0] * (self.inputs.shape[1] + self.targets.shape[1])


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class WindowSet:
    """Windows over scaled series that lie behind each other in one array.

    Attributes:
      values: ``[time, channels]``, scaled, without gaps.
      observed: ``[time, channels]``: False where a value was held.
      origins: ``[windows]``: row of the first target of each window.
      context_len: Steps before it.
      horizon_len: Steps from it on.

    Example:
      >>> values = np.arange(6, dtype=np.float32)[:, None]
      >>> windows = WindowSet(
      ...   values=values, observed=np.ones((6, 1), bool), origins=np.array([2, 4]), context_len=2, horizon_len=2)
      >>> chosen = np.array([1])
      >>> windows.inputs(chosen)[0, :, 0].tolist(), windows.targets(chosen)[0, :, 0].tolist()
      ([2.0, 3.0], [4.0, 5.0])
    """

    values: Floats
    observed: npt.NDArray[np.bool_]
    origins: npt.NDArray[np.int64]
    context_len: int
    horizon_len: int

    def __len__(self) -> int:
        return len(self.origins)

    def inputs(self, windows: npt.NDArray[np.int64]) -> Floats:
        """Contexts ``[windows, context, channels]``."""
        return self.values[self.origins[windows][:, None] + np.arange(-self.context_len, 0)]

    def targets(self, windows: npt.NDArray[np.int64]) -> Floats:
        """Targets ``[windows, horizon, channels]``."""
        return self.values[self.origins[windows][:, None] + np.arange(self.horizon_len)]

    def weights(self, windows: npt.NDArray[np.int64]) -> Floats:
        """1 where a target was observed, ``[windows, horizon, channels]``."""
        return self.observed[self.origins[windows][:, None] + np.arange(self.horizon_len)].astype(np.float32)

    def batch(self, windows: npt.NDArray[np.int64], num_rows: int) -> SeriesBatch:
        """Windows as the first rows of a batch."""
        empty = abstract_series_batch(num_rows, self.context_len, self.horizon_len, self.values.shape[1])
        inputs, targets, weights = (np.array(leaf) for leaf in empty[:3])
        count = len(windows)
        inputs[:count], targets[:count] = self.inputs(windows), self.targets(windows)
        weights[:count] = self.weights(windows)
        example_ids = np.full(num_rows, DUMMY_EXAMPLE_ID, np.int32)
        example_ids[:count] = windows
        return SeriesBatch(inputs, targets, weights, example_ids)

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any value or window does."""
        digest = hashlib.sha256()
        for array in (self.values, self.observed, self.origins):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:12]


def window_origins(series: Series, part: Part, context_len: int, horizon_len: int) -> npt.NDArray[np.int64]:
    """Rows at which the targets of a part's windows begin.

    All targets lie within the part. The context of a training window lies within it, too; that of another part reaches
    back into the rows before, as it does when a forecast is made.

    Args:
      series: The series.
      part: The part.
      context_len: Steps of a context.
      horizon_len: Steps of a horizon.

    Example:
      >>> one = Series(name="a", values=np.zeros((10, 1)), ends=(5, 8, 10))
      >>> [window_origins(one, part, 2, 2).tolist() for part in ("train", "development", "test")]
      [[2, 3], [5, 6], [8]]
    """
    start, stop = series.rows(part)
    first = context_len if part == "train" else max(start, context_len)
    return np.arange(first, max(first, stop - horizon_len + 1))


class SeriesWindows:
    """Endless training batches of one shape, each window once an epoch, in an order determined by the seed.

    Args:
      windows: The training windows.
      batch_size: Rows of a batch.
      seed: Of the order.

    Raises:
      DataError: If there is no window.

    Attributes:
      batches_per_epoch: Batches of an epoch.

    Example:
      >>> values = np.arange(12, dtype=np.float32)[:, None]
      >>> windows = WindowSet(values=values, observed=np.ones((12, 1), bool), origins=np.arange(4, 11), context_len=4,
      ...   horizon_len=2)
      >>> source = SeriesWindows(windows, batch_size=3, seed=0)
      >>> batch = next(source.iterate())
      >>> source.batches_per_epoch, bool((batch.targets[:, 0] == batch.inputs[:, -1] + 1).all())
      (3, True)
    """

    def __init__(self, windows: WindowSet, *, batch_size: int, seed: int) -> None:
        if not len(windows):
            raise DataError("no training window is left to make batches of")
        self.windows, self.batch_size, self.seed = windows, batch_size, seed
        self.batches_per_epoch = -(-len(windows) // batch_size)
        self._order = functools.lru_cache(maxsize=2)(self._make_order)

    def batch_at(self, step: int) -> SeriesBatch:
        """The batch of a training step, counted from 0 over all epochs."""
        epoch, place = divmod(int(step), self.batches_per_epoch)
        chosen = self._order(epoch)[place * self.batch_size :][: self.batch_size]
        return self.windows.batch(chosen, self.batch_size)

    def iterate(self, start_step: int = 0) -> BatchIterator[SeriesBatch]:
        """Batches from a step on, without end."""
        return BatchIterator(self.batch_at, start_step)

    def abstract_batches(self) -> list[SeriesBatch]:
        """A batch of the one shape that all batches have, without content: what a trainer compiles for."""
        found = self.windows
        channels = found.values.shape[1]
        return [abstract_series_batch(self.batch_size, found.context_len, found.horizon_len, channels)]

    def count_tokens(self, batch: SeriesBatch) -> int:
        """Steps of the batch's windows."""
        return batch.num_tokens()

    def padding_share(self) -> float:
        """Share of an epoch's rows that hold no window."""
        return 1.0 - len(self.windows) / (self.batches_per_epoch * self.batch_size)

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any value or window does."""
        return self.windows.fingerprint()

    def describe(self) -> str:
        """Shape of the batches in words, for reports."""
        found = self.windows
        return (
            f"{self.batch_size:,} of {len(found):,} windows, {found.context_len:,} steps of context and "
            f"{found.horizon_len:,} to forecast"
        )

    def _make_order(self, epoch: int) -> npt.NDArray[np.int64]:
        generator = np.random.default_rng(np.random.SeedSequence([self.seed, epoch]))
        return generator.permutation(len(self.windows))


def abstract_series_batch(rows: int, context_len: int, horizon_len: int, channels: int) -> SeriesBatch:
    """A batch of a shape without content, which takes no memory.

    Example:
      >>> abstract_series_batch(2, 8, 4, 3).targets.shape
      (2, 4, 3)
    """
    zero = np.float32(0)
    future = np.broadcast_to(zero, (rows, horizon_len, channels))
    return SeriesBatch(
        inputs=np.broadcast_to(zero, (rows, context_len, channels)),
        targets=future,
        weights=future,
        example_ids=np.broadcast_to(np.int32(0), (rows,)),
    )


def row_offsets(arrays: Sequence[npt.NDArray[np.generic]]) -> npt.NDArray[np.int64]:
    """Row at which each array begins where they lie behind each other.

    Args:
      arrays: ``[time, ...]`` each.

    Returns:
      ``[arrays]``.

    Example:
      >>> row_offsets([np.zeros(3), np.zeros(2), np.zeros(4)]).tolist()
      [0, 3, 5]
    """
    return np.concatenate([[0], np.cumsum([len(one) for one in arrays])[:-1]]).astype(np.int64)
