"""Batches that count every token of a text exactly once, to evaluate a language model on."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from transformer_jax.data.batches import BOS_ID
from transformer_jax.data.token_batches import TokenBatch
from transformer_jax.data.token_windows import TokenIds, document_starts, window_batch
from transformer_jax.errors import ConfigError


def evaluation_batches(
    ids: TokenIds, *, context_len: int, batch_size: int, stride: int | None = None
) -> Iterator[TokenBatch]:
    """Sliding windows over a text, such that every token but the first counts exactly once.

    Targets before ``first_counted`` only give context; windows side by side count all of theirs.

    A window begins ``stride`` tokens after the one before, so each token that counts has at least
    ``context_len - stride`` tokens before it, or all there are. Where the text has start tokens, no window holds tokens
    of two documents, and start tokens do not count.

    Args:
      ids: Token ids of the text; no batch comes of fewer than two.
      context_len: Tokens of a row.
      batch_size: Rows of a batch; the last one is filled up with rows of length 0.
      stride: Tokens between the starts of two windows; None for ``context_len``, windows side by side.

    Raises:
      ConfigError: If ``stride`` is not between 1 and ``context_len``.

    Source: Baevski and Auli 2019, Adaptive Input Representations for Neural Language Modeling, section 4.3.

    Example:
      >>> ids = np.arange(10, 18, dtype=np.int32)
      >>> (found,) = evaluation_batches(ids, context_len=4, batch_size=3, stride=2)
      >>> found.targets.tolist()
      [[11, 12, 13, 14], [13, 14, 15, 16], [15, 16, 17, 0]]
      >>> found.first_counted.tolist()
      [0, 2, 2]
    """
    stride = context_len if stride is None else stride
    if not 1 <= stride <= context_len:
        raise ConfigError(f"stride must be 1 to context_len, which is {context_len}; got {stride}")
    starts, lengths, first_counted = _sliding_windows(ids, context_len, stride)
    for first in range(0, len(starts), batch_size):
        rows = slice(first, first + batch_size)
        num_missing = max(0, first + batch_size - len(starts))
        batch = window_batch(
            ids,
            np.pad(starts[rows], (0, num_missing)),
            np.pad(lengths[rows], (0, num_missing)).astype(np.int32),
            context_len=context_len,
            restarts=np.ones(batch_size, np.int32),
        )
        if stride < context_len:
            given = np.pad(first_counted[rows], (0, num_missing)).astype(np.int32)
            batch = batch._replace(first_counted=given)
        yield batch


def _sliding_windows(
    ids: TokenIds, context_len: int, stride: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Place, length and first counted target of each window."""
    starts = document_starts(ids) if BOS_ID in ids[:1] else np.zeros(1, np.int64)
    num_targets = np.diff(np.append(starts, len(ids))) - 1
    # A document's first window counts all its targets, each further one the last `stride` of a full window.
    num_windows = np.where(num_targets > 0, 1 + np.maximum(0, -(-(num_targets - context_len) // stride)), 0)
    document = np.repeat(np.arange(len(starts)), num_windows)
    place = np.arange(num_windows.sum()) - np.repeat(np.cumsum(num_windows) - num_windows, num_windows)
    lengths = np.minimum(num_targets[document] - place * stride, context_len)
    return starts[document] + place * stride, lengths, np.where(place > 0, context_len - stride, 0)


def evaluation_streams(ids: TokenIds, *, context_len: int, batch_size: int) -> Iterator[TokenBatch]:
    """Windows that continue from batch to batch, for a carried state; every token but the first counts.

    Row ``i`` reads the ``i``-th part of the text; its state restarts at the part's start only, so with one row the
    whole text is read without a break.

    Args:
      ids: Token ids of the text; no batch comes of fewer than two.
      context_len: Tokens of a row.
      batch_size: Rows of a batch, each a part of the text.

    Example:
      >>> ids = np.arange(10, 18, dtype=np.int32)
      >>> [batch.targets.tolist() for batch in evaluation_streams(ids, context_len=3, batch_size=2)]
      [[[11, 12, 13], [15, 16, 17]], [[14, 0, 0], [0, 0, 0]]]
    """
    num_targets = max(0, len(ids) - 1)
    stream_len = -(-num_targets // batch_size)
    starts = np.arange(batch_size) * stream_len
    stops = np.minimum(starts + stream_len, num_targets)
    for offset in range(0, stream_len, context_len):
        lengths = np.clip(stops - starts - offset, 0, context_len).astype(np.int32)
        restarts = np.full(batch_size, int(offset == 0), np.int32)
        yield window_batch(ids, starts + offset, lengths, context_len=context_len, restarts=restarts)
