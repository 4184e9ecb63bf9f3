"""Dropout as a pure function of an explicit key; no key means evaluation."""

import jax
import jax.numpy as jnp

from transformer_jax.errors import ConfigError
from transformer_jax.typing import Array, Float

_BIT_RANGE = 2**16


def dropout(
    x: Float[Array, "*shape"], rate: float, rng_key: jax.Array | None = None
) -> Float[Array, "*shape"]:
    r"""Zero each element with probability ``rate`` and scale the others so that the mean stays.

    .. math:: y_i = \frac{b_i x_i}{1 - r}, \quad b_i \sim \mathrm{Bernoulli}(1 - r)

    Sixteen random bits an element decide, since making the bits is what dropout costs on a CPU: the rate
    is rounded to a multiple of 1/65536, and the scale uses the rounded rate.

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
    if rate == 0.0 or rng_key is None:
        return x
    threshold = min(round(rate * _BIT_RANGE), _BIT_RANGE - 1)
    bits = jax.random.bits(rng_key, x.shape, jnp.uint16)
    scale = jnp.asarray(_BIT_RANGE / (_BIT_RANGE - threshold), x.dtype)
    return jnp.where(bits >= threshold, x * scale, jnp.zeros_like(x))


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
