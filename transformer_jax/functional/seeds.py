"""From a seed to a random key, without two seeds for one key."""

import jax

from transformer_jax.errors import ConfigError

__all__ = ["seed_key"]


def seed_key(seed: int) -> jax.Array:
    """The typed key of a seed: ``jax.random.key(seed)``.

    Args:
      seed: A number of 32 bits, not negative. JAX keeps the last 32 bits of a larger one, so that ``2**32`` would
        draw what 0 does.

    Returns:
      The key.

    Raises:
      ConfigError: If the seed has more bits or a sign.

    Example:
      >>> bool(seed_key(3) == jax.random.key(3))
      True
    """
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed must be at least 0 and below 2**32, got {seed}")
    with jax.transfer_guard("allow"):  # the seed goes to the device, whatever guards the steps to come
        return jax.random.key(seed)
