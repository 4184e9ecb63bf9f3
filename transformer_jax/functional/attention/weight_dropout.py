"""Dropout of attention weights as a function of place: any block of the mask can be drawn, and drawn again."""

import jax
import jax.numpy as jnp
from jaxtyping import UInt32

from transformer_jax.typing import Array, Bool

_WORD = 2**32


def row_keys(rng_key: jax.Array, batch: int, num_heads: int, q_len: int) -> UInt32[Array, "batch heads q 2"]:
    """Two random words for each row of weights: linear memory, and all that the rows' masks depend on."""
    return jax.random.bits(rng_key, (batch, num_heads, q_len, 2), jnp.uint32)


def kept(
    keys: UInt32[Array, "batch heads q 2"], first_key: int | Array, num_keys: int, rate: float
) -> Bool[Array, "batch heads q kv"]:
    """Which weights of ``num_keys`` keys from ``first_key`` on stay, each with probability ``1 - rate``.

    The row's words and the key's index are mixed by the finaliser of MurmurHash3 and one more multiplication.

    Example:
      >>> keys = row_keys(jax.random.key(0), 1, 1, 1)
      >>> whole, part = kept(keys, 0, 8, 0.5), kept(keys, 3, 5, 0.5)
      >>> bool((whole[..., 3:] == part).all())
      True
    """
    column = (jnp.arange(num_keys, dtype=jnp.uint32) + jnp.asarray(first_key, jnp.uint32)) * jnp.uint32(
        0x9E3779B9
    )
    word = keys[..., 0, None] + column[None, None, None, :]
    word = (word ^ (word >> 16)) * jnp.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
    word = (word ^ (word >> 16) ^ keys[..., 1, None]) * jnp.uint32(0x9E3779B1)
    word = word ^ (word >> 15)
    return word >= jnp.uint32(min(round(rate * _WORD), _WORD - 1))
