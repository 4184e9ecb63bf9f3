"""Losses of forecasts: squared error, and pinball loss of quantiles."""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from transformer_jax.bounds import require_field
from transformer_jax.errors import ShapeError, check_choice
from transformer_jax.functional.losses import LossSum
from transformer_jax.nn.parameters import non_parameters
from transformer_jax.typing import Array, Float, Key, PyTree

Units = Literal["scaled", "context"]
"""Units of errors: those of the scaled values, or the mean absolute deviation of each window's context."""

_MIN_DEVIATION = 1e-2
"""Share of the context's mean absolute value that its deviation counts for at least: a constant one has none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SquaredError:
    r"""Squared error of point forecasts.

    .. math:: \ell = \sum_n w_n (y_n - \hat y_n)^2

    Attributes:
      units: ``"scaled"``, or ``"context"`` where series differ in size and are not scaled.

    Example:
      >>> import numpy as np
      >>> from flax import nnx
      >>> from transformer_jax.data.series_windows import SeriesBatch
      >>> class Zero(nnx.Module):
      ...   def __call__(self, context, *, rng_key=None):
      ...     return jnp.zeros((context.shape[0], 1, 1, 1))
      >>> one = np.ones((2, 1, 1), np.float32)
      >>> batch = SeriesBatch(one, 3 * one, np.array([[[1.0]], [[0.0]]], np.float32), np.arange(2, dtype=np.int32))
      >>> loss, metrics, _ = SquaredError()(Zero(), batch, None)
      >>> float(loss.mean()), float(loss.count), float(metrics["mae"].mean())
      (9.0, 1.0, 3.0)
    """

    quantiles: ClassVar[tuple[float, ...]] = ()

    kind: Literal["squared_error"] = "squared_error"
    units: Units = "scaled"

    def __post_init__(self) -> None:
        check_choice("units", self.units, ("scaled", "context"))

    def __call__(
        self, model: Any, batch: Any, rng_key: Key[Array, ""] | None
    ) -> tuple[LossSum, dict[str, LossSum], PyTree]:
        """Score a batch.

        Args:
          model: ``(context [batch, time, channels], *, rng_key=None) -> [batch, horizon, channels, outputs]``.
          batch: ``SeriesBatch``.
          rng_key: Of dropout; None means evaluation.

        Returns:
          The summed loss; the metric ``"mae"``; the variables of the model that are no parameters.

        Raises:
          ShapeError: If the model does not give one number for each target.
        """
        errors, weights = _errors(self, model, batch, rng_key)
        count = weights.sum()
        loss = LossSum(jnp.sum(jnp.square(errors[..., 0]) * weights), count)
        return loss, {"mae": _absolute(errors[..., 0], weights)}, non_parameters(model)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PinballLoss:
    r"""Pinball loss of quantiles, summed over them and divided by half their number.

    .. math:: \ell = \frac{2}{|Q|} \sum_n w_n \sum_{q \in Q} \max\bigl(q e_{nq}, (q - 1) e_{nq}\bigr), \quad
       e_{nq} = y_n - \hat y_{nq}

    With the median alone it is the absolute error.

    Attributes:
      quantiles: In growing order, between 0 and 1, with the median 0.5, which is the point forecast.
      units: As of `SquaredError`.

    Raises:
      ConfigError: If the quantiles are not such.

    Example:
      >>> import numpy as np
      >>> from transformer_jax.data.series_windows import SeriesBatch
      >>> class Zero(nnx.Module):
      ...   def __call__(self, context, *, rng_key=None):
      ...     return jnp.zeros((context.shape[0], 1, 1, 3))
      >>> one = np.ones((1, 1, 1), np.float32)
      >>> batch = SeriesBatch(one, one, one, np.zeros(1, np.int32))
      >>> loss, _, _ = PinballLoss(quantiles=(0.1, 0.5, 0.9))(Zero(), batch, None)
      >>> float(loss.mean())  # 2 / 3 of 0.1 + 0.5 + 0.9
      1.0
      >>> PinballLoss(quantiles=(0.1, 0.9))
      Traceback (most recent call last):
      transformer_jax.errors.ConfigError: PinballLoss.quantiles must be with the median, 0.5; got (0.1, 0.9)

    Source: Koenker and Bassett 1978, https://doi.org/10.2307/1913643.
    """

    kind: Literal["pinball"] = "pinball"
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)
    units: Units = "scaled"

    def __post_init__(self) -> None:
        check_choice("units", self.units, ("scaled", "context"))
        between = all(0.0 < one < 1.0 for one in self.quantiles) and len(self.quantiles) < 1000
        require_field(between, self, "quantiles", "between 0 and 1")
        require_field(
            list(self.quantiles) == sorted(set(self.quantiles)), self, "quantiles", "in growing order"
        )
        require_field(0.5 in self.quantiles, self, "quantiles", "with the median, 0.5")

    def __call__(
        self, model: Any, batch: Any, rng_key: Key[Array, ""] | None
    ) -> tuple[LossSum, dict[str, LossSum], PyTree]:
        """Score a batch, see `SquaredError`; the metric ``"mae"`` is of the median."""
        errors, weights = _errors(self, model, batch, rng_key)
        quantiles = jnp.array(self.quantiles, jnp.float32)[None, None, None]
        pinball = jnp.maximum(quantiles * errors, (quantiles - 1.0) * errors).mean(axis=-1)
        loss = LossSum(2.0 * jnp.sum(pinball * weights), weights.sum())
        median = errors[..., self.quantiles.index(0.5)]
        return loss, {"mae": _absolute(median, weights)}, non_parameters(model)


def _errors(
    objective: Any, model: Any, batch: Any, rng_key: Key[Array, ""] | None
) -> tuple[Float[Array, "batch horizon channels outputs"], Float[Array, "batch horizon channels"]]:
    """Targets less forecasts, 0 where there is no target, in the objective's units; and the targets' weights."""
    batch = jax.tree.map(jnp.asarray, batch)
    found = model(batch.inputs, rng_key=rng_key)
    wanted = (*batch.targets.shape, max(1, len(objective.quantiles)))
    if found.shape != wanted:
        raise ShapeError(f"objective '{objective.kind}' wants forecasts of shape {wanted}, got {found.shape}")
    weights = batch.weights.astype(jnp.float32)
    errors = jnp.where(weights[..., None] > 0, batch.targets[..., None] - found, 0.0)
    if objective.units == "context":
        errors = errors / context_deviation(batch.inputs)[..., None]
    return errors, weights


def context_deviation(context: Float[Array, "batch time channels"]) -> Float[Array, "batch one channels"]:
    r"""Mean absolute deviation of each window and channel, at least a hundredth of the mean absolute value.

    .. math:: d = \max\bigl(\overline{|x - \bar x|},\; 0.01\, \overline{|x|}\bigr)

    A window of zeros has 1.

    Args:
      context: ``[batch, time, channels]``.

    Example:
      >>> found = context_deviation(jnp.array([[[1.0], [3.0]], [[5.0], [5.0]], [[0.0], [0.0]]]))
      >>> [f"{value:.2f}" for value in found.ravel()]
      ['1.00', '0.05', '1.00']
    """
    mean = context.mean(axis=1, keepdims=True)
    deviation = jnp.abs(context - mean).mean(axis=1, keepdims=True)
    size = jnp.abs(context).mean(axis=1, keepdims=True)
    found = jnp.maximum(deviation, _MIN_DEVIATION * size)
    return jnp.where(found > 0, found, 1.0)


def _absolute(errors: Array, weights: Array) -> LossSum:
    return jax.lax.stop_gradient(LossSum(jnp.sum(jnp.abs(errors) * weights), weights.sum()))
