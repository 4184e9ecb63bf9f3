"""Masking of stretches of time and of feature channels, which keeps a model of few recordings from learning them."""

import jax
import jax.numpy as jnp

from transformer_jax.functional.row_shards import of_own_rows
from transformer_jax.typing import Array, Bool, Float, Int


def mask_features(
    features: Float[Array, "batch frames dim"],
    lengths: Int[Array, "batch"],
    *,
    num_time_masks: int,
    max_time_len: int,
    num_channel_masks: int,
    max_channels: int,
    rng_key: jax.Array,
) -> Float[Array, "batch frames dim"]:
    r"""Features with random stretches of frames and of channels set to zero, other ones in each row.

    Each mask has a width drawn uniformly from 0 to its maximum and a place drawn uniformly among those where it fits:
    of time masks among the row's valid frames. A stretch is at most a fifth of the row.

    Args:
      features: Standardised features, so that zero is the mean.
      lengths: Valid frames of each row.
      num_time_masks: Stretches of time.
      max_time_len: Frames of the longest one.
      num_channel_masks: Stretches of channels.
      max_channels: Channels of the widest one.
      rng_key: Draws widths and places.

    Returns:
      Features of the same shape.

    Example:
      >>> ones = jnp.ones((1, 12, 4))
      >>> masked = mask_features(ones, jnp.array([12]), num_time_masks=1, max_time_len=4, num_channel_masks=0,
      ...   max_channels=1, rng_key=jax.random.key(4))
      >>> masked[0, :, 0].astype(int).tolist()
      [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1]

    Source: Park et al. 2019, https://arxiv.org/abs/1904.08779, section 2 (without time warping).
    """
    rows, frames, dim = features.shape
    draws = of_own_rows(
        lambda num: jax.random.uniform(rng_key, (num, num_time_masks + num_channel_masks, 2)), rows
    )
    longest = jnp.minimum(max_time_len, lengths // 5)[:, None]
    in_time = _stretches(draws[:, :num_time_masks], longest, lengths[:, None], frames)
    widest = jnp.full((rows, 1), min(max_channels, dim))
    in_channels = _stretches(draws[:, num_time_masks:], widest, jnp.full((rows, 1), dim), dim)
    hidden = in_time[:, :, None] | in_channels[:, None, :]
    return jnp.where(hidden, jnp.zeros_like(features), features)


def _stretches(
    draws: Float[Array, "batch masks 2"],
    longest: Int[Array, "batch 1"],
    extents: Int[Array, "batch 1"],
    size: int,
) -> Bool[Array, "batch size"]:
    """Which of ``size`` places lie in a stretch."""
    widths = jnp.floor(draws[..., 0] * (longest + 1)).astype(jnp.int32)
    firsts = jnp.floor(draws[..., 1] * (extents - widths + 1)).astype(jnp.int32)
    places = jnp.arange(size)[None, None, :]
    inside = (places >= firsts[..., None]) & (places < (firsts + widths)[..., None])
    return inside.any(axis=1)
