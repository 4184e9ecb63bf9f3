"""Normalisation modules: layer, root mean square, batch."""

from typing import Literal

import jax.numpy as jnp
from flax import nnx

from transformer_jax.errors import ConfigError, nearest_hint
from transformer_jax.functional.normalization import (
    batch_norm,
    batch_statistics,
    layer_norm,
    rms_norm,
    running_statistics,
)
from transformer_jax.typing import Array, Bool, Float

__all__ = ["BatchNorm", "LayerNorm", "Normalization", "RMSNorm", "make_norm"]

Normalization = Literal["layer", "rms"]


class LayerNorm(nnx.Module):
    r"""Layer normalisation with a learned scale and shift.

    .. math:: y = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} \odot g + b

    Args:
      model_dim: Width of the last axis.
      epsilon: Added to the variance.
      use_bias: Whether there is a shift.

    Example:
      >>> LayerNorm(4, epsilon=1e-5)(jnp.ones((2, 4))).tolist()[0]
      [0.0, 0.0, 0.0, 0.0]

    Source: Ba et al. 2016, https://arxiv.org/abs/1607.06450, equation 4.
    """

    def __init__(self, model_dim: int, *, epsilon: float, use_bias: bool = True) -> None:
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(model_dim, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(model_dim, jnp.float32)) if use_bias else None

    def __call__(self, x: Float[Array, "*batch model"]) -> Float[Array, "*batch model"]:
        """Normalise the last axis."""
        bias = None if self.bias is None else self.bias[...]
        return layer_norm(x, self.scale[...], bias, epsilon=self.epsilon)


class RMSNorm(nnx.Module):
    r"""Root-mean-square normalisation with a learned scale.

    .. math:: y = \frac{x}{\sqrt{\tfrac{1}{d} \sum_i x_i^2 + \epsilon}} \odot g

    Args:
      model_dim: Width of the last axis.
      epsilon: Added to the mean square.

    Example:
      >>> RMSNorm(4, epsilon=0.0)(jnp.full((1, 4), 3.0)).tolist()
      [[1.0, 1.0, 1.0, 1.0]]

    Source: Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467, equation 4.
    """

    def __init__(self, model_dim: int, *, epsilon: float) -> None:
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(model_dim, jnp.float32))

    def __call__(self, x: Float[Array, "*batch model"]) -> Float[Array, "*batch model"]:
        """Normalise the last axis."""
        return rms_norm(x, self.scale[...], epsilon=self.epsilon)


class BatchNorm(nnx.Module):
    r"""Batch normalisation with running statistics, for evaluation, in ``nnx.BatchStat``.

    .. math:: r \leftarrow m r + (1 - m) s, \quad y = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} \odot g + b

    A call with ``training=True`` normalises by the batch and writes the running statistics: take them from
    the module afterwards (``nnx.split``) as part of the new state. They see each micro-batch by itself, so
    accumulation does not give the statistics of the big batch.

    Args:
      model_dim: Width of the last axis.
      momentum: What the running statistics keep of themselves at each call, in [0, 1].
      epsilon: Added to the variance.

    Example:
      >>> norm = BatchNorm(1, momentum=0.5, epsilon=0.0)
      >>> norm(jnp.array([[1.0], [3.0]]), training=True).tolist()
      [[-1.0], [1.0]]
      >>> norm.mean[...].tolist()
      [1.0]

    Source: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167, algorithms 1 and 2.
    """

    def __init__(self, model_dim: int, *, momentum: float, epsilon: float) -> None:
        if not 0.0 <= momentum <= 1.0:
            raise ConfigError(f"momentum must be in [0, 1], got {momentum}")
        self.momentum = momentum
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(model_dim, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(model_dim, jnp.float32))
        self.mean = nnx.BatchStat(jnp.zeros(model_dim, jnp.float32))
        self.variance = nnx.BatchStat(jnp.ones(model_dim, jnp.float32))

    def __call__(
        self,
        x: Float[Array, "*batch model"],
        *,
        training: bool,
        valid: Bool[Array, "*batch"] | None = None,
    ) -> Float[Array, "*batch model"]:
        """Normalise over all axes but the last.

        Args:
          x: The input.
          training: Use the batch's statistics and update the running ones; else use the running ones.
          valid: Which positions count in the statistics; ``None`` = all.

        Returns:
          The normalised array.
        """
        mean, variance = self.mean[...], self.variance[...]
        if training:
            mean, variance = batch_statistics(x, valid)
            self.mean[...] = running_statistics(self.mean[...], mean, momentum=self.momentum)
            self.variance[...] = running_statistics(self.variance[...], variance, momentum=self.momentum)
        return batch_norm(x, mean, variance, self.scale[...], self.bias[...], epsilon=self.epsilon)


_NORMS = {"layer": LayerNorm, "rms": RMSNorm}


def make_norm(
    kind: Normalization, model_dim: int, *, epsilon: float, use_bias: bool = True
) -> LayerNorm | RMSNorm:
    """The normalisation module of a name.

    Args:
      kind: ``"layer"`` or ``"rms"``.
      model_dim: Width of the last axis.
      epsilon: Added under the root.
      use_bias: Whether layer normalisation has a shift; the root mean square has none.

    Returns:
      The module.

    Raises:
      ConfigError: If the name is unknown.

    Example:
      >>> type(make_norm("rms", 4, epsilon=1e-6)).__name__
      'RMSNorm'
    """
    if kind not in _NORMS:
        raise ConfigError(
            f"normalization must be one of {sorted(_NORMS)}, got {kind!r}{nearest_hint(kind, _NORMS)}"
        )
    if kind == "rms":
        return RMSNorm(model_dim, epsilon=epsilon)
    return LayerNorm(model_dim, epsilon=epsilon, use_bias=use_bias)
