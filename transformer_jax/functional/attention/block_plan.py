"""Which blocks of queries look at which keys: plain arithmetic on static sizes, nothing traced.

Queries go in blocks of rows. What a causal or window part of the mask hides from every row of a block is left
out of its keys, as far as it follows from default positions alone: a causal pass computes about half of all
pairs, a window of ``w`` about ``length * (w + block)``. The blocks of a group share one program; the groups of
a causal pass stand for a staircase under the diagonal with at most ``MAX_GROUPS`` steps.
"""

from typing import NamedTuple

from transformer_jax.functional.masks import AttentionMask

MAX_GROUPS = 16


class QueryGroup(NamedTuple):
    """``num_blocks`` blocks of ``block`` queries from ``start`` on, and the keys that they look at.

    Attributes:
      start: First query.
      block: Queries of a block.
      num_blocks: Number of blocks.
      keys_start: First key; for moving keys of the first block, before it is held inside the keys.
      num_keys: Keys of each block.
      moves: Whether the keys move on with the blocks, or are the same for all.
    """

    start: int
    block: int
    num_blocks: int
    keys_start: int
    num_keys: int
    moves: bool


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
      >>> [tuple(group) for group in plan_queries(AttentionMask.causal(), 5, 5, 2)]
      [(0, 2, 1, 0, 2, False), (2, 2, 1, 0, 4, False), (4, 1, 1, 0, 5, False)]
    """
    back, ahead = _reach(mask, q_len, kv_len)
    count, rest = divmod(q_len, block)
    groups = []
    width = block + back + ahead
    if count and 2 * width <= kv_len:
        groups.append(QueryGroup(0, block, count, -back, width, True))
    elif count:
        steps = 1 if back >= kv_len and ahead >= kv_len else MAX_GROUPS
        per_step = -(-count // steps)
        for first in range(0, count, per_step):
            blocks = min(per_step, count - first)
            groups.append(_fixed(first * block, block, blocks, kv_len, back, ahead))
    if rest:
        groups.append(_fixed(count * block, rest, 1, kv_len, back, ahead))
    return groups


def plan_keys(num_keys: int, block: int) -> list[KeyRun]:
    """Cut keys into runs of equal blocks.

    Example:
      >>> [tuple(run) for run in plan_keys(10, 4)]
      [(0, 4, 2), (8, 2, 1)]
    """
    count, rest = divmod(num_keys, block)
    runs = [KeyRun(0, block, count)] if count else []
    return [*runs, KeyRun(count * block, rest, 1)] if rest else runs


def planned_pairs(groups: list[QueryGroup]) -> int:
    """How many pairs of a query and a key the groups compute.

    Example:
      >>> planned_pairs(plan_queries(AttentionMask(), 6, 5, 4))
      30
    """
    return sum(group.num_blocks * group.block * group.num_keys for group in groups)


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
    return QueryGroup(start, block, count, first, stop - first, False)
