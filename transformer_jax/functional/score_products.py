"""The array work that score rules share: products of all pairs, with grouped heads and shared parameters."""

from collections.abc import Sequence
from typing import TypeVar

import jax.numpy as jnp
from jax import lax

from transformer_jax.errors import ShapeError
from transformer_jax.pytree import replace
from transformer_jax.typing import Array

Rule = TypeVar("Rule")


def wide(dtype: jnp.dtype) -> jnp.dtype:
    """The dtype that sums of ``dtype`` are kept in: float32 at least."""
    return jnp.promote_types(dtype, jnp.float32)


def products(query: Array, key: Array) -> Array:
    """Products of all queries and keys, ``[batch, heads, q_len, kv_len]``, the keys never repeated."""
    batch, q_len, num_heads, head_dim = query.shape
    kv_len, key_heads = key.shape[1:3]
    accumulated = wide(query.dtype)
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
        projected = projected.reshape(batch, length, -1, weight.shape[-1])
    return projected.astype(x.dtype)


def add_bias(x: Array, bias: Array | None) -> Array:
    """``x + bias`` with a bias that is shared or has one row a head."""
    if bias is None:
        return x
    return x + bias.astype(x.dtype).reshape(1, 1, -1, bias.shape[-1])


def pair_sums(query: Array, key: Array) -> Array:
    """``query + key`` of all pairs, ``[batch, q_len, kv_len, heads, features]``, float32."""
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
