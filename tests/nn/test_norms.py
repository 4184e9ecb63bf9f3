"""Norm modules against numpy, and batch norm's running statistics."""

from inspect import unwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.errors import ConfigError
from transformer_jax.nn.norms import BatchNorm, LayerNorm, RMSNorm, make_norm

X = np.random.default_rng(0).normal(2.0, 3.0, (4, 5, 6)).astype(np.float32)


def test_layer_norm():
    norm = LayerNorm(6, epsilon=1e-3)
    norm.scale[...] = jnp.arange(1.0, 7.0)
    norm.bias[...] = jnp.arange(6.0)
    wide = X.astype(np.float64)
    wanted = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-3)
    wanted = wanted * np.arange(1, 7) + np.arange(6)
    np.testing.assert_allclose(norm(jnp.asarray(X)), wanted, atol=1e-5 * np.abs(wanted).max())


def test_rms_norm():
    norm = RMSNorm(6, epsilon=1e-3)
    norm.scale[...] = jnp.arange(1.0, 7.0)
    wide = X.astype(np.float64)
    wanted = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-3) * np.arange(1, 7)
    np.testing.assert_allclose(norm(jnp.asarray(X)), wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_statistics_are_float32_whatever_the_dtype(kind):
    norm = make_norm(kind, 6, epsilon=1e-5)
    y = norm(jnp.asarray(X * 1e3, jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    reference = norm(jnp.asarray(X * 1e3, jnp.bfloat16).astype(jnp.float32))
    np.testing.assert_allclose(y.astype(jnp.float32), reference, atol=2e-2)


def test_batch_norm_trains_on_the_batch_and_remembers():
    norm = BatchNorm(6, momentum=0.9, epsilon=1e-5)
    wide = X.astype(np.float64).reshape(-1, 6)
    mean, variance = wide.mean(0), wide.var(0)
    y = norm(jnp.asarray(X), training=True)
    wanted = (X - mean) / np.sqrt(variance + 1e-5)
    np.testing.assert_allclose(y, wanted, atol=1e-5 * np.abs(wanted).max())
    np.testing.assert_allclose(norm.mean[...], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(norm.variance[...], 0.9 + 0.1 * variance, rtol=1e-5)
    before = norm.mean[...]
    y = norm(jnp.asarray(X), training=False)
    wanted = (X - 0.1 * mean) / np.sqrt(0.9 + 0.1 * variance + 1e-5)
    np.testing.assert_allclose(y, wanted, atol=1e-5 * np.abs(wanted).max())
    np.testing.assert_array_equal(norm.mean[...], before)


def test_batch_norm_counts_valid_positions_only():
    valid = np.random.default_rng(1).random((4, 5)) > 0.4
    norm = BatchNorm(6, momentum=0.0, epsilon=1e-5)
    junk = np.where(valid[..., None], X, 1e6).astype(np.float32)
    norm(jnp.asarray(junk), training=True, valid=jnp.asarray(valid))
    np.testing.assert_allclose(norm.mean[...], X[valid].mean(0), rtol=1e-4)
    np.testing.assert_allclose(norm.variance[...], X[valid].var(0), rtol=1e-4)


def test_running_statistics_leave_a_compiled_step_as_new_state():
    norm = BatchNorm(6, momentum=0.5, epsilon=1e-5)
    graphdef, params, statistics = nnx.split(norm, nnx.Param, nnx.BatchStat)

    @jax.jit
    def step(params, statistics, x):
        module = nnx.merge(graphdef, params, statistics)
        loss = (module(x, training=True) ** 2).sum()
        return loss, nnx.state(module, nnx.BatchStat)

    _, updated = step(params, statistics, jnp.asarray(X))
    np.testing.assert_allclose(updated["mean"][...], 0.5 * X.reshape(-1, 6).mean(0), rtol=1e-5)
    assert not np.asarray(statistics["mean"][...]).any()
    assert set(params) == {"scale", "bias"}


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'layer'"):
        unwrap(make_norm)("layr", 6, epsilon=1e-5)
    with pytest.raises(ConfigError, match="momentum"):
        BatchNorm(6, momentum=1.5, epsilon=1e-5)
