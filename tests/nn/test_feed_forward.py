"""Linear maps and the feed-forward network against numpy."""

import math
from inspect import unwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.errors import ConfigError
from transformer_jax.functional.initializers import fused_xavier_uniform, xavier_uniform
from transformer_jax.nn.feed_forward import FeedForward
from transformer_jax.nn.linear import Linear
from transformer_jax.nn.parameters import parameter_count

ERF = np.vectorize(math.erf)
ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: 0.5 * x * (1 + ERF(x / np.sqrt(2))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
}
GATES = {"swiglu": "silu", "geglu": "gelu"}


def make(activation="relu", dropout_rate=0.0):
    return FeedForward(6, 10, activation=activation, dropout_rate=dropout_rate, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_equals_numpy(activation):
    layer = make(activation)
    layer.inner.bias[...] = jnp.linspace(-1, 1, 10)
    layer.outer.bias[...] = jnp.linspace(-1, 1, 6)
    x = np.random.default_rng(0).normal(size=(2, 3, 6))
    kernels = [np.asarray(linear.kernel[...], np.float64) for linear in (layer.inner, layer.outer)]
    wanted = ACTIVATIONS[activation](x @ kernels[0] + np.linspace(-1, 1, 10)) @ kernels[1] + np.linspace(
        -1, 1, 6
    )
    np.testing.assert_allclose(layer(jnp.asarray(x, jnp.float32)), wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("use_bias", [True, False])
def test_gates_equal_numpy(gate, use_bias):
    layer = FeedForward(6, 10, activation=gate, dropout_rate=0.0, use_bias=use_bias, rngs=nnx.Rngs(0))
    maps = layer.inner.kernel[...], layer.outer.kernel[...]
    inner, outer = (np.asarray(kernel, np.float64) for kernel in maps)
    assert inner.shape == (6, 20)
    shift = np.zeros(20)
    if use_bias:
        shift = np.linspace(-1, 1, 20)
        layer.inner.bias[...] = jnp.asarray(shift, jnp.float32)
    assert parameter_count(layer) == 3 * 60 + (26 if use_bias else 0)
    x = np.random.default_rng(0).normal(size=(2, 3, 6))
    gates, values = np.split(x @ inner + shift, 2, axis=-1)
    wanted = (ACTIVATIONS[GATES[gate]](gates) * values) @ outer
    np.testing.assert_allclose(layer(jnp.asarray(x, jnp.float32)), wanted, atol=1e-5 * np.abs(wanted).max())


def test_dropout_sits_between_the_maps():
    layer = make(dropout_rate=0.5)
    layer.inner.kernel[...] = jnp.zeros((6, 10))
    layer.inner.bias[...] = jnp.ones(10)
    layer.outer.kernel[...] = jnp.eye(10)[:, :6]
    x = jnp.ones((4, 6))
    assert set(np.unique(layer(x, rng_key=jax.random.key(0)))) == {0.0, 2.0}
    assert set(np.unique(layer(x))) == {1.0}


def test_linear_keeps_leading_axes_and_dtype():
    linear = Linear(4, (3, 2), use_bias=True, rngs=nnx.Rngs(0))
    assert linear(jnp.ones(4)).shape == (5,)
    assert linear(jnp.ones((2, 3, 4))).shape == (2, 3, 5)
    assert linear(jnp.ones((0, 4))).shape == (0, 5)
    assert linear(jnp.ones((2, 4), jnp.bfloat16)).dtype == jnp.bfloat16
    assert parameter_count(linear) == 4 * 5 + 5
    assert parameter_count(Linear(4, (5,), use_bias=False, rngs=nnx.Rngs(0))) == 20


def test_parts_of_a_fused_map_start_as_if_alone():
    kernel = np.asarray(fused_xavier_uniform(jax.random.key(0), 64, (64, 16)))
    for part, width in ((kernel[:, :64], 64), (kernel[:, 64:], 16)):
        bound = np.sqrt(6 / (64 + width))
        assert np.abs(part).max() <= bound
        assert np.abs(part).max() > 0.98 * bound
    alone = np.asarray(xavier_uniform(jax.random.key(1), 64, 64))
    assert abs(alone.std() - np.sqrt(2 / 128)) < 0.01


def test_parameter_count_counts_a_shared_array_once():
    class Shares(nnx.Module):
        def __init__(self):
            self.first = Linear(3, (4,), use_bias=False, rngs=nnx.Rngs(0))
            self.second = self.first
            self.statistic = nnx.BatchStat(jnp.zeros(7))

    assert parameter_count(Shares()) == 12


def test_unknown_activation_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'relu'"):
        unwrap(FeedForward.__init__)(
            object.__new__(FeedForward), 6, 10, activation="relo", dropout_rate=0.0, rngs=nnx.Rngs(0)
        )
