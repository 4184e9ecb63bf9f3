"""Norms against their formulas in float64 NumPy."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.errors import ShapeError
from transformer_jax.functional.normalization import (
    batch_norm,
    batch_statistics,
    layer_norm,
    rms_norm,
    running_statistics,
)
from transformer_jax.testing.recurrence_suite import assert_close


def reference_layer_norm(x, scale, bias, epsilon):
    rows = []
    for row in x.reshape(-1, x.shape[-1]):
        mean = row.sum() / len(row)
        variance = ((row - mean) ** 2).sum() / len(row)
        rows.append((row - mean) / np.sqrt(variance + epsilon) * scale + bias)
    return np.stack(rows).reshape(x.shape)


@pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 3, 6), (0, 6)])
def test_layer_norm_equals_its_formula(random_generator, shape):
    x = random_generator.normal(size=shape) + 3.0
    scale, bias = random_generator.normal(size=(2, 6))
    actual = layer_norm(*(jnp.asarray(a, jnp.float32) for a in (x, scale, bias)), epsilon=1e-3)
    if x.size:
        assert_close(actual, reference_layer_norm(x, scale, bias, 1e-3), 1e-5)
    assert actual.shape == shape


def test_layer_norm_of_a_large_offset_keeps_its_digits():
    # The one-pass variance, E[x^2] - E[x]^2, would be all cancellation here.
    x = np.array([[10_000.0, 10_001.0, 10_002.0, 10_003.0]])
    actual = layer_norm(jnp.asarray(x, jnp.float32), epsilon=0.0)
    assert_close(actual, reference_layer_norm(x, 1.0, 0.0, 0.0), 1e-5)


def test_layer_norm_of_equal_features_is_its_bias():
    bias = jnp.array([1.0, 2.0, 3.0])
    x = jnp.full((2, 3), 5.0)
    np.testing.assert_array_equal(layer_norm(x, jnp.ones(3), bias), jnp.stack([bias, bias]))
    assert np.isfinite(jax.grad(lambda x: layer_norm(x, jnp.ones(3), bias).sum())(x)).all()


def test_layer_norm_gradient_is_orthogonal_to_shift_and_scale(random_generator):
    # y is unchanged by x -> x + a and (without epsilon) by x -> b x: the gradient has no part along either.
    x, weights = (jnp.asarray(random_generator.normal(size=(4, 8)), jnp.float32) for _ in range(2))
    gradient = jax.grad(lambda x: (layer_norm(x, epsilon=0.0) * weights).sum())(x)
    np.testing.assert_allclose(gradient.sum(axis=-1), 0.0, atol=1e-5)
    np.testing.assert_allclose((gradient * x).sum(axis=-1), 0.0, atol=1e-5)


@pytest.mark.parametrize("with_scale", [True, False])
def test_rms_norm_equals_its_formula(random_generator, with_scale):
    x = random_generator.normal(size=(2, 3, 6)) + 1.0
    scale = random_generator.normal(size=6) if with_scale else None
    expected = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6) * (1.0 if scale is None else scale)
    given = None if scale is None else jnp.asarray(scale, jnp.float32)
    assert_close(rms_norm(jnp.asarray(x, jnp.float32), given), expected, 1e-5)


def test_norms_return_the_dtype_of_their_input_and_count_in_float32(random_generator):
    x = random_generator.normal(size=(2, 512)) + 8.0
    half = jnp.asarray(x, jnp.bfloat16)
    exact = np.asarray(half, np.float64)
    for actual, expected in [
        (layer_norm(half), reference_layer_norm(exact, 1.0, 0.0, 1e-5)),
        (rms_norm(half), exact / np.sqrt((exact**2).mean(axis=-1, keepdims=True))),
    ]:
        assert actual.dtype == jnp.bfloat16
        assert_close(actual, expected, 2e-2)
    mean, variance = batch_statistics(half)
    assert mean.dtype == variance.dtype == jnp.float32
    assert batch_norm(half, mean, variance).dtype == jnp.bfloat16


def test_batch_statistics_count_what_is_weighted(random_generator):
    x = random_generator.normal(size=(3, 4, 5))
    counts = random_generator.random(size=(3, 4)) > 0.4
    mean, variance = batch_statistics(
        jnp.asarray(np.where(counts[..., None], x, np.nan), jnp.float32), jnp.asarray(counts)
    )
    rows = x[counts]
    assert_close((mean, variance), (rows.mean(axis=0), rows.var(axis=0)), 1e-5)


def test_batch_statistics_of_nothing_are_zero_and_flat():
    x = jnp.full((2, 3), jnp.nan)
    nothing = jnp.zeros(2)
    assert not np.asarray(batch_statistics(x, nothing)).any()
    gradient = jax.grad(lambda x: sum(part.sum() for part in batch_statistics(x, nothing)))(x)
    np.testing.assert_array_equal(gradient, 0.0)


def test_batch_norm_by_its_own_statistics_is_standard(random_generator):
    x = jnp.asarray(random_generator.normal(size=(50, 4)) * 3.0 + 2.0, jnp.float32)
    y = np.asarray(batch_norm(x, *batch_statistics(x), epsilon=0.0))
    np.testing.assert_allclose(y.mean(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(y.std(axis=0), 1.0, rtol=1e-5)


def test_running_statistics_settle_at_a_constant():
    running = jnp.zeros(1)
    for _ in range(60):
        running = running_statistics(running, jnp.full(1, 3.0), momentum=0.8)
    np.testing.assert_allclose(running, 3.0, rtol=1e-4)


def test_norms_work_under_jit_and_vmap(random_generator):
    x = jnp.asarray(random_generator.normal(size=(3, 2, 6)), jnp.float32)
    scale = jnp.ones(6)
    for function in (lambda x: layer_norm(x, scale, scale), lambda x: rms_norm(x, scale)):
        assert_close(jax.jit(jax.vmap(function))(x), function(x), 1e-6)


def test_wrong_sizes_are_named():
    x = jnp.ones((2, 3))
    wrong = jnp.ones(4)
    for call, name in [
        (lambda: inspect.unwrap(layer_norm)(x, wrong), "scale"),
        (lambda: inspect.unwrap(layer_norm)(x, None, wrong), "bias"),
        (lambda: inspect.unwrap(rms_norm)(x, wrong), "scale"),
        (lambda: inspect.unwrap(batch_norm)(x, wrong, wrong), "mean"),
        (lambda: inspect.unwrap(batch_statistics)(x, wrong), "weights"),
    ]:
        with pytest.raises(ShapeError, match=f"^{name} must have shape") as caught:
            call()
        assert "(4,)" in str(caught.value)
