"""Pooling over padded sequences against loops over the valid steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.nn.pooling import AttentionPooling, LastPooling, MaxPooling, MeanPooling

LENGTHS = (4, 2, 0)
ROW_ORACLES = {"mean": lambda row: row.mean(0), "max": lambda row: row.max(0), "last": lambda row: row[-1]}


def _pooling(name):
    if name == "attention":
        return AttentionPooling(3, 5, rngs=nnx.Rngs(0))
    return {"mean": MeanPooling, "max": MaxPooling, "last": LastPooling}[name]()


def _attention_oracle(pool, row):
    hidden = np.tanh(row @ np.asarray(pool.hidden.kernel[...]) + np.asarray(pool.hidden.bias[...]))
    scores = hidden @ np.asarray(pool.query[...])
    weights = np.exp(scores - scores.max())
    return weights @ row / weights.sum()


@pytest.mark.parametrize("name", ["mean", "max", "last", "attention"])
def test_equals_a_loop_over_valid_steps(name):
    pool = _pooling(name)
    inputs = np.asarray(jax.random.normal(jax.random.key(0), (3, 4, 3)))
    oracle = ROW_ORACLES.get(name) or (lambda row: _attention_oracle(pool, row))
    wanted = np.stack(
        [oracle(row[:length]) if length else np.zeros(3) for row, length in zip(inputs, LENGTHS)]
    )
    got = pool(jnp.asarray(inputs), lengths=jnp.array(LENGTHS))
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    unpadded = np.stack([oracle(row) for row in inputs])
    np.testing.assert_allclose(pool(jnp.asarray(inputs)), unpadded, atol=1e-6)


@pytest.mark.parametrize("name", ["mean", "max", "last", "attention"])
def test_padding_reaches_neither_value_nor_gradient(name):
    pool, lengths = _pooling(name), jnp.array(LENGTHS)
    inputs = jax.random.normal(jax.random.key(0), (3, 4, 3))
    valid = (jnp.arange(4)[None, :] < lengths[:, None])[..., None]
    poisoned = jnp.where(valid, inputs, jnp.nan)
    np.testing.assert_array_equal(pool(poisoned, lengths=lengths), pool(inputs, lengths=lengths))
    gradient = jax.grad(lambda x: jnp.sum(jnp.sin(pool(x, lengths=lengths))))(inputs)
    assert bool(jnp.all(jnp.isfinite(gradient)))
    assert float(jnp.max(jnp.abs(jnp.where(valid, 0.0, gradient)))) == 0.0
    assert float(jnp.min(jnp.max(jnp.abs(gradient[:2]), axis=(1, 2)))) > 0.0


def test_attention_weights_sum_to_one_over_valid_steps():
    pool = _pooling("attention")
    weights = pool.weights(jax.random.normal(jax.random.key(0), (3, 4, 3)), lengths=jnp.array(LENGTHS))
    np.testing.assert_allclose(weights.sum(axis=1), [1.0, 1.0, 0.0], atol=1e-6)
    np.testing.assert_array_equal(weights[1, 2:], 0.0)


@pytest.mark.parametrize("name", ["mean", "max", "last", "attention"])
@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3)])
def test_nothing_pools_to_zeros(name, shape):
    for lengths in (None, jnp.zeros(shape[0], jnp.int32)):
        np.testing.assert_array_equal(
            _pooling(name)(jnp.ones(shape), lengths=lengths), np.zeros((shape[0], 3))
        )
