"""Products of one block of blockwise attention, and the gradients of one block's scores.

Gradients of keys and values are held with the keys last, so that no product has to turn its large operand.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from transformer_jax.functional.dtypes import wide
from transformer_jax.functional.score_products import tanh_gradients
from transformer_jax.functional.scores import Additive, AdditiveSum, Concat, Dot, General, ScaledDot
from transformer_jax.pytree import replace
from transformer_jax.typing import Array


def weighted_values(weights: Array, value: Array) -> Array:
    """``[batch, heads, q, kv]`` times ``[batch, kv, value_heads, dim]``: ``[batch, heads, q, dim]``."""
    batch, num_heads, q_len, kv_len = weights.shape
    value_heads = value.shape[2]
    if batch == num_heads == 1:  # as in products: no axes of one
        return jnp.einsum(
            "qk,kd->qd",
            weights[0, 0].astype(value.dtype),
            value[0, :, 0],
            preferred_element_type=wide(value.dtype),
        )[None, None]
    grouped = weights.astype(value.dtype).reshape(batch, value_heads, num_heads // value_heads, q_len, kv_len)
    output = jnp.einsum("bngqk,bknd->bngqd", grouped, value, preferred_element_type=wide(value.dtype))
    return output.reshape(batch, num_heads, q_len, value.shape[-1])


def weighted_rows(weights: Array, rows: Array, key_heads: int) -> Array:
    """``sum_i w_ij r_i`` over the rows of a block and the heads of a group, ``[batch, key_heads, dim, kv]``."""
    batch, num_heads, q_len, kv_len = weights.shape
    group = num_heads // key_heads
    if batch == num_heads == 1:
        return jnp.einsum(
            "qd,qk->dk",
            rows[0, :, 0],
            weights[0, 0].astype(rows.dtype),
            preferred_element_type=wide(rows.dtype),
        )[None, None]
    weights = weights.astype(rows.dtype).reshape(batch, key_heads, group, q_len, kv_len)
    grouped = rows.reshape(batch, q_len, key_heads, group, rows.shape[-1])
    return jnp.einsum("bqngd,bngqk->bndk", grouped, weights, preferred_element_type=wide(rows.dtype))


def keys_last(array: Array) -> Array:
    """``[batch, kv_len, heads, width]`` to ``[batch, heads, width, kv_len]``."""
    return jnp.moveaxis(array, 1, 3)


def keys_first(array: Array) -> Array:
    """``[batch, heads, width, kv_len]`` to ``[batch, kv_len, heads, width]``."""
    return jnp.moveaxis(array, 3, 1)


def pair_gradients(
    rule: Any, query: Array, key: Array, *, one_query_at_a_time: bool
) -> Callable[[Array], tuple[Any, Array, Array]] | None:
    """Gradient of the scores to those of rule, queries and keys (keys last), for rules that have a faster one.

    Of the parameters those that prepare queries and keys have their gradient through what they prepared.
    """
    if isinstance(rule, Dot | General):
        factor = 1.0
        if isinstance(rule, ScaledDot) and key.dtype.itemsize < 4:  # wider queries are scaled already
            factor = rule.scale_for(key.shape[-1])

        def of_products(gradient: Array) -> tuple[Any, Array, Array]:
            scaled = (gradient * factor).astype(key.dtype)
            d_rows = jnp.swapaxes(weighted_values(scaled, key), 1, 2)
            return jax.tree.map(jnp.zeros_like, rule), d_rows, weighted_rows(scaled, query, key.shape[2])

        return of_products
    if isinstance(rule, Additive | AdditiveSum | Concat) and one_query_at_a_time:

        def of_tanh(gradient: Array) -> tuple[Any, Array, Array]:
            vector = None if isinstance(rule, AdditiveSum) else rule.vector
            d_rows, d_key, d_vector = tanh_gradients(gradient, query, key, vector)
            d_rule = jax.tree.map(jnp.zeros_like, rule)
            return d_rule if vector is None else replace(d_rule, vector=d_vector), d_rows, keys_last(d_key)

        return of_tanh
    return None
