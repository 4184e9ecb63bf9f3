"""Losses of forecasts against loops over their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.data.series_windows import SeriesBatch
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.objectives import PinballLoss, SquaredError

GENERATOR = np.random.default_rng(5)
INPUTS, TARGETS = (GENERATOR.normal(size=(3, length, 2)).astype(np.float32) for length in (6, 4))
WEIGHTS = (GENERATOR.random((3, 4, 2)) < 0.7).astype(np.float32)
BATCH = SeriesBatch(INPUTS, TARGETS, WEIGHTS, np.arange(3, dtype=np.int32))


class Fixed(nnx.Module):
    """Gives what it was made with."""

    def __init__(self, outputs):
        self.outputs = nnx.Param(jnp.asarray(outputs, jnp.float32))

    def __call__(self, context, *, rng_key=None):
        return self.outputs[...]


@pytest.mark.parametrize("units", ["scaled", "context"])
def test_squared_error_and_pinball_loss_by_loops(units):
    quantiles = (0.2, 0.5, 0.9)
    outputs = GENERATOR.normal(size=(3, 4, 2, 3))
    squared, pinball, absolute = 0.0, 0.0, 0.0
    for row, step, channel in np.argwhere(WEIGHTS > 0):
        context = INPUTS[row, :, channel].astype(np.float64)
        unit = np.abs(context - context.mean()).mean() if units == "context" else 1.0
        errors = (TARGETS[row, step, channel] - outputs[row, step, channel]) / unit
        squared += errors[1] ** 2
        absolute += abs(errors[1])
        pinball += 2 / 3 * sum(max(q * e, (q - 1) * e) for q, e in zip(quantiles, errors, strict=True))
    point, metrics, _ = SquaredError(units=units)(Fixed(outputs[..., 1:2]), BATCH, None)
    assert float(point.sum) == pytest.approx(squared, rel=1e-5)
    assert float(metrics["mae"].sum) == pytest.approx(absolute, rel=1e-5)
    found, metrics, _ = PinballLoss(quantiles=quantiles, units=units)(Fixed(outputs), BATCH, None)
    assert float(found.sum) == pytest.approx(pinball, rel=1e-5)
    assert float(metrics["mae"].sum) == pytest.approx(absolute, rel=1e-5)
    assert float(found.count) == float(point.count) == WEIGHTS.sum()


def test_the_median_alone_is_the_absolute_error():
    outputs = GENERATOR.normal(size=(3, 4, 2, 1))
    loss, metrics, _ = PinballLoss(quantiles=(0.5,))(Fixed(outputs), BATCH, None)
    assert float(loss.sum) == pytest.approx(float(metrics["mae"].sum), rel=1e-6)


def test_what_was_not_observed_reaches_neither_loss_nor_gradient():
    model = Fixed(GENERATOR.normal(size=(3, 4, 2, 1)))
    targets = np.where(WEIGHTS > 0, TARGETS, np.nan).astype(np.float32)

    def loss(model, batch):
        return SquaredError()(model, batch, None)[0].mean()

    value, gradient = nnx.value_and_grad(loss)(model, BATCH._replace(targets=targets))
    assert float(value) == float(loss(model, BATCH))
    found = np.asarray(jax.tree.leaves(gradient)[0])[..., 0]
    assert np.isfinite(found).all()
    assert (found[WEIGHTS == 0] == 0).all()
    assert (found[WEIGHTS > 0] != 0).all()


def test_refusals():
    with pytest.raises(ShapeError, match=r"wants forecasts of shape \(3, 4, 2, 3\), got \(3, 4, 2, 1\)"):
        PinballLoss()(Fixed(np.zeros((3, 4, 2, 1))), BATCH, None)
    for quantiles in ((0.9, 0.5), (0.0, 0.5), (0.5, 0.5), ()):
        with pytest.raises(ConfigError, match="quantiles"):
            PinballLoss(quantiles=quantiles)
    with pytest.raises(ConfigError, match="units"):
        SquaredError(units="days")
