"""The loops of the Mosaic GPU kernels in plain JAX: same blocks in the same order, same running softmax.

Stands in for ``mosaic_gpu_kernels``, so that everything around the kernels (guard, padding, lengths, derivatives) and
their formulas are under test where no kernel can run. Arrays keep their dtype here, so that float32 can be compared
closely.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from transformer_jax.functional.attention.mosaic_gpu_plan import (
    TILE,
    block_sizes,
    key_blocks,
    query_blocks,
    stretches,
    visible_pairs,
)

LOWEST = -1e30


def forward(problem, query, key, value, key_side):
    block = block_sizes(query.shape[-1], value.shape[-1]).forward_keys
    factor = problem.scale * math.log2(math.e)

    def one_tile(query, key, value, side, first_row):
        stop, valid = side
        maximum = jnp.full((TILE,), LOWEST)
        total, accumulator = jnp.zeros((TILE,)), jnp.zeros((TILE, value.shape[1]))

        def visit(index, carry, masked):
            maximum, total, accumulator = carry
            scores = products(query, part(key, index, block))
            if masked:
                scores = hidden(scores, problem, first_row, index * block, stop, part(valid, index, block))
            new_maximum = jnp.maximum(maximum, scores.max(axis=1) * factor)
            weights = jnp.exp2(scores * factor - new_maximum[:, None])
            shrink = jnp.exp2(maximum - new_maximum)
            added = products(weights.astype(value.dtype), part(value, index, block).T)
            return new_maximum, total * shrink + weights.sum(1), accumulator * shrink[:, None] + added

        span = key_blocks(first_row, TILE, stop, problem.reach, block)
        maximum, total, accumulator = over(span, key_side, visit, (maximum, total, accumulator))
        divisor = jnp.where(total == 0, 1.0, total)
        output = (accumulator / divisor[:, None]).astype(value.dtype)
        return output, jnp.where(total == 0, jnp.inf, maximum + jnp.log2(divisor))

    def one_head(query, key, value, side):
        tiles = [
            one_tile(part(query, i, TILE), key, value, side, i * TILE) for i in range(len(query) // TILE)
        ]
        return tuple(jnp.concatenate(parts) for parts in zip(*tiles))

    output, logsumexp = over_heads(one_head, problem, key_side, query, *shared(query, key, value))
    return jnp.swapaxes(output, 1, 2), logsumexp


def query_gradient(problem, query, key, value, key_side, d_output, logsumexp, delta):
    block = block_sizes(query.shape[-1], value.shape[-1]).backward_keys

    def one_tile(rows, key, value, side, first_row):
        query, d_output, logsumexp, delta = rows
        stop, valid = side

        def visit(index, d_query, masked):
            keys = part(key, index, block)
            scores = products(query, keys)
            if masked:
                scores = hidden(scores, problem, first_row, index * block, stop, part(valid, index, block))
            weights = jnp.exp2(scores * problem.scale * math.log2(math.e) - logsumexp[:, None])
            d_scores = weights * (products(d_output, part(value, index, block)) - delta[:, None])
            return d_query + products(d_scores.astype(key.dtype), keys.T)

        span = key_blocks(first_row, TILE, stop, problem.reach, block)
        return over(span, key_side, visit, jnp.zeros(query.shape)) * problem.scale

    def one_head(query, key, value, d_output, logsumexp, delta, side):
        rows = (query, d_output, logsumexp, delta)
        return over_tiles(
            lambda i: one_tile([part(array, i, TILE) for array in rows], key, value, side, i * TILE), query
        ).astype(query.dtype)

    arrays = (*shared(query, key, value), jnp.swapaxes(d_output, 1, 2), logsumexp, delta)
    return jnp.swapaxes(over_heads(one_head, problem, key_side, query, *arrays), 1, 2)


def key_gradients(problem, query, key, value, key_side, d_output, logsumexp, delta):
    block = block_sizes(query.shape[-1], value.shape[-1]).backward_queries

    def one_tile(key, value, rows, side, first_key):
        query, d_output, logsumexp, delta = rows

        def visit(index, carry, masked):
            d_key, d_value = carry
            queries, d_outputs = part(query, index, block), part(d_output, index, block)
            scores = products(queries, key)
            if masked:
                scores = hidden(scores, problem, index * block, first_key, problem.kv_len, None)
            weights = jnp.exp2(
                scores * problem.scale * math.log2(math.e) - part(logsumexp, index, block)[:, None]
            )
            d_scores = weights * (products(d_outputs, value) - part(delta, index, block)[:, None])
            d_value += products(weights.astype(value.dtype).T, d_outputs.T)
            return d_key + products(d_scores.astype(key.dtype).T, queries.T), d_value

        span = query_blocks(first_key, TILE, problem.q_len, side[0], problem.reach, block)
        start = (jnp.zeros(key.shape), jnp.zeros(value.shape))
        d_key, d_value = over(span, key_side._replace(valid=None), visit, start)
        return d_key * problem.scale, d_value

    def one_head(query, key, value, d_output, logsumexp, delta, side):
        rows = (query, d_output, logsumexp, delta)
        return over_tiles(
            lambda i: one_tile(part(key, i, TILE), part(value, i, TILE), rows, side, i * TILE), key
        )

    arrays = (*shared(query, key, value), jnp.swapaxes(d_output, 1, 2), logsumexp, delta)
    gradients = over_heads(one_head, problem, key_side, query, *arrays)

    def summed(gradient, like):  # the kernel goes through the heads of a group one after the other
        batch, _, length, width = gradient.shape
        return jnp.swapaxes(gradient.reshape(batch, like.shape[2], -1, length, width).sum(2), 1, 2)

    return tuple(summed(grad, like).astype(like.dtype) for grad, like in zip(gradients, (key, value)))


def products(left, right):
    return jnp.dot(left, right.T, preferred_element_type=jnp.float32)


def part(array, index, size):
    return None if array is None else lax.dynamic_slice_in_dim(array, index * size, size)


def hidden(scores, problem, first_row, first_key, key_stop, valid):
    rows = first_row + lax.broadcasted_iota(jnp.int32, scores.shape, 0)
    keys = first_key + lax.broadcasted_iota(jnp.int32, scores.shape, 1)
    scores = jnp.where(visible_pairs(rows, keys, key_stop, problem.reach), scores, -jnp.inf)
    return scores if valid is None else jnp.where(valid[None] > 0, scores, -jnp.inf)


def over(span, key_side, visit, carry):
    for start, stop, masked in stretches(span, key_side.valid is not None):
        carry = lax.fori_loop(start, stop, functools.partial(visit, masked=masked), carry)
    return carry


def over_tiles(one_tile, like):
    """``one_tile`` of every place, put together along the rows of ``like``."""
    tiles = lax.map(one_tile, jnp.arange(len(like) // TILE))
    return jax.tree.map(lambda array: array.reshape(len(like), *array.shape[2:]), tiles)


def shared(query, key, value):
    """Heads first, and keys and values for each query head."""
    group = query.shape[2] // key.shape[2]
    heads_first = (jnp.swapaxes(array, 1, 2) for array in (query, key, value))
    query, key, value = heads_first
    return query, jnp.repeat(key, group, axis=1), jnp.repeat(value, group, axis=1)


def over_heads(one_head, problem, key_side, query, *arrays):
    """``one_head(*arrays, (key stop, valid))`` for every sequence and head."""
    if key_side.stops is None:
        one = functools.partial(one_head, side=(problem.kv_len, None))
        return jax.vmap(jax.vmap(one))(*arrays)

    def one_row(side, *arrays):
        return jax.vmap(functools.partial(one_head, side=(side.stops, side.valid)))(*arrays)

    return jax.vmap(one_row)(key_side, *arrays)
