"""Which blocks of queries look at which keys: plain arithmetic.

Queries go in blocks of rows. What a causal or window part of the mask hides from every row of a block is left
out of its keys, as far as it follows from default positions alone: a causal pass computes about half of all
pairs, a window of ``w`` about ``length * (w + block)``. The blocks of a group share one program. A causal pass of
a few blocks is a staircase of groups under the diagonal, each with all its keys at once; one of many blocks is a
single group, so that there is little to compile, whose blocks visit as many blocks of keys as they need. Keys of
which the causal part hides nothing are told apart, so that only the blocks on the diagonal are masked.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from transformer_jax.functional.masks import AttentionMask

MAX_STEPS = 8
"""Groups of a staircase, at most."""


class QueryGroup(NamedTuple):
    """``num_blocks`` blocks of ``block`` queries from ``start`` on, and the keys that they look at.

    Attributes:
      start: First query.
      block: Queries of a block.
      num_blocks: Number of blocks.
      keys_start: First key; for moving keys of the first block, before it is held inside the keys.
      num_keys: Keys of each block, at most.
      moves: Whether the keys move on with the blocks, or are the same for all.
      back: Keys before its first query that a block may see, if it visits no more than it needs.
      ahead: Keys after its last query, likewise; both are ``None`` where all ``num_keys`` are visited.
      num_clear: So many of the first keys neither the causal nor the window part hides from any row.
    """

    start: int
    block: int
    num_blocks: int
    keys_start: int
    num_keys: int
    moves: bool
    back: int | None = None
    ahead: int | None = None
    num_clear: int = 0


class KeyRun(NamedTuple):
    """``num_blocks`` blocks of ``block`` keys, ``offset`` keys after the first one of a group."""

    offset: int
    block: int
    num_blocks: int


def plan_queries(mask: AttentionMask, q_len: int, kv_len: int, block: int) -> list[QueryGroup]:
    """Cut the queries into groups of blocks.

    Args:
      mask: Its causal and window parts limit the keys, if positions are the default.
      q_len: Number of queries.
      kv_len: Number of keys.
      block: Queries of a block; the last block may be smaller.

    Returns:
      The groups, which cover every query once.

    Example:
      >>> from pprint import pprint
      >>> pprint([tuple(group) for group in plan_queries(AttentionMask.causal(), 5, 5, 2)], width=50)
      [(0, 2, 1, 0, 2, False, None, None, 0),
       (2, 2, 1, 0, 4, False, None, None, 2),
       (4, 1, 1, 0, 5, False, None, None, 4)]
    """
    back, ahead = _reach(mask, q_len, kv_len)
    count, rest = divmod(q_len, block)
    groups = []
    width = block + back + ahead
    if count and 2 * width <= kv_len:
        groups.append(QueryGroup(0, block, count, -back, width, True))
    elif count:
        if back >= kv_len and ahead >= kv_len:
            groups.append(_fixed(0, block, count, kv_len, back, ahead))
        elif count <= MAX_STEPS:
            groups += [_fixed(index * block, block, 1, kv_len, back, ahead) for index in range(count)]
        else:
            groups.append(QueryGroup(0, block, count, 0, kv_len, False, back, ahead))
    if rest:
        groups.append(_fixed(count * block, rest, 1, kv_len, back, ahead))
    if mask.has_default_positions:
        return groups
    return [group._replace(num_clear=0) for group in groups]  # nothing is known of their order


def plan_keys(group: QueryGroup, block: int) -> list[KeyRun]:
    """Cut the keys of a group into runs of equal blocks; the clear ones and the others are runs apart.

    Example:
      >>> [tuple(run) for run in plan_keys(QueryGroup(0, 4, 1, 0, 10, False), 4)]
      [(0, 4, 2), (8, 2, 1)]
    """
    parts = ((0, group.num_clear), (group.num_clear, group.num_keys - group.num_clear))
    runs = []
    for offset, length in parts:
        count, rest = divmod(length, block)
        runs += [KeyRun(offset, block, count)] if count else []
        runs += [KeyRun(offset + count * block, rest, 1)] if rest else []
    return runs


def needed_blocks(group: QueryGroup, run: KeyRun, index: Any) -> tuple[Any, Any, Any]:
    """Which blocks of a run of keys block ``index`` of a group visits: ``(begin, middle, stop)``.

    From ``begin`` to before ``middle`` the causal and the window part hide nothing, from there to before ``stop``
    they may.

    Example:
      >>> group = QueryGroup(0, 4, 3, 0, 12, False, back=12, ahead=0)
      >>> [tuple(map(int, needed_blocks(group, KeyRun(0, 2, 6), index))) for index in range(3)]
      [(0, 0, 2), (0, 2, 4), (0, 4, 6)]
    """
    if group.back is None or group.ahead is None:
        return 0, run.num_blocks if run.offset < group.num_clear else 0, run.num_blocks
    start = group.start + index * group.block - group.keys_start - run.offset
    first = (start - group.back) // run.block
    stop = -(-(start + group.block + group.ahead) // run.block)
    begin, stop = jnp.clip(first, 0, run.num_blocks), jnp.clip(stop, 0, run.num_blocks)
    if group.back < group.num_keys:
        return begin, begin, stop
    return begin, jnp.clip((start + group.ahead) // run.block, begin, stop), stop


def _reach(mask: AttentionMask, q_len: int, kv_len: int) -> tuple[int, int]:
    """How many keys back and ahead a query may see at most; all of them where nothing is known."""
    everything = max(q_len, kv_len)
    if not mask.has_default_positions:
        return everything, everything
    ahead = 0 if mask.is_causal else mask.window_right
    back = mask.window_left
    return (
        everything if back is None else min(back, everything),
        everything if ahead is None else min(ahead, everything),
    )


def _fixed(start: int, block: int, count: int, kv_len: int, back: int, ahead: int) -> QueryGroup:
    """A group whose blocks all look at the keys that any of them may see."""
    first = min(max(0, start - back), kv_len)
    stop = max(first, min(kv_len, start + count * block + ahead))
    sees_the_first = start + count * block - 1 <= back
    clear = min(max(0, start + ahead), stop) if sees_the_first else 0
    return QueryGroup(start, block, count, first, stop - first, False, num_clear=clear)
