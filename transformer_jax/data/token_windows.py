"""Training batches of a language model: endless windows over one array of token ids, resumable from one integer."""

import abc
import hashlib

import numpy as np
import numpy.typing as npt

from transformer_jax.data.batches import BOS_ID, DUMMY_EXAMPLE_ID, PAD_ID
from transformer_jax.data.pipeline import BatchIterator
from transformer_jax.data.row_plan import RowPlan
from transformer_jax.data.text_config import ContiguousWindows, PackedDocuments, RandomWindows, WindowsConfig
from transformer_jax.data.token_batches import TokenBatch
from transformer_jax.errors import DataError

TokenIds = npt.NDArray[np.int32]


class TokenSource(abc.ABC):
    """Endless training batches of one shape over an array of token ids.

    Attributes:
      ids: The token ids.
      context_len: Tokens of a row.
      batch_size: Rows of a batch.
      seed: Seed of the order.
      num_tokens: Targets of an epoch.
      batches_per_epoch: Batches of an epoch.
    """

    num_tokens: int
    batches_per_epoch: int

    def __init__(self, ids: TokenIds, *, context_len: int, batch_size: int, seed: int) -> None:
        """Check that there is a batch.

        Args:
          ids: The token ids of the training text.
          context_len: Tokens of a row.
          batch_size: Rows of a batch.
          seed: Seed of the order.

        Raises:
          DataError: If the text is shorter than one window or one batch.
        """
        for wanted, name in (
            (context_len, f"one window of context_len {context_len:,}"),
            (batch_size * context_len, f"one batch of {batch_size:,} windows of {context_len:,} tokens"),
        ):
            if len(ids) < wanted + 1:
                raise DataError(
                    f"the training text has {len(ids):,} tokens, fewer than {name} and the token after it; take a "
                    "longer text, a smaller context_len or a smaller batch_size"
                )
        self.ids, self.context_len, self.batch_size, self.seed = ids, context_len, batch_size, seed

    @abc.abstractmethod
    def batch_at(self, step: int) -> TokenBatch:
        """The batch of a training step, counted from 0 over all epochs."""

    @abc.abstractmethod
    def describe(self) -> str:
        """Shape and content of the batches in words, for reports."""

    def iterate(self, start_step: int = 0) -> BatchIterator[TokenBatch]:
        """Batches from a step on, without end."""
        return BatchIterator(self.batch_at, start_step)

    def abstract_batches(self) -> list[TokenBatch]:
        """A batch of the one shape that all batches have, without content: what a trainer compiles for."""
        tokens = np.broadcast_to(np.int32(0), (self.batch_size, self.context_len))
        rows = np.broadcast_to(np.int32(0), (self.batch_size,))
        segments = tokens if isinstance(self, PackedDocumentSource) else None
        return [TokenBatch(tokens, tokens, rows, segments, rows, rows)]

    def count_tokens(self, batch: TokenBatch) -> int:
        """Targets of a batch, without padding."""
        return batch.num_tokens()

    def padding_share(self) -> float:
        """Share of an epoch's positions that are padding, rows without tokens included."""
        return 1.0 - self.num_tokens / (self.batches_per_epoch * self.batch_size * self.context_len)

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any token, or their order, does."""
        return token_fingerprint(self.ids)


class RandomWindowSource(TokenSource):
    """Windows at places drawn by the seed and the step, all of them equally likely.

    Example:
      >>> source = RandomWindowSource(np.arange(100, dtype=np.int32), context_len=8, batch_size=2, seed=0)
      >>> batch = source.batch_at(0)
      >>> batch.inputs.shape, bool((batch.targets == batch.inputs + 1).all())
      ((2, 8), True)

    Source: Karpathy, nanoGPT, ``get_batch``.
    """

    def __init__(self, ids: TokenIds, *, context_len: int, batch_size: int, seed: int) -> None:
        """As `TokenSource` says; an epoch is as many batches as hold all targets once."""
        super().__init__(ids, context_len=context_len, batch_size=batch_size, seed=seed)
        self.batches_per_epoch = -(-(len(ids) - 1) // (batch_size * context_len))
        self.num_tokens = self.batches_per_epoch * batch_size * context_len

    def batch_at(self, step: int) -> TokenBatch:
        """The batch of a training step, counted from 0 over all epochs."""
        generator = np.random.default_rng(np.random.SeedSequence([self.seed, int(step)]))
        starts = generator.integers(len(self.ids) - self.context_len, size=self.batch_size)
        windows = self.ids[starts[:, None] + np.arange(self.context_len + 1)]
        return TokenBatch(
            inputs=windows[:, :-1],
            targets=windows[:, 1:],
            lengths=np.full(self.batch_size, self.context_len, np.int32),
            segments=None,
            restarts=np.ones(self.batch_size, np.int32),
            example_ids=starts.astype(np.int32),
        )

    def describe(self) -> str:
        """Shape and content of the batches in words, for reports."""
        return f"{self.batch_size:,} windows of {self.context_len:,} tokens at random places"


class ContiguousWindowSource(TokenSource):
    """Windows that continue from batch to batch: row ``i`` reads the ``i``-th part of the text from start to end.

    The parts are of equal length, so up to ``batch_size - 1`` tokens at the end of the text are left out. The last
    window of an epoch may be short.

    Example:
      >>> source = ContiguousWindowSource(np.arange(23, dtype=np.int32), context_len=5, batch_size=2, seed=0)
      >>> source.batch_at(1).inputs.tolist(), source.batch_at(2).lengths.tolist()
      ([[5, 6, 7, 8, 9], [16, 17, 18, 19, 20]], [1, 1])
      >>> [source.batch_at(step).restarts.tolist() for step in range(4)]
      [[1, 1], [0, 0], [0, 0], [1, 1]]
    """

    def __init__(self, ids: TokenIds, *, context_len: int, batch_size: int, seed: int) -> None:
        """As `TokenSource` says; the order does not depend on the seed."""
        super().__init__(ids, context_len=context_len, batch_size=batch_size, seed=seed)
        self._stream_len = (len(ids) - 1) // batch_size
        self.num_tokens = self._stream_len * batch_size
        self.batches_per_epoch = -(-self._stream_len // context_len)

    def batch_at(self, step: int) -> TokenBatch:
        """The batch of a training step, counted from 0 over all epochs."""
        place = int(step) % self.batches_per_epoch
        starts = np.arange(self.batch_size) * self._stream_len + place * self.context_len
        length = min(self.context_len, self._stream_len - place * self.context_len)
        lengths = np.full(self.batch_size, length, np.int32)
        restarts = np.full(self.batch_size, int(place == 0), np.int32)
        return window_batch(self.ids, starts, lengths, context_len=self.context_len, restarts=restarts)

    def describe(self) -> str:
        """Shape and content of the batches in words, for reports."""
        return (
            f"{self.batch_size:,} streams of {self._stream_len:,} tokens, read {self.context_len:,} at a time"
        )


class PackedDocumentSource(TokenSource):
    """Rows of whole documents, or of pieces of documents longer than a row, each once an epoch.

    Each start token in the ids begins a document.

    Example:
      >>> ids = np.array([2, 7, 8, 3, 2, 9, 3], np.int32)
      >>> batch = PackedDocumentSource(ids, context_len=5, batch_size=1, seed=0).batch_at(0)
      >>> batch.inputs.tolist(), batch.targets.tolist(), batch.segments.tolist()
      ([[2, 7, 8, 2, 9]], [[7, 8, 3, 9, 3]], [[1, 1, 1, 2, 2]])
    """

    def __init__(self, ids: TokenIds, *, context_len: int, batch_size: int, seed: int) -> None:
        """As `TokenSource` says.

        Args:
          ids: Documents one after another, each from its start token to its end token.
          context_len: Tokens of a row.
          batch_size: Rows of a batch.
          seed: Seed of the order.

        Raises:
          DataError: If the text is shorter than one batch, or does not begin with a start token.
        """
        super().__init__(ids, context_len=context_len, batch_size=batch_size, seed=seed)
        starts = document_starts(ids)
        lengths = np.diff(np.append(starts, len(ids))) - 1  # targets of each document
        num_pieces = -(-lengths // context_len)
        places = np.arange(num_pieces.sum()) - np.repeat(np.cumsum(num_pieces) - num_pieces, num_pieces)
        self._starts = np.repeat(starts, num_pieces) + places * context_len
        self._lengths = np.minimum(np.repeat(lengths, num_pieces) - places * context_len, context_len)
        self._num_documents = len(starts)
        self.num_tokens = int(lengths.sum())
        self.plan = RowPlan(self._lengths[:, None], (context_len,), batch_size=batch_size, seed=seed)
        self.batches_per_epoch = self.plan.batches_per_epoch

    def batch_at(self, step: int) -> TokenBatch:
        """The batch of a training step, counted from 0 over all epochs."""
        shape = (self.batch_size, self.context_len)
        batch = TokenBatch(
            inputs=np.full(shape, PAD_ID, np.int32),
            targets=np.full(shape, PAD_ID, np.int32),
            lengths=np.zeros(self.batch_size, np.int32),
            segments=(segments := np.zeros(shape, np.int32)),
            restarts=np.ones(self.batch_size, np.int32),
            example_ids=np.full(self.batch_size, DUMMY_EXAMPLE_ID, np.int32),
        )
        for row, pieces in enumerate(self.plan.at(step)):
            stop = 0
            for segment, piece in enumerate(pieces, 1):
                first, length = self._starts[piece], self._lengths[piece]
                start, stop = stop, stop + length
                batch.inputs[row, start:stop] = self.ids[first : first + length]
                batch.targets[row, start:stop] = self.ids[first + 1 : first + length + 1]
                segments[row, start:stop] = segment
            batch.lengths[row] = stop
            batch.example_ids[row] = pieces[0]
        return batch

    def describe(self) -> str:
        """Shape and content of the batches in words, for reports."""
        return (
            f"{self.plan.num_rows:,} rows of {self.context_len:,} tokens with {len(self._starts):,} pieces of "
            f"{self._num_documents:,} documents, {self.batch_size:,} rows a batch"
        )


def token_fingerprint(ids: TokenIds) -> str:
    """Twelve hexadecimal digits that change when any token, or their order, does.

    Example:
      >>> token_fingerprint(np.arange(3, dtype=np.int32))
      'ad5dc1478de0'
    """
    return hashlib.sha256(np.ascontiguousarray(ids).tobytes()).hexdigest()[:12]


def document_starts(ids: TokenIds) -> npt.NDArray[np.int64]:
    """Places of the start tokens.

    Raises:
      DataError: If the ids do not begin with one.

    Example:
      >>> document_starts(np.array([2, 7, 3, 2, 8, 3], np.int32))
      array([0, 3])
    """
    starts = np.flatnonzero(ids == BOS_ID)
    if not len(starts) or starts[0] != 0:
        raise DataError(
            f"wanted documents that begin with the start token {BOS_ID}, got ids {ids[:3].tolist()} first"
        )
    return starts


def window_batch(
    ids: TokenIds,
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int32],
    *,
    context_len: int,
    restarts: npt.NDArray[np.int32],
) -> TokenBatch:
    """Batch of the windows that begin at some places, each of its own length; the rest of a row is padding.

    Args:
      ids: The token ids.
      starts: ``[batch]``, place of each window's first input.
      lengths: ``[batch]``, targets of each window; 0 makes a row without tokens.
      context_len: Tokens of a row.
      restarts: ``[batch]``, where a carried state must be reset.

    Example:
      >>> batch = window_batch(np.arange(10, dtype=np.int32), np.array([0, 4]), np.array([3, 2], np.int32),
      ...                      context_len=3, restarts=np.ones(2, np.int32))
      >>> batch.inputs.tolist(), batch.targets.tolist()
      ([[0, 1, 2], [4, 5, 0]], [[1, 2, 3], [5, 6, 0]])
    """
    columns = np.arange(context_len)
    inside = columns < lengths[:, None]
    places = np.where(inside, starts[:, None] + columns, 0)
    return TokenBatch(
        inputs=np.where(inside, ids[places], np.int32(PAD_ID)),
        targets=np.where(inside, ids[np.where(inside, places + 1, 0)], np.int32(PAD_ID)),
        lengths=lengths,
        segments=None,
        restarts=restarts,
        example_ids=np.where(lengths > 0, starts, DUMMY_EXAMPLE_ID).astype(np.int32),
    )


def make_source(windows: WindowsConfig, ids: TokenIds, *, batch_size: int, seed: int) -> TokenSource:
    """Training batches of a config over token ids.

    Raises:
      DataError: If the text is shorter than one window or one batch.
    """
    kinds: dict[type[WindowsConfig], type[TokenSource]] = {
        RandomWindows: RandomWindowSource,
        ContiguousWindows: ContiguousWindowSource,
        PackedDocuments: PackedDocumentSource,
    }
    return kinds[type(windows)](ids, context_len=windows.context_len, batch_size=batch_size, seed=seed)
