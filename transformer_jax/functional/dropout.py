"""Dropout as a pure function of an explicit key, and its mask as a function of place; no key means evaluation."""

import jax
import jax.numpy as jnp
from jaxtyping import UInt32

from transformer_jax.errors import ConfigError
from transformer_jax.functional.dtypes import as_array
from transformer_jax.functional.row_shards import of_own_rows
from transformer_jax.typing import Array, Bool, Float

_WORD = 2**32


def row_keys(rng_key: jax.Array, rows: tuple[int, ...]) -> UInt32[Array, "*rows 2"]:
    """Two random words for each row of an array, which is all that the row's mask depends on.

    Args:
      rng_key: A typed key (``jax.random.key``).
      rows: The array's shape without its last axis.
    """
    if not rows:
        return jax.random.bits(rng_key, (2,), jnp.uint32)
    return of_own_rows(lambda num: jax.random.bits(rng_key, (num, *rows[1:], 2), jnp.uint32), rows[0])


def kept(
    keys: UInt32[Array, "*rows 2"], first: int | Array, num: int, rate: float
) -> Bool[Array, "*rows columns"]:
    """Which of ``num`` columns from ``first`` on stay in each row, each with probability ``1 - rate``.

    A function of place: any block of a mask can be drawn, and drawn again. The row's words and the column's index
    are mixed by the finaliser of MurmurHash3 and one more multiplication.

    Example:
      >>> keys = row_keys(jax.random.key(0), (1,))
      >>> whole, part = kept(keys, 0, 8, 0.5), kept(keys, 3, 5, 0.5)
      >>> bool((whole[..., 3:] == part).all())
      True
    """
    column = (jnp.arange(num, dtype=jnp.uint32) + jnp.asarray(first, jnp.uint32)) * jnp.uint32(0x9E3779B9)
    word = keys[..., 0, None] + column.reshape((1,) * (keys.ndim - 1) + (num,))
    word = (word ^ (word >> 16)) * jnp.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
    word = (word ^ (word >> 16) ^ keys[..., 1, None]) * jnp.uint32(0x9E3779B1)
    word = word ^ (word >> 15)
    return word >= jnp.uint32(kept_from(rate))


def kept_from(rate: float) -> int:
    """The least word of a place's hash with which the place is kept.

    Example:
      >>> kept_from(0.5) == 2**31
      True
    """
    return min(round(rate * _WORD), _WORD - 1)


def dropout(
    x: Float[Array, "*shape"], rate: float, rng_key: jax.Array | None = None
) -> Float[Array, "*shape"]:
    r"""Zero each element with probability ``rate`` and scale the others so that the mean stays.

    .. math:: y_i = \frac{b_i x_i}{1 - r}, \quad b_i \sim \mathrm{Bernoulli}(1 - r)

    Making random bits is what dropout costs on a CPU, so that they are made for rows only, and a hash of a row's bits
    and the column decides (see `kept`). The rate is rounded to a multiple of :math:`2^{-32}`.

    Args:
      x: Any floating array.
      rate: Probability of dropping, in [0, 1).
      rng_key: A typed key (``jax.random.key``); ``None`` returns ``x``.

    Returns:
      An array like ``x``; ``x`` itself when the rate is 0 or the key is ``None``.

    Raises:
      ConfigError: If ``rate`` is outside [0, 1).

    Example:
      >>> y = dropout(jnp.ones(1000), 0.5, jax.random.key(0))
      >>> sorted(set(y.tolist()))
      [0.0, 2.0]

    Source: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html, section 4.
    """
    check_rate("rate", rate)
    x = as_array("x", x)
    if rate == 0.0 or rng_key is None:
        return x
    rows = x.reshape(1, *x.shape) if x.ndim == 0 else x
    keep = kept(row_keys(rng_key, rows.shape[:-1]), 0, rows.shape[-1], rate).reshape(x.shape)
    threshold = kept_from(rate)
    scale = jnp.asarray(_WORD / (_WORD - threshold), x.dtype)
    return jnp.where(keep, x * scale, jnp.zeros_like(x))


def split_key(rng_key: jax.Array | None, num: int) -> list[jax.Array | None]:
    """Split a key into ``num`` keys, or give ``num`` times ``None`` where there is no key.

    Args:
      rng_key: A typed key or ``None`` (evaluation).
      num: How many keys.

    Returns:
      A list of ``num`` keys or ``None``.

    Example:
      >>> split_key(None, 3)
      [None, None, None]
      >>> len(split_key(jax.random.key(0), 2))
      2
    """
    if rng_key is None:
        return [None] * num
    return list(jax.random.split(rng_key, num))


def check_rate(name: str, rate: float) -> None:
    """Raise ``ConfigError`` unless ``rate`` is a number in [0, 1)."""
    if not 0.0 <= rate < 1.0:
        raise ConfigError(f"{name} must be in [0, 1), got {rate}")
