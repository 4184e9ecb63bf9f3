"""Block sizes, visited blocks and masks of the Mosaic GPU kernels: pure arithmetic, the same on and off the device.

The kernels cut queries and keys into blocks. From what a causal or window part of the mask and the number of keys
say about a block of one side follows a :class:`Span` of blocks of the other: which are visited at all, and which of
those are seen whole, so that no pair of theirs needs a look at the mask. Functions take Python integers or traced
scalars; what can be known from integers alone stays an integer, so that a loop that never runs is never built.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from transformer_jax.functional.masks import AttentionMask
from transformer_jax.typing import Array

COMPUTE_GROUPS = 2
"""Warpgroups of a program that multiply; one more moves memory."""

GROUP_ROWS = 64
"""Rows of a warpgroup: what one wgmma instruction multiplies."""

TILE = COMPUTE_GROUPS * GROUP_ROWS
"""Rows of a program; lengths are padded to a multiple of it."""

STAGES = 2
"""Blocks in shared memory at a time: one is multiplied while the next arrives."""

SHARED_MEMORY_BYTES = 227 * 1024
"""Shared memory that a program may use on compute capability 9.0."""

MAX_HEAD_DIM = 128
"""The backward pass holds two accumulators of 64 rows; at 256 columns they alone are more than the registers."""


class Reach(NamedTuple):
    """How far a query sees by position, from ``i - back`` to ``i + ahead``; ``None`` = all the way."""

    back: int | None
    ahead: int | None


class Span(NamedTuple):
    """Blocks ``first`` to ``stop - 1`` are visited; of these, ``full_first`` to ``full_stop - 1`` need no mask."""

    first: Any
    full_first: Any
    full_stop: Any
    stop: Any


class BlockSizes(NamedTuple):
    """Columns of a block, in each kernel: keys to a tile of queries, or queries to a tile of keys."""

    forward_keys: int
    backward_keys: int
    backward_queries: int


class Problem(NamedTuple):
    """Static values of a call, besides the shapes of its padded arrays.

    Attributes:
      scale: Scores are this times the products; above zero.
      reach: Causal and window parts of the mask.
      q_len: Queries without padding.
      kv_len: Keys without padding.
      sizes: Of the blocks; ``None`` = :func:`block_sizes`.
    """

    scale: float
    reach: Reach
    q_len: int
    kv_len: int
    sizes: BlockSizes | None = None

    def blocks(self, head_dim: int, value_dim: int) -> BlockSizes:
        """The sizes of the blocks for these widths."""
        return self.sizes or block_sizes(head_dim, value_dim)


class KeySide(NamedTuple):
    """Which keys are hidden from every query alike.

    Attributes:
      stops: ``[batch]`` int32: keys from there on are hidden; ``None`` = all of ``kv_len`` are seen.
      valid: ``[batch, padded kv_len]`` float32, 0 = hidden; ``None`` = what ``stops`` says is all.
    """

    stops: Array | None
    valid: Array | None

    def operands(self) -> list[Array]:
        """The arrays that there are."""
        return [array for array in (self.stops, self.valid) if array is not None]

    def of_references(self, references: Any) -> "KeySide":
        """The same with references, taken from an iterator, in place of arrays."""
        return KeySide(*(None if array is None else next(references) for array in self))


def reach_of(mask: AttentionMask, q_len: int, kv_len: int) -> Reach:
    """The causal and window parts of a mask of default positions; a side that reaches everything is open.

    Example:
      >>> reach_of(AttentionMask.causal() & AttentionMask.window(3, 9), 100, 100)
      Reach(back=3, ahead=0)
      >>> reach_of(AttentionMask.window(99, 98), 100, 100)
      Reach(back=None, ahead=98)
    """
    back, ahead = mask.window_left, 0 if mask.is_causal else mask.window_right
    return Reach(
        None if back is None or back >= q_len - 1 else back,
        None if ahead is None or ahead >= kv_len - 1 else ahead,
    )


def padded(size: int, multiple: int) -> int:
    """The least multiple that holds ``size``.

    Example:
      >>> padded(130, 128), padded(128, 128)
      (256, 128)
    """
    return -(-size // multiple) * multiple


def block_sizes(head_dim: int, value_dim: int) -> BlockSizes:
    """Sizes for widths that are padded already.

    The scores of a block stand in the registers beside the accumulators: at width 128 the backward kernel that
    sums over keys has room for 64 columns of two score arrays, at width 64 for 128.

    Example:
      >>> block_sizes(128, 128)
      BlockSizes(forward_keys=128, backward_keys=64, backward_queries=64)
    """
    return BlockSizes(128, 128 if max(head_dim, value_dim) <= 64 else 64, 64)


def shared_memory(sizes: BlockSizes, head_dim: int, value_dim: int) -> dict[str, int]:
    """Bytes of shared memory that each kernel asks for, with 16-bit arrays and float32 rows."""
    widths, row = 2 * (head_dim + value_dim), 4
    streams = {
        # Queries, output, log-sum-exp; keys, values, and one row that says which keys are valid.
        "forward": (TILE * (widths + row), sizes.forward_keys * (widths + row)),
        # Queries, output gradient, log-sum-exp, delta, query gradient; keys, values, valid keys.
        "query_gradient": (TILE * (widths + 2 * head_dim + 2 * row), sizes.backward_keys * (widths + row)),
        # Keys, values and their gradients; queries, output gradient, log-sum-exp, delta.
        "key_gradient": (TILE * 2 * widths, sizes.backward_queries * (widths + 2 * row)),
    }
    return {name: tile + STAGES * block for name, (tile, block) in streams.items()}


def key_blocks(first_row: Any, num_rows: int, key_stop: Any, reach: Reach, block: int) -> Span:
    """Blocks of keys that the queries ``first_row ... first_row + num_rows - 1`` visit.

    Args:
      first_row: First query.
      num_rows: Number of queries.
      key_stop: Keys from here on are hidden.
      reach: What positions allow.
      block: Keys of a block.

    Returns:
      The span; a block past ``key_stop``, before or behind the reach of every query is not in it.

    Example:
      >>> key_blocks(128, 64, 1000, Reach(None, 0), 64)
      Span(first=0, full_first=0, full_stop=2, stop=3)
    """
    first, stop, full_first, full_stop = 0, key_stop, None, key_stop
    if reach.back is not None:
        first = _larger(first_row - reach.back, 0)
        full_first = _larger(first_row + num_rows - 1 - reach.back, 0)
    if reach.ahead is not None:
        stop = _smaller(first_row + num_rows + reach.ahead, key_stop)
        full_stop = _smaller(first_row + reach.ahead + 1, key_stop)
    return _span(first, full_first, full_stop, stop, block)


def query_blocks(first_key: Any, num_keys: int, q_len: int, key_stop: Any, reach: Reach, block: int) -> Span:
    """Blocks of queries that see some of the keys ``first_key ... first_key + num_keys - 1``.

    Keys from ``key_stop`` on count as keys that need no mask: each key has a row of its own in the kernel that asks,
    and the rows of hidden keys are emptied when all is summed. Queries from ``q_len`` on are padding, and have no
    gradient to give.

    Args:
      first_key: First key.
      num_keys: Number of keys.
      q_len: Number of queries.
      key_stop: Keys from here on are hidden.
      reach: What positions allow.
      block: Queries of a block.

    Returns:
      The span; empty if all the keys are hidden.

    Example:
      >>> query_blocks(64, 64, 1000, 1000, Reach(None, 0), 64)
      Span(first=1, full_first=2, full_stop=16, stop=16)
    """
    past = _smaller(first_key + num_keys, key_stop)  # one past the last key that is not hidden
    stop: Any = q_len
    first, full_first, full_stop = 0, None, None
    if reach.ahead is not None:
        first = _larger(first_key - reach.ahead, 0)
        full_first = _larger(past - 1 - reach.ahead, 0)
    if reach.back is not None:
        stop = _smaller(past + reach.back, q_len)
        full_stop = _smaller(first_key + reach.back + 1, padded(q_len, block))
    stop = _none_unless_below(first_key, key_stop, stop)
    return _span(first, full_first, full_stop, stop, block)


def stretches(span: Span, always_masked: bool) -> list[tuple[Any, Any, bool]]:
    """A span as ``(start, stop, masked)``, in order; what is known to be empty is left out, so that no loop is built.

    Example:
      >>> stretches(Span(0, 0, 2, 3), always_masked=False)
      [(0, 2, False), (2, 3, True)]
    """
    cut = [
        (span.first, span.full_first, True),
        (span.full_first, span.full_stop, False),
        (span.full_stop, span.stop, True),
    ]
    if always_masked:
        cut = [(span.first, span.stop, True)]
    return [
        (start, stop, masked)
        for start, stop, masked in cut
        if start is not stop and not (_is_known(start, stop) and start >= stop)
    ]


def visible_pairs(rows: Array, keys: Array, key_stop: Any, reach: Reach) -> Array:
    """Which pairs of a block may see each other, from the positions of its rows and keys, of one shape.

    Example:
      >>> rows, keys = jnp.array([[3, 3], [4, 4]]), jnp.array([[3, 4], [3, 4]])
      >>> visible_pairs(rows, keys, 9, Reach(None, 0)).astype(int).tolist()
      [[1, 0], [1, 1]]
    """
    visible = keys < key_stop
    if reach.ahead is not None:
        visible &= keys <= rows + reach.ahead
    if reach.back is not None:
        visible &= keys >= rows - reach.back
    return visible


def _span(first: Any, full_first: Any, full_stop: Any, stop: Any, block: int) -> Span:
    """Cut at whole blocks, every part held inside the ones around it; a full part of ``None`` ends where all ends."""
    first_block = _quotient(first, block)
    stop = _none_unless_below(first, stop, stop)
    stop_block = _larger(_quotient(_larger(stop, 0) + block - 1, block), first_block)
    full_first_block, full_stop_block = first_block, stop_block
    if full_first is not None:
        inside = _quotient(full_first + block - 1, block)
        full_first_block = _smaller(_larger(inside, first_block), stop_block)
    if full_stop is not None:
        inside = _quotient(_larger(full_stop, 0), block)
        full_stop_block = _larger(_smaller(inside, stop_block), full_first_block)
    return Span(first_block, full_first_block, full_stop_block, stop_block)


def _quotient(size: Any, block: int) -> Any:
    """``size // block`` for what is not negative: a traced one is spared the look at the sign."""
    return size // block if _is_known(size) else lax.div(size, jnp.asarray(block, size.dtype))


def _none_unless_below(first: Any, limit: Any, stop: Any) -> Any:
    if _is_known(first, limit):
        return stop if first < limit else 0
    return jnp.where(first < limit, stop, 0)


def _is_known(*sizes: Any) -> bool:
    return all(isinstance(size, int) for size in sizes)


def _larger(left: Any, right: Any) -> Any:
    return max(left, right) if _is_known(left, right) else jnp.maximum(left, right)


def _smaller(left: Any, right: Any) -> Any:
    return min(left, right) if _is_known(left, right) else jnp.minimum(left, right)
