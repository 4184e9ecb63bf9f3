"""Norm modules against numpy, and batch norm's running statistics."""

from inspect import unwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.errors import ConfigError
from transformer_jax.nn.norms import BatchNorm, LayerNorm, NoNorm, PowerNorm, RMSNorm, make_norm

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


def test_power_norm_divides_by_the_batchs_root_mean_square():
    norm = PowerNorm(6, momentum=0.9, epsilon=1e-5)
    square = (X.astype(np.float64) ** 2).reshape(-1, 6).mean(0)
    wanted = X / np.sqrt(square + 1e-5)
    np.testing.assert_allclose(norm(jnp.asarray(X), training=True), wanted, atol=1e-5 * np.abs(wanted).max())
    np.testing.assert_allclose(norm.mean_square[...], 0.9 + 0.1 * square, rtol=1e-5)
    wanted = X / np.sqrt(0.9 + 0.1 * square + 1e-5)
    np.testing.assert_allclose(norm(jnp.asarray(X), training=False), wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("kind", ["batch", "power"])
def test_a_batch_without_real_tokens_changes_no_statistic(kind):
    norm = make_norm(kind, 6, epsilon=1e-5)
    before = jax.tree.map(np.asarray, nnx.state(norm, nnx.BatchStat))
    found = norm(jnp.full((2, 3, 6), jnp.nan), training=True, valid=jnp.zeros((2, 3), bool))
    assert np.isfinite(found).all()
    jax.tree.map(np.testing.assert_array_equal, nnx.state(norm, nnx.BatchStat), before)
    assert norm(jnp.ones((0, 3, 6)), training=True).shape == (0, 3, 6)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(norm, nnx.BatchStat), before)


@pytest.mark.parametrize("kind", ["batch", "power"])
def test_one_token_and_padding_that_is_no_number_give_finite_gradients(kind):
    valid = jnp.zeros((2, 3), bool).at[0, 0].set(True)
    x = jnp.where(valid[..., None], jnp.asarray(X[:2, :3]), jnp.nan)
    graph, params, statistics = nnx.split(make_norm(kind, 6, epsilon=1e-5), nnx.Param, nnx.BatchStat)

    def loss(params, x):
        norm = nnx.merge(graph, params, statistics, copy=True)
        y = norm(x, training=True, valid=valid)
        return jnp.where(valid[..., None], y, 0.0).sum(), nnx.state(norm, nnx.BatchStat)

    (gradients, to_inputs), after = jax.grad(loss, argnums=(0, 1), has_aux=True)(params, x)
    for leaf in jax.tree.leaves((gradients, to_inputs, after)):
        assert np.isfinite(leaf).all()
    if kind == "batch":
        np.testing.assert_allclose(after["mean"][...], 0.1 * X[0, 0], rtol=1e-5)
        np.testing.assert_allclose(after["variance"][...], 0.9, rtol=1e-6)


def test_no_norm_is_the_identity_without_parameters():
    norm = make_norm("none", 6, epsilon=1e-5)
    assert isinstance(norm, NoNorm)
    assert not jax.tree.leaves(nnx.state(norm))
    np.testing.assert_array_equal(norm(jnp.asarray(X)), X)


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'layer'"):
        unwrap(make_norm)("layr", 6, epsilon=1e-5)
    with pytest.raises(ConfigError, match="momentum"):
        BatchNorm(6, momentum=1.5, epsilon=1e-5)
