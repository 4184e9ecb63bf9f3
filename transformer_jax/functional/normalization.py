"""Layer, root-mean-square, batch and power normalisation; statistics in float32, and in float64 for float64 arrays."""

import math

import jax.numpy as jnp
from jax import lax

from transformer_jax.errors import ShapeError
from transformer_jax.functional.dtypes import as_array, wide
from transformer_jax.typing import Array, Float, Shaped


def layer_norm(
    x: Float[Array, "*positions features"],
    scale: Float[Array, "features"] | None = None,
    bias: Float[Array, "features"] | None = None,
    *,
    epsilon: float = 1e-5,
) -> Float[Array, "*positions features"]:
    r"""Centre and scale the last axis of each position.

    .. math:: y = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} \odot g + b

    with the mean and the biased variance of the position's features.

    Args:
      x: Any float dtype; the result has it too.
      scale: :math:`g`; one when ``None``.
      bias: :math:`b`; zero when ``None``.
      epsilon: Added to the variance.

    Returns:
      The normalised array.

    Raises:
      ShapeError: If scale or bias do not have one entry for each feature.

    Example:
      >>> layer_norm(jnp.array([1.0, 3.0]), epsilon=0.0).tolist()
      [-1.0, 1.0]

    Source: Ba et al. 2016, https://arxiv.org/abs/1607.06450, equation 4.
    """
    x = as_array("x", x)
    rows = x.astype(wide(x))
    centred = rows - rows.mean(axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    return _affine(centred * lax.rsqrt(variance + epsilon), scale, bias).astype(x.dtype)


def rms_norm(
    x: Float[Array, "*positions features"],
    scale: Float[Array, "features"] | None = None,
    *,
    epsilon: float = 1e-6,
) -> Float[Array, "*positions features"]:
    r"""Scale the last axis of each position by its root mean square.

    .. math:: y = \frac{x}{\sqrt{\frac{1}{d}\sum_i x_i^2 + \epsilon}} \odot g

    Args:
      x: Any float dtype; the result has it too.
      scale: :math:`g`; one when ``None``.
      epsilon: Added to the mean square.

    Returns:
      The normalised array.

    Raises:
      ShapeError: If scale does not have one entry for each feature.

    Example:
      >>> rms_norm(jnp.array([3.0, 3.0]), epsilon=0.0).tolist()
      [1.0, 1.0]

    Source: Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467, equation 4.
    """
    x = as_array("x", x)
    rows = x.astype(wide(x))
    mean_square = jnp.mean(jnp.square(rows), axis=-1, keepdims=True)
    return _affine(rows * lax.rsqrt(mean_square + epsilon), scale, None).astype(x.dtype)


def batch_norm(
    x: Float[Array, "*positions features"],
    mean: Float[Array, "features"],
    variance: Float[Array, "features"],
    scale: Float[Array, "features"] | None = None,
    bias: Float[Array, "features"] | None = None,
    *,
    epsilon: float = 1e-5,
) -> Float[Array, "*positions features"]:
    r"""Centre and scale each feature by statistics given.

    .. math:: y = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} \odot g + b

    In training the statistics are those of the batch, :func:`batch_statistics`; in evaluation running means
    of them.

    Args:
      x: Any float dtype; the result has it too.
      mean: :math:`\mu`, one for each feature.
      variance: :math:`\sigma^2`, one for each feature.
      scale: :math:`g`; one when ``None``.
      bias: :math:`b`; zero when ``None``.
      epsilon: Added to the variance.

    Returns:
      The normalised array.

    Raises:
      ShapeError: If statistics, scale or bias do not have one entry for each feature.

    Example:
      >>> x = jnp.array([[1.0], [3.0]])
      >>> batch_norm(x, *batch_statistics(x), epsilon=0.0)[:, 0].tolist()
      [-1.0, 1.0]

    Source: Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167, algorithms 1 and 2.
    """
    x = as_array("x", x)
    rows = x.astype(wide(x))
    mean = _spread(mean, rows, "mean")
    factor = lax.rsqrt(_spread(variance, rows, "variance") + epsilon)
    return _affine((rows - mean) * factor, scale, bias).astype(x.dtype)


def batch_statistics(
    x: Float[Array, "*positions features"], weights: Shaped[Array, "*positions"] | None = None
) -> tuple[Float[Array, "features"], Float[Array, "features"]]:
    r"""Mean and biased variance of each feature over all positions that count.

    .. math:: \mu = \frac{\sum_n w_n x_n}{\sum_n w_n}, \quad \sigma^2 = \frac{\sum_n w_n (x_n - \mu)^2}{\sum_n
    w_n}

    Args:
      x: Any float dtype.
      weights: Weight of each position, or a boolean mask; all one when ``None``. Where it is zero, ``x`` may
        hold anything.

    Returns:
      Mean and variance, float32 (float64 for float64 arrays); both zero if nothing counts.

    Raises:
      ShapeError: If weights do not have one entry for each position.

    Example:
      >>> mean, variance = batch_statistics(jnp.array([[1.0], [3.0], [9.0]]), jnp.array([True, True, False]))
      >>> mean.tolist(), variance.tolist()
      ([2.0], [1.0])

    Source: Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167, algorithm 1.
    """
    x = as_array("x", x)
    rows = x.astype(wide(x))
    axes = tuple(range(x.ndim - 1))
    if weights is None and not math.prod(x.shape[:-1]):
        return jnp.zeros(x.shape[-1:], rows.dtype), jnp.zeros(x.shape[-1:], rows.dtype)
    if weights is None:
        mean = rows.mean(axis=axes)
        return mean, jnp.square(rows - _spread(mean, rows, "mean")).mean(axis=axes)
    weights = as_array("weights", weights)
    if weights.shape != x.shape[:-1]:
        raise ShapeError(
            f"weights must have shape {x.shape[:-1]}, one for each position of x; got {weights.shape}"
        )
    weights = weights.astype(rows.dtype)[..., None]
    rows = jnp.where(weights > 0, rows, 0.0)
    total = weights.sum()
    total = jnp.where(total > 0, total, 1.0)
    mean = (weights * rows).sum(axis=axes) / total
    return mean, (weights * jnp.square(rows - _spread(mean, rows, "mean"))).sum(axis=axes) / total


def batch_mean_square(
    x: Float[Array, "*positions features"], weights: Shaped[Array, "*positions"] | None = None
) -> Float[Array, "features"]:
    r"""Mean square of each feature over all positions that count.

    .. math:: \psi^2 = \frac{\sum_n w_n x_n^2}{\sum_n w_n}

    Args:
      x: Any float dtype.
      weights: Weight of each position, or a boolean mask; all one when ``None``. Where it is zero, ``x`` may
        hold anything.

    Returns:
      The mean square, float32 (float64 for float64 arrays); zero if nothing counts.

    Raises:
      ShapeError: If weights do not have one entry for each position.

    Example:
      >>> batch_mean_square(jnp.array([[1.0], [3.0], [9.0]]), jnp.array([True, True, False])).tolist()
      [5.0]

    Source: Shen et al. 2020, https://arxiv.org/abs/2003.07845, algorithm 1.
    """
    mean, variance = batch_statistics(x, weights)
    return variance + jnp.square(mean)


def running_statistics(
    running: Float[Array, "features"], current: Float[Array, "features"], *, momentum: float
) -> Float[Array, "features"]:
    r"""Exponential running mean of a batch statistic.

    .. math:: r' = m r + (1 - m) s

    Unlike losses these do not add up over micro-batches or devices to what the big batch gives.

    Args:
      running: :math:`r`.
      current: :math:`s`, this batch's.
      momentum: :math:`m`, the share kept (PyTorch's ``momentum`` is one minus this).

    Returns:
      The new running statistic, in the dtype of the old.

    Example:
      >>> running_statistics(jnp.zeros(1), jnp.ones(1), momentum=0.75).tolist()
      [0.25]

    Source: Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167, section 3.1 ("moving averages").
    """
    running, current = as_array("running", running), as_array("current", current)
    return (momentum * running + (1.0 - momentum) * current).astype(running.dtype)


def _spread(parameter: Array, rows: Array, name: str) -> Array:
    """One value a feature in the dtype of the rows, with the axes that broadcasting over positions needs."""
    parameter, shape = as_array(name, parameter), rows.shape
    if parameter.shape != shape[-1:]:
        raise ShapeError(
            f"{name} must have shape {shape[-1:]}, one for each feature of x; got {parameter.shape}"
        )
    return jnp.expand_dims(parameter.astype(rows.dtype), range(len(shape) - 1))


def _affine(normal: Array, scale: Array | None, bias: Array | None) -> Array:
    if scale is not None:
        normal = normal * _spread(scale, normal, "scale")
    if bias is not None:
        normal = normal + _spread(bias, normal, "bias")
    return normal
