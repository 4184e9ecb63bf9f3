"""Attention as in the papers: all scores, a softmax, a weighted sum. The oracle of the others."""

import jax.numpy as jnp

from transformer_jax.functional.attention.contract import AttentionCall
from transformer_jax.functional.attention.guard import guard, mark_poisoned
from transformer_jax.functional.dropout import kept
from transformer_jax.functional.dtypes import wide
from transformer_jax.functional.softmax import masked_softmax
from transformer_jax.typing import Array


def refusals(call: AttentionCall) -> list[str]:
    """Reasons not to do the call: none, the reference does every case."""
    return []


def attend(call: AttentionCall) -> Array:
    """The output ``[batch, q_len, heads, value_dim]``."""
    return attend_with_weights(call)[0]


def attend_with_weights(call: AttentionCall) -> tuple[Array, Array]:
    """Output and weights ``[batch, heads, q_len, kv_len]``, the weights before dropout."""
    safe = guard(call)
    prepared_query = call.score.prepare_query(safe.query)
    prepared_key = safe.key if call.key_is_prepared else call.score.prepare_key(safe.key)
    mask = call.mask
    scores = call.score.score(prepared_query, prepared_key, mask.query_positions, mask.key_positions)
    bias = call.dense_bias()
    if bias is not None:
        scores = scores + bias.astype(scores.dtype)
    weights = masked_softmax(scores, safe.mask)
    if call.reweight is not None:
        factors = call.reweight.block(mask.key_positions_or_default(call.kv_len))
        weights = weights * factors.astype(weights.dtype)
    applied = weights
    words, rate = call.dropout_words()
    if words is not None:
        applied = jnp.where(kept(words, 0, weights.shape[3], rate), weights / (1.0 - rate), 0.0)
    output = mark_poisoned(_weighted_values(applied, safe.value), safe.poisoned)
    if safe.poisoned is not None:
        weights = jnp.where(safe.poisoned[..., None], jnp.full_like(weights, jnp.nan), weights)
    return output, weights


def _weighted_values(weights: Array, value: Array) -> Array:
    batch, num_heads, q_len, kv_len = weights.shape
    value_heads, value_dim = value.shape[2:]
    weights = weights.astype(value.dtype)
    if value_heads == num_heads:
        output = jnp.einsum("bhqk,bkhd->bqhd", weights, value, preferred_element_type=wide(value))
    else:
        grouped = weights.reshape(batch, value_heads, num_heads // value_heads, q_len, kv_len)
        output = jnp.einsum("bngqk,bknd->bqngd", grouped, value, preferred_element_type=wide(value))
    return output.reshape(batch, q_len, num_heads, value_dim).astype(value.dtype)
