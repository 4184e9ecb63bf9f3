"""Normalisation modules: layer, root mean square, batch, power, none."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.errors import ConfigError, nearest_hint
from transformer_jax.functional.normalization import (
    batch_mean_square,
    batch_norm,
    batch_statistics,
    layer_norm,
    rms_norm,
    running_statistics,
)
from transformer_jax.functional.remat import Remat, remat
from transformer_jax.typing import Array, Bool, Float

__all__ = [
    "BATCH_NORMS",
    "BatchNorm",
    "LayerNorm",
    "NoNorm",
    "Normalization",
    "PowerNorm",
    "RMSNorm",
    "TrainingTokens",
    "make_norm",
    "normalized",
    "remat_layer",
    "training_tokens",
]

Normalization = Literal["layer", "rms", "batch", "power", "none"]

BATCH_NORMS = ("batch", "power")
"""Normalisations that train with statistics of the batch and evaluate with running ones."""

_Layer = TypeVar("_Layer", bound=nnx.Module)


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
    accumulation does not give the statistics of the big batch. Where no position counts, the running statistics
    normalise and stay as they are.

    Args:
      model_dim: Width of the last axis.
      momentum: What the running statistics keep of themselves at each call, in [0, 1].
      epsilon: Added to the variance.
      use_bias: Whether there is a shift.

    Example:
      >>> norm = BatchNorm(1, momentum=0.5, epsilon=0.0)
      >>> norm(jnp.array([[1.0], [3.0]]), training=True).tolist()
      [[-1.0], [1.0]]
      >>> norm.mean[...].tolist()
      [1.0]

    Source: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167, algorithms 1 and 2.
    """

    def __init__(self, model_dim: int, *, momentum: float, epsilon: float, use_bias: bool = True) -> None:
        _check_momentum(momentum)
        self.momentum = momentum
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(model_dim, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(model_dim, jnp.float32)) if use_bias else None
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
          The normalised array; in training positions that do not count are taken as zeros, whatever they hold.
        """
        mean, variance = self.mean[...], self.variance[...]
        if training:
            x = _zeros_behind(x, valid)
            found = batch_statistics(x, valid)
            counts = _any_counts(x, valid)
            mean, variance = (
                jnp.where(counts, new, old) for new, old in zip(found, (mean, variance), strict=True)
            )
            self.mean[...] = running_statistics(self.mean[...], mean, momentum=self.momentum)
            self.variance[...] = running_statistics(self.variance[...], variance, momentum=self.momentum)
        bias = None if self.bias is None else self.bias[...]
        return batch_norm(x, mean, variance, self.scale[...], bias, epsilon=self.epsilon)


class PowerNorm(nnx.Module):
    r"""Batch normalisation without a mean: each feature is divided by its root mean square over the batch.

    .. math:: \psi_B^2 = \frac{1}{n} \sum_n x_n^2, \quad r \leftarrow m r + (1 - m) \psi_B^2, \quad
       y = \frac{x}{\sqrt{\psi^2 + \epsilon}} \odot g + b

    This is the paper's PN-V, trained by its exact gradient; its PN, which normalises by the running mean square in
    training too and approximates the gradient, is left out. Where no position counts, the running mean square
    normalises and stays as it is.

    Args:
      model_dim: Width of the last axis.
      momentum: What the running mean square keeps of itself at each call, in [0, 1].
      epsilon: Added to the mean square.
      use_bias: Whether there is a shift.

    Example:
      >>> norm = PowerNorm(1, momentum=0.5, epsilon=0.0)
      >>> norm(jnp.array([[3.0], [-3.0]]), training=True).tolist()
      [[1.0], [-1.0]]
      >>> norm.mean_square[...].tolist()
      [5.0]

    Source: Shen et al. 2020, https://arxiv.org/abs/2003.07845, section 4.1 and algorithm 1.
    """

    def __init__(self, model_dim: int, *, momentum: float, epsilon: float, use_bias: bool = True) -> None:
        _check_momentum(momentum)
        self.momentum = momentum
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(model_dim, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(model_dim, jnp.float32)) if use_bias else None
        self.mean_square = nnx.BatchStat(jnp.ones(model_dim, jnp.float32))

    def __call__(
        self,
        x: Float[Array, "*batch model"],
        *,
        training: bool,
        valid: Bool[Array, "*batch"] | None = None,
    ) -> Float[Array, "*batch model"]:
        """Normalise over all axes but the last; arguments as those of :class:`BatchNorm`."""
        mean_square = self.mean_square[...]
        if training:
            x = _zeros_behind(x, valid)
            mean_square = jnp.where(_any_counts(x, valid), batch_mean_square(x, valid), mean_square)
            self.mean_square[...] = running_statistics(
                self.mean_square[...], mean_square, momentum=self.momentum
            )
        bias = None if self.bias is None else self.bias[...]
        zero = jnp.zeros_like(mean_square)
        return batch_norm(x, zero, mean_square, self.scale[...], bias, epsilon=self.epsilon)


class NoNorm(nnx.Module):
    """The identity in the place of a norm.

    Example:
      >>> NoNorm()(jnp.ones(2)).tolist()
      [1.0, 1.0]
    """

    def __call__(self, x: Float[Array, "*batch model"]) -> Float[Array, "*batch model"]:
        """Return the input."""
        return x


_Norm = LayerNorm | RMSNorm | BatchNorm | PowerNorm | NoNorm


class TrainingTokens(NamedTuple):
    """Marks a call as training, with the tokens that count in the statistics of the batch.

    Attributes:
      valid: Which tokens are real, ``[batch, len]``; ``None`` = all.
    """

    valid: Bool[Array, "batch len"] | None


def training_tokens(
    valid: Bool[Array, "batch len"] | None, rng_key: jax.Array | None
) -> TrainingTokens | None:
    """Tokens of a call that trains, which is one with a key for dropout; ``None`` in evaluation.

    Example:
      >>> training_tokens(None, None) is None, training_tokens(None, jax.random.key(0))
      (True, TrainingTokens(valid=None))
    """
    return None if rng_key is None else TrainingTokens(valid)


def normalized(norm: Any, x: Array, tokens: TrainingTokens | None = None) -> Array:
    """The output of any norm; those over the batch use its statistics where there are ``tokens``, else running ones.

    Args:
      norm: Module from :func:`make_norm`, or ``None`` for the identity.
      x: ``[batch, len, model]``.
      tokens: From :func:`training_tokens`.

    Example:
      >>> normalized(make_norm("rms", 1, epsilon=0.0), jnp.full((1, 1, 1), 2.0)).tolist()
      [[[1.0]]]
    """
    if norm is None:
        return x
    if isinstance(norm, BatchNorm | PowerNorm):
        return norm(x, training=tokens is not None, valid=None if tokens is None else tokens.valid)
    return norm(x)


def remat_layer(
    run: Callable[[_Layer, Array], Array],
    layer: _Layer,
    x: Array,
    *,
    recomputed: Remat,
    tokens: TrainingTokens | None,
) -> Array:
    """Output of a layer, of which the backward pass computes a part again; running statistics are those of one pass.

    Args:
      run: From the layer and its input to its output.
      layer: May hold norms over the batch.
      x: The input.
      recomputed: See :func:`~transformer_jax.functional.remat.remat`.
      tokens: From :func:`training_tokens`.

    Example:
      >>> norm = BatchNorm(1, momentum=0.0, epsilon=0.0)
      >>> def apply(norm, x):
      ...   return normalized(norm, x, TrainingTokens(None))
      >>> remat_layer(
      ...   apply, norm, jnp.array([[1.0], [3.0]]), recomputed="layers", tokens=TrainingTokens(None)).tolist()
      [[-1.0], [1.0]]
      >>> norm.mean[...].tolist()
      [2.0]
    """
    if recomputed == "nothing":
        return run(layer, x)
    if tokens is None or not jax.tree.leaves(nnx.state(layer, nnx.BatchStat)):
        return remat(lambda x: run(layer, x), recomputed)(x)
    # Variables of outside cannot be written inside of a recomputed function: a copy is, and hands out what it wrote.
    split: Any = nnx.split(layer, nnx.BatchStat, ...)
    graph, statistics, others = split

    def apply(statistics: Any, x: Array) -> tuple[Array, Any]:
        copy = nnx.merge(graph, statistics, others)
        return run(copy, x), nnx.state(copy, nnx.BatchStat)

    output, statistics = remat(apply, recomputed)(statistics, x)
    nnx.update(layer, statistics)
    return output


def _check_momentum(momentum: float) -> None:
    if not 0.0 <= momentum <= 1.0:
        raise ConfigError(f"momentum must be in [0, 1], got {momentum}")


def _zeros_behind(x: Array, valid: Array | None) -> Array:
    """Zeros where nothing counts: what stands there reaches neither results nor gradients of the norm."""
    return x if valid is None else jnp.where(valid[..., None], x, jnp.zeros_like(x))


def _any_counts(x: Array, valid: Array | None) -> Any:
    return x.size > 0 if valid is None else valid.any()


_NORMS = ("layer", "rms", "batch", "power", "none")


def make_norm(
    kind: Normalization, model_dim: int, *, epsilon: float, use_bias: bool = True, momentum: float = 0.9
) -> _Norm:
    """The normalisation module of a name.

    Args:
      kind: ``"layer"``, ``"rms"``, ``"batch"``, ``"power"`` or ``"none"``.
      model_dim: Width of the last axis.
      epsilon: Added under the root.
      use_bias: Whether there is a shift; that of the root mean square has none.
      momentum: What running statistics of norms over the batch keep of themselves.

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
    if kind == "none":
        return NoNorm()
    if kind == "rms":
        return RMSNorm(model_dim, epsilon=epsilon)
    if kind == "layer":
        return LayerNorm(model_dim, epsilon=epsilon, use_bias=use_bias)
    make = BatchNorm if kind == "batch" else PowerNorm
    return make(model_dim, momentum=momentum, epsilon=epsilon, use_bias=use_bias)
