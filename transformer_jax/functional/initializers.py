"""How parameters start: Glorot's uniform, part by part for fused projections, and scaled embeddings."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from transformer_jax.typing import Array, Float

__all__ = ["embedding_normal", "fused_xavier_uniform", "unit_score_vector", "xavier_uniform"]


def xavier_uniform(rng_key: jax.Array, input_dim: int, output_dim: int) -> Float[Array, "input output"]:
    r"""Matrix of uniform numbers that keeps the variance of activations and gradients.

    .. math:: W_{ij} \sim U(-b, b), \quad b = \sqrt{6 / (n_{in} + n_{out})}

    Args:
      rng_key: A typed key.
      input_dim: Rows.
      output_dim: Columns.

    Returns:
      The matrix, float32.

    Example:
      >>> bool(jnp.all(jnp.abs(xavier_uniform(jax.random.key(0), 3, 3)) <= 1.0))
      True

    Source: Glorot and Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html, equation 16.
    """
    bound = math.sqrt(6.0 / (input_dim + output_dim))
    return jax.random.uniform(rng_key, (input_dim, output_dim), jnp.float32, -bound, bound)


def fused_xavier_uniform(
    rng_key: jax.Array, input_dim: int, output_dims: Sequence[int]
) -> Float[Array, "input output"]:
    """Several :func:`xavier_uniform` matrices side by side, each with the bound of its own width.

    Args:
      rng_key: A typed key.
      input_dim: Rows.
      output_dims: Columns of each part.

    Returns:
      The matrix ``[input_dim, sum(output_dims)]``, float32.

    Example:
      >>> fused_xavier_uniform(jax.random.key(0), 4, (4, 2)).shape
      (4, 6)
    """
    keys = jax.random.split(rng_key, len(output_dims))
    parts = [xavier_uniform(key, input_dim, width) for key, width in zip(keys, output_dims, strict=True)]
    return jnp.concatenate(parts, axis=1)


def embedding_normal(rng_key: jax.Array, vocab_size: int, model_dim: int) -> Float[Array, "vocab model"]:
    r"""Embedding table whose rows have unit length on average, so that tied logits start small.

    .. math:: E_{ij} \sim N(0, 1 / d)

    Args:
      rng_key: A typed key.
      vocab_size: Rows.
      model_dim: Columns.

    Returns:
      The table, float32.

    Example:
      >>> embedding_normal(jax.random.key(0), 5, 2).shape
      (5, 2)

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.4 (the look-up times
    :math:`\\sqrt{d}` then has unit variance).
    """
    return jax.random.normal(rng_key, (vocab_size, model_dim), jnp.float32) / math.sqrt(model_dim)


def unit_score_vector(rng_key: jax.Array, size: int) -> Float[Array, "features"]:
    """A vector whose product with units of variance 1 has variance 1: normal numbers of variance ``1 / size``.

    Example:
      >>> unit_score_vector(jax.random.key(0), 3).shape
      (3,)
    """
    return jax.random.normal(rng_key, (size,), jnp.float32) * jnp.float32(size) ** -0.5
