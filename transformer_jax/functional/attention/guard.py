"""Keep NaN and Inf in masked slots out of sums, where zero times NaN would let them in."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from transformer_jax.functional.attention.contract import AttentionCall
from transformer_jax.functional.derivatives import varying_alike
from transformer_jax.typing import Array, Bool

_GUARD_ROWS = 128


class GuardedArrays(NamedTuple):
    """Arrays that are safe to multiply by a zero weight.

    Attributes:
      query: The queries; zeros in rows that see no key.
      key: The keys; zeros in hidden slots.
      value: The values; zeros in hidden slots.
      mask: The mask, an axis along which nothing varies has size 1, or ``None`` = all allowed.
      poisoned: Rows that see a slot whose NaN or Inf was taken out, ``[batch, heads, q_len]``, or ``None``.
      nonempty: Rows that see a key, ``[batch|1, heads|1, q_len|1]``; ``None`` = known to be all.
    """

    query: Array
    key: Array
    value: Array
    mask: Array | None
    poisoned: Array | None
    nonempty: Array | None


def guard(call: AttentionCall) -> GuardedArrays:
    """Clean the call's arrays as far as its mask makes it necessary."""
    query, key, value = call.query, call.key, call.value
    mask = call.mask.compact(call.q_len, call.kv_len)
    if mask is None:
        return GuardedArrays(query, key, value, None, None, None)
    nonempty, poisoned = None, None
    if call.mask.may_have_empty_rows(call.q_len, call.kv_len):
        nonempty = jnp.any(mask, axis=-1)
        query = _zero_unless(jnp.swapaxes(nonempty, 1, 2)[..., None], query)
    if call.mask.is_pairwise:
        # A slot hidden from one query may be seen by the next, so non-finite slots are emptied for all and
        # the rows that do see one are marked.
        finite_key, finite_value = jnp.isfinite(key), jnp.isfinite(value)
        key, value = _zero_unless(finite_key, key), _zero_unless(finite_value, value)
        poisoned = jnp.any(mask & ~(_slots(finite_key, call) & _slots(finite_value, call)), axis=-1)
    else:
        seen = mask[:, 0, 0, :, None, None]  # [batch|1, kv_len, 1, 1]
        key, value = _zero_unless(seen, key), _zero_unless(seen, value)
    return GuardedArrays(query, key, value, mask, poisoned, nonempty)


def guard_in_linear_memory(call: AttentionCall) -> GuardedArrays:
    """As :func:`guard`, but a mask of queries by keys is never written out: ``mask`` and ``nonempty`` are ``None``.

    Which rows see a slot that is not finite is looked for block by block, and only if there is such a slot.
    """
    if not call.mask.is_pairwise:
        return guard(call)._replace(mask=None, nonempty=None)  # that mask has one row for all queries
    query, key, value = varying_alike(call.query, call.key, call.value)
    finite = [jnp.isfinite(array) for array in (query, key, value)]
    bad_rows = ~jnp.swapaxes(jnp.all(finite[0], axis=-1), 1, 2)  # [batch, heads, q_len]
    bad_slots = ~(_slots(finite[1], call) & _slots(finite[2], call))  # [batch, heads, 1, kv_len]
    poisoned = lax.cond(
        jnp.any(bad_rows) | jnp.any(bad_slots),
        lambda: _rows_that_see(call, bad_rows, bad_slots),
        lambda: jnp.zeros_like(bad_rows),
    )
    cleaned = [_zero_unless(keep, array) for keep, array in zip(finite, (query, key, value))]
    return GuardedArrays(cleaned[0], cleaned[1], cleaned[2], None, poisoned, None)


def _rows_that_see(call: AttentionCall, bad_rows: Array, bad_slots: Array) -> Array:
    """Rows that see a bad slot, or are bad themselves and see any; a block of rows at a time."""
    size = max(1, min(call.q_len, _GUARD_ROWS))
    found = []
    for start, count, block in (
        (0, call.q_len // size, size),
        (call.q_len // size * size, 1, call.q_len % size),
    ):
        if not block or not count:
            continue

        def rows(index: Array, start: int = start, block: int = block) -> Array:
            place = (start + index * block, block)
            mask = call.mask.compact(call.q_len, call.kv_len, query_slice=place)
            bad = bad_slots | lax.dynamic_slice_in_dim(bad_rows, *place, axis=2)[..., None]
            return jnp.any(bad if mask is None else bad & mask, axis=-1)  # [batch, heads, rows]

        blocks = lax.map(rows, jnp.arange(count))
        found.append(jnp.moveaxis(blocks, 0, 2).reshape(*bad_rows.shape[:2], count * block))
    return jnp.concatenate(found, axis=2) if found else bad_rows


def mark_poisoned(output: Array, poisoned: Array | None) -> Array:
    """Put NaN in the rows of ``[batch, q_len, heads, value_dim]`` that see a non-finite slot."""
    if poisoned is None:
        return output
    return jnp.where(jnp.swapaxes(poisoned, 1, 2)[..., None], jnp.full_like(output, jnp.nan), output)


def _zero_unless(keep: Bool[Array, "..."], array: Array) -> Array:
    return jnp.where(keep, array, jnp.zeros_like(array))


def _slots(finite: Array, call: AttentionCall) -> Array:
    """``[batch, kv_len, some heads, features]`` to ``[batch, heads, 1, kv_len]``."""
    slots = jnp.swapaxes(jnp.all(finite, axis=-1), 1, 2)
    return jnp.repeat(slots, call.num_heads // slots.shape[1], axis=1)[:, :, None, :]
