r"""Attention as two batched matrix products, heads first, for sequences so short that all scores fit the caches.

Queries, keys and values are turned once to ``[batch, heads, length, width]``, where every product reads whole rows. The
sum of a row's exponentials divides the weighted values, which are fewer than the weights:

.. math::
   e_{ij} = m_{ij} \exp(s_{ij} - \max_l s_{il}), \quad t_i = \sum_j e_{ij}, \quad
   o_i = \frac{1}{t_i} \sum_j e_{ij} f_{ij} v_j

with :math:`f` the factors of a reweight and of dropout. The exponentials are kept for the gradient:

.. math::
   \bar o'_i = \bar o_i / t_i, \quad \bar v_j = \sum_i e_{ij} f_{ij} \bar o'_i, \quad
   \bar w_{ij} = f_{ij}\, \bar o'_i \cdot v_j, \quad
   \bar s_{ij} = e_{ij} \Bigl(\bar w_{ij} - \frac{1}{t_i} \sum_l e_{il} \bar w_{il}\Bigr)

With the sum of the same products a row that sees one key has a gradient of exactly zero.

Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2.1; the order of division: Dao et al. 2022,
https://arxiv.org/abs/2205.14135, section 3.1.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from transformer_jax.functional.attention.contract import AttentionCall, by_own_rows
from transformer_jax.functional.attention.guard import guard, mark_poisoned
from transformer_jax.functional.derivatives import Rules, with_backward
from transformer_jax.functional.dropout import kept
from transformer_jax.functional.dtypes import wide
from transformer_jax.functional.scores import Dot, General, ScaledDot
from transformer_jax.typing import Array


class _Static(NamedTuple):
    """What is known when a program is traced: the factor of the products, and the rate of dropout."""

    scale: float
    rate: float


class _Arrays(NamedTuple):
    """What has a gradient; bias and factors broadcast to ``[batch, heads, q_len, kv_len]``."""

    query: Array
    key: Array
    value: Array
    bias: Array | None
    factors: Array | None


class _Rest(NamedTuple):
    """What has none."""

    mask: Array | None
    dropout_words: Array | None


def refusals(call: AttentionCall) -> list[str]:
    """Reasons not to do the call, whatever the machine."""
    if isinstance(call.score, Dot | General):
        return []
    return [f"the score rule {type(call.score).__name__} is not a product of queries and keys"]


@by_own_rows
def attend(call: AttentionCall) -> Array:
    """The output ``[batch, q_len, heads, value_dim]``."""
    safe = guard(call)
    words, rate = call.dropout_words()
    query = call.score.prepare_query(safe.query)
    key = safe.key if call.key_is_prepared else call.score.prepare_key(safe.key)
    scale = 1.0  # of wide queries `prepare_query` has scaled, of 16 bits the scores are
    if isinstance(call.score, ScaledDot) and query.dtype.itemsize < 4:
        scale = call.score.scale_for(query.shape[-1])
    factors = None
    if call.reweight is not None:
        factors = call.reweight.block(call.mask.key_positions_or_default(call.kv_len))
    arrays = _Arrays(query, key, safe.value, call.dense_bias(), factors)
    output = with_backward(_RULES, _Static(scale, rate), arrays, _Rest(safe.mask, words))[0][0]
    return mark_poisoned(output, safe.poisoned)


def _forward(static: _Static, arrays: _Arrays, rest: _Rest) -> tuple[Array, Array, Array]:
    """The output, the exponentials ``[batch, heads, q_len, kv_len]``, and ``1 / t``, ``[batch, heads, q_len, 1]``."""
    num_heads, key_heads, value_heads = (array.shape[2] for array in (arrays.query, arrays.key, arrays.value))
    scores = _einsum("bnqd,bnkd->bnqk", _by_head(arrays.query, key_heads), _by_head(arrays.key, key_heads))
    scores = _of_heads(scores, num_heads) * static.scale
    if arrays.bias is not None:
        scores = scores + arrays.bias.astype(scores.dtype)
    if rest.mask is not None:
        scores = jnp.where(rest.mask, scores, -jnp.inf)
    maximum = lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True, initial=-jnp.inf))
    exponentials = jnp.exp(scores - jnp.where(jnp.isneginf(maximum), 0.0, maximum))
    total = exponentials.sum(axis=-1, keepdims=True)
    inverse = 1.0 / jnp.where(total == 0, 1.0, total)  # a fully masked row has no exponentials
    applied = _times(exponentials, arrays.factors)
    if rest.dropout_words is not None:
        applied = jnp.where(kept(rest.dropout_words, 0, applied.shape[-1], static.rate), applied, 0.0)
    applied = _of_heads(applied.astype(arrays.value.dtype), value_heads)
    summed = _of_heads(_einsum("bnqk,bnkd->bnqd", applied, _by_head(arrays.value, value_heads)), num_heads)
    output = jnp.swapaxes(summed * (inverse / (1.0 - static.rate)), 1, 2)
    return output.astype(arrays.value.dtype), exponentials, inverse


def _backward(
    static: _Static, arrays: _Arrays, rest: _Rest, outputs: tuple[Array, ...], cotangents: tuple[Array, ...]
) -> _Arrays:
    _, exponentials, inverse = outputs
    d_output = cotangents[0]  # exponentials and 1 / t do not leave `attend`: their cotangents are zero
    num_heads, key_heads, value_heads = (array.shape[2] for array in (arrays.query, arrays.key, arrays.value))
    d_summed = (jnp.swapaxes(d_output, 1, 2) * (inverse / (1.0 - static.rate))).astype(arrays.value.dtype)
    d_summed = _of_heads(d_summed, value_heads)

    d_applied = _einsum("bnqd,bnkd->bnqk", d_summed, _by_head(arrays.value, value_heads))
    d_applied, applied = _of_heads(d_applied, num_heads), _times(exponentials, arrays.factors)
    if rest.dropout_words is not None:
        keep = kept(rest.dropout_words, 0, applied.shape[-1], static.rate)
        d_applied, applied = jnp.where(keep, d_applied, 0.0), jnp.where(keep, applied, 0.0)
    applied = _of_heads(applied.astype(arrays.value.dtype), value_heads)
    d_value = _einsum("bnqk,bnqd->bnkd", applied, d_summed)

    d_weights = _times(d_applied, arrays.factors)
    mean = (exponentials * d_weights).sum(axis=-1, keepdims=True) * inverse
    d_scores = exponentials * (d_weights - mean)
    d_products = _of_heads((d_scores * static.scale).astype(arrays.key.dtype), key_heads)
    d_query = _einsum("bnqk,bnkd->bnqd", d_products, _by_head(arrays.key, key_heads))
    d_key = _einsum("bnqk,bnqd->bnkd", d_products, _by_head(arrays.query, key_heads))
    return _Arrays(
        query=_by_place(d_query, arrays.query),
        key=_by_place(d_key, arrays.key),
        value=_by_place(d_value, arrays.value),
        bias=_summed_to(d_scores, arrays.bias),
        factors=_summed_to(exponentials * d_applied, arrays.factors),
    )


_RULES = Rules(lambda *inputs: (_forward(*inputs), None), _backward, _forward)


def _einsum(equation: str, left: Array, right: Array) -> Array:
    return jnp.einsum(equation, left, right, preferred_element_type=wide(left.dtype))


def _by_head(array: Array, num: int) -> Array:
    """Head by head, the rows of the heads that share one of ``num`` heads below each other."""
    return _of_heads(jnp.swapaxes(array, 1, 2), num)


def _by_place(array: Array, like: Array) -> Array:
    """The inverse of `_by_head`, as an array like another."""
    batch, length, heads, width = like.shape
    return jnp.swapaxes(array.reshape(batch, heads, length, width), 1, 2).astype(like.dtype)


def _of_heads(array: Array, num: int) -> Array:
    """``[batch, heads, rows, columns]`` as so many heads: those of a group below each other, or apart again."""
    batch, heads, rows, columns = array.shape
    return array.reshape(batch, num, heads * rows // num, columns)


def _times(array: Array, factors: Array | None) -> Array:
    return array if factors is None else array * factors.astype(array.dtype)


def _summed_to(gradient: Array, like: Array | None) -> Array | None:
    """The gradient of an array that was broadcast to the scores."""
    if like is None:
        return None
    axes = tuple(axis for axis, size in enumerate(like.shape) if size != gradient.shape[axis])
    return gradient.sum(axis=axes, keepdims=True).astype(like.dtype)
