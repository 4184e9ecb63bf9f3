"""One block of queries against one block of keys: its place, scores, biases, mask and reweight."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from transformer_jax.functional.attention.block_plan import QueryGroup, needed_blocks, plan_keys
from transformer_jax.functional.attention.block_products import keys_last, pair_gradients
from transformer_jax.functional.masks import AttentionMask, pick
from transformer_jax.typing import Array

Visit = Callable[[Any, AttentionMask, Any, int], Any]


class Blocks(NamedTuple):
    """The differentiable arrays of a call: ``[batch, length, heads, width]``, rule, biases and reweight."""

    query: Any
    key: Any
    value: Any
    score: Any
    bias: Any
    dense_bias: Any
    reweight: Any


class Fixed(NamedTuple):
    """Inputs without gradient: the mask, and the random words of dropout."""

    mask: AttentionMask
    dropout_keys: Array | None


class Place:
    """One block of queries: its position, and its slices of everything that has rows."""

    def __init__(self, blocks: Blocks, fixed: Fixed, group: QueryGroup, index: Any) -> None:
        self.size, self.group, self.index = group.block, group, index
        self.mask, self.clear_mask = fixed.mask, fixed.mask.without_order()
        self.start = group.start + index * group.block
        first: Any = group.keys_start
        if group.moves:
            kv_len = blocks.key.shape[1]
            first = jnp.clip(first + index * group.block, 0, kv_len - group.num_keys)
        self.first_key = first
        self.query = self.rows(blocks.query, 1)
        self.reweight = (
            None if blocks.reweight is None else blocks.reweight.for_queries(self.start, self.size)
        )
        self.dropout_keys = None if fixed.dropout_keys is None else self.rows(fixed.dropout_keys, 2)

    def rows(self, array: Array, axis: int) -> Array:
        """The block's rows of an array."""
        return pick(array, axis, self.start, self.size)

    def visits(self, key_block: int, visit: Visit, carry: Any) -> Any:
        """Fold ``visit(carry, mask, first key, number of keys)`` over the block's keys."""
        for run in plan_keys(self.group, key_block):
            first = self.first_key + run.offset
            begin, middle, stop = needed_blocks(self.group, run, self.index)
            for mask, low, high in ((self.clear_mask, begin, middle), (self.mask, middle, stop)):
                if isinstance(low, int) and isinstance(high, int) and high - low <= 1:
                    carry = visit(carry, mask, first + low * run.block, run.block) if high > low else carry
                else:
                    carry = lax.fori_loop(low, high, _step(visit, mask, first, run.block), carry)
        return carry


def _step(visit: Visit, mask: AttentionMask, first: Any, size: int) -> Callable[[Any, Any], Any]:
    return lambda index, carry: visit(carry, mask, first + index * size, size)


def biased_scores(
    blocks: Blocks, mask: AttentionMask, place: Place, first: Any, size: int
) -> Callable[[Any, Any, Any, Array, Array], Array]:
    """Scores with biases of one block, as a function of everything that they are differentiated by."""
    q_len, kv_len = blocks.query.shape[1], blocks.key.shape[1]
    query_positions = place.rows(mask.query_positions_or_default(q_len), 1)
    key_positions = pick(mask.key_positions_or_default(kv_len), 1, first, size)

    def scores(score: Any, bias: Any, dense: Array | None, query: Array, key: Array) -> Array:
        values = score.score(query, key, query_positions, key_positions)
        if bias is not None:
            values = values + bias.block(query_positions, key_positions).astype(values.dtype)
        return values if dense is None else values + dense.astype(values.dtype)

    return scores


def differentiable_scores(
    blocks: Blocks, mask: AttentionMask, place: Place, first: Any, key: Array, *, one_query_at_a_time: bool
) -> tuple[Array, Callable[[Array], tuple[Any, Any, Any, Array, Array]]]:
    """Scores of one block, and what takes their gradient to those of rule, biases, rows and keys (keys last)."""
    dense = bias_block(blocks.dense_bias, place, first, key.shape[1])
    scores = biased_scores(blocks, mask, place, first, key.shape[1])
    pull_pairs = pair_gradients(blocks.score, place.query, key, one_query_at_a_time=one_query_at_a_time)
    if pull_pairs is None:
        values, pull = jax.vjp(scores, blocks.score, blocks.bias, dense, place.query, key)

        def pull_back(gradient: Array) -> tuple[Any, Any, Any, Array, Array]:
            *others, d_key = pull(gradient)
            return (*others, keys_last(d_key))

        return values, pull_back

    def biased(bias: Any, dense: Array | None) -> Array:
        return scores(blocks.score, bias, dense, place.query, key)

    values, pull_biases = jax.vjp(biased, blocks.bias, dense)

    def pull_back_pairs(gradient: Array) -> tuple[Any, Any, Any, Array, Array]:
        d_bias, d_dense = pull_biases(gradient)
        d_score, d_rows, d_key = pull_pairs(gradient)
        return d_score, d_bias, d_dense, d_rows, d_key

    return values, pull_back_pairs


def block_factors(
    blocks: Blocks, mask: AttentionMask, first: Any, size: int, weights: Array
) -> Callable[[Any], Array]:
    """Factors of one block's weights, as a function of the block's reweight."""
    key_positions = pick(mask.key_positions_or_default(blocks.key.shape[1]), 1, first, size)

    def factors(reweight: Any) -> Array:
        return jnp.broadcast_to(reweight.block(key_positions).astype(weights.dtype), weights.shape)

    return factors


def hidden_scores(
    scores: Array, blocks: Blocks, mask: AttentionMask, place: Place, first: Any, size: int
) -> Array:
    """Scores with minus infinity where the mask hides the key."""
    allowed = mask.compact(
        blocks.query.shape[1],
        blocks.key.shape[1],
        query_slice=(place.start, place.size),
        key_slice=(first, size),
    )
    return scores if allowed is None else jnp.where(allowed, scores, -jnp.inf)


def bias_start(dense: Array, place: Place, first: Any) -> tuple[Any, ...]:
    return 0, 0, place.start if dense.shape[2] > 1 else 0, first if dense.shape[3] > 1 else 0


def bias_block(dense: Array | None, place: Place, first: Any, size: int) -> Array | None:
    """A block of ``[batch|1, heads|1, q_len|1, kv_len|1]``."""
    if dense is None:
        return None
    return pick(pick(dense, 2, place.start, place.size), 3, first, size)


def add_at(total: Array, part: Array, start: tuple[Any, ...]) -> Array:
    """``total`` with ``part`` added at ``start``."""
    if part.shape == total.shape:
        return total + part
    before = lax.dynamic_slice(total, start, part.shape)
    return lax.dynamic_update_slice(total, before + part.astype(total.dtype), start)
