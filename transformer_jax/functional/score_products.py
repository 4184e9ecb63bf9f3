"""The array work that score rules share: products of all pairs, with grouped heads and shared parameters."""

from collections.abc import Sequence
from typing import TypeVar

import jax.numpy as jnp
from jax import lax

from transformer_jax.errors import ShapeError
from transformer_jax.functional.dtypes import wide
from transformer_jax.pytree import replace
from transformer_jax.typing import Array

Rule = TypeVar("Rule")


def products(query: Array, key: Array) -> Array:
    """Products of all queries and keys, ``[batch, heads, q_len, kv_len]``, the keys never repeated."""
    batch, q_len, num_heads, head_dim = query.shape
    kv_len, key_heads = key.shape[1:3]
    accumulated = wide(query.dtype)
    if batch == num_heads == 1:  # XLA does plain matrix products faster on a CPU than those with axes of one
        return jnp.einsum("qd,kd->qk", query[0, :, 0], key[0, :, 0], preferred_element_type=accumulated)[
            None, None
        ]
    if key_heads == num_heads:
        return jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=accumulated)
    grouped = query.reshape(batch, q_len, key_heads, num_heads // key_heads, head_dim)
    scores = jnp.einsum("bqngd,bknd->bngqk", grouped, key, preferred_element_type=accumulated)
    return scores.reshape(batch, num_heads, q_len, kv_len)


def project(x: Array, weight: Array) -> Array:
    """``x @ weight`` with a shared weight, or with one weight a head (shared heads then get their own)."""
    accumulated = wide(x.dtype)
    if weight.ndim == 2:
        projected = jnp.einsum("blhi,io->blho", x, weight, preferred_element_type=accumulated)
    else:
        batch, length, x_heads = x.shape[:3]
        weight = weight.reshape(x_heads, -1, *weight.shape[1:])
        projected = jnp.einsum("blni,ngio->blngo", x, weight, preferred_element_type=accumulated)
        projected = projected.reshape(batch, length, x_heads * weight.shape[1], weight.shape[-1])
    return projected.astype(x.dtype)


def add_bias(x: Array, bias: Array | None) -> Array:
    """``x + bias`` with a bias that is shared or has one row a head."""
    if bias is None:
        return x
    return x + bias.astype(x.dtype).reshape(1, 1, -1, bias.shape[-1])


def pair_sums(query: Array, key: Array) -> Array:
    """``query + key`` of all pairs, ``[batch, q_len, kv_len, heads, features]``, float32 or wider."""
    batch, q_len, num_heads, features = query.shape
    kv_len, key_heads = key.shape[1:3]
    accumulated = wide(query.dtype)
    grouped = query.astype(accumulated).reshape(batch, q_len, 1, key_heads, num_heads // key_heads, features)
    sums = grouped + key.astype(accumulated)[:, None, :, :, None, :]
    return sums.reshape(batch, q_len, kv_len, num_heads, features)


def weighted_sum(hidden: Array, vector: Array) -> Array:
    """``[batch, q_len, kv_len, heads, features]`` times a vector, shared or one a head, heads first."""
    vector = vector.astype(hidden.dtype)
    if vector.ndim == 1:
        return heads_first(hidden @ vector)
    return jnp.einsum("bqkha,ha->bhqk", hidden, vector)


def tanh_gradients(
    gradient: Array, query: Array, key: Array, vector: Array | None
) -> tuple[Array, Array, Array | None]:
    """Gradients of ``weighted_sum(tanh(pair_sums(query, key)), vector)``, one query after the other.

    Reverse mode through an array of all pairs and hidden units spends its time on sums over its first axes; here
    the hidden units of one query are all that is held, and the sum over queries is a running total.

    Args:
      gradient: Of the scores, ``[batch, heads, q_len, kv_len]``.
      query: ``[batch, q_len, heads, features]``.
      key: ``[batch, kv_len, key_heads, features]``.
      vector: ``[features]`` or ``[heads, features]``; ``None`` = ones.

    Returns:
      The gradients of query, key and vector.
    """
    batch, q_len, num_heads, features = query.shape
    kv_len, key_heads = key.shape[1:3]
    group = num_heads // key_heads
    dtype = wide(query.dtype)
    rows = jnp.swapaxes(query, 1, 2).reshape(batch * num_heads, q_len, features).astype(dtype)
    columns = jnp.repeat(jnp.moveaxis(key, 1, 3), group, axis=1)  # [batch, heads, features, kv_len]
    columns = columns.reshape(batch * num_heads, features, kv_len).astype(dtype)
    d_scores = gradient.reshape(batch * num_heads, q_len, kv_len).astype(dtype)
    d_rows, d_columns, d_vector = lax.map(lambda head: _tanh_gradients(*head), (d_scores, rows, columns))

    shared = vector is None or vector.ndim == 1
    weight = jnp.ones((1, 1, features), dtype) if vector is None else vector.astype(dtype)
    weight = weight.reshape(1, -1, 1, features)  # [1, 1 or heads, 1, features]
    d_query = jnp.swapaxes(d_rows.reshape(batch, num_heads, q_len, features) * weight, 1, 2)
    d_key = d_columns.reshape(batch, num_heads, features, kv_len) * jnp.swapaxes(weight, 2, 3)
    d_key = jnp.moveaxis(d_key.reshape(batch, key_heads, group, features, kv_len).sum(axis=2), 3, 1)
    d_query, d_key = d_query.astype(query.dtype), d_key.astype(key.dtype)
    if vector is None:
        return d_query, d_key, None
    d_vector = d_vector.reshape(batch, num_heads, features).sum(axis=(0, 1) if shared else 0)
    return d_query, d_key, d_vector.astype(vector.dtype)


def _tanh_gradients(gradient: Array, query: Array, columns: Array) -> tuple[Array, Array, Array]:
    """One head's ``[q_len, kv_len]``, ``[q_len, features]`` and ``[features, kv_len]``, the vector left out."""

    def one_query(total: Array, place: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        row, d_scores = place
        hidden = jnp.tanh(row[:, None] + columns)
        d_hidden = d_scores[None] * (1.0 - hidden * hidden)
        return total + d_hidden, (d_hidden.sum(axis=1), (d_scores[None] * hidden).sum(axis=1))

    d_columns, (d_query, d_vector) = lax.scan(one_query, jnp.zeros_like(columns), (query, gradient))
    return d_query, d_columns, d_vector.sum(axis=0)


def heads_first(scores: Array) -> Array:
    """``[batch, q_len, kv_len, heads]`` to ``[batch, heads, q_len, kv_len]``."""
    return jnp.moveaxis(scores, -1, 1)


def add_dims(query_dim: int, key_dim: int | None) -> int | None:
    """The width of ``[q; k]``, ``None`` where the key's is not known."""
    return None if key_dim is None else query_dim + key_dim


def take_heads(rule: Rule, start: int | Array, count: int, **ranks: int) -> Rule:
    """A rule with those of its parameters cut to ``count`` heads that have one entry a head.

    ``ranks`` says for each parameter how many axes it has when it is shared by all heads.
    """
    taken = {}
    for name, rank in ranks.items():
        parameter = getattr(rule, name)
        if parameter is not None and parameter.ndim > rank:
            taken[name] = lax.dynamic_slice_in_dim(parameter, start, count, 0)
    return replace(rule, **taken)


def check_parameter(name: str, parameter: Array, num_heads: int, sizes: Sequence[int | None]) -> None:
    """Raise ``ShapeError`` unless the shape is ``sizes``, maybe after heads; ``None`` fits any size."""
    shape, wanted = list(parameter.shape), ["any" if size is None else size for size in sizes]
    own = shape[-len(wanted) :]
    fits = len(own) == len(wanted) and all(want in ("any", have) for have, want in zip(own, wanted))
    if not fits or shape[: -len(wanted)] not in ([], [num_heads]):
        raise ShapeError(
            f"{name} must be {wanted} (shared) or {[num_heads, *wanted]} (per head), got {shape}"
        )
