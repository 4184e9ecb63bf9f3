"""Combining layers against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.nn.combining import CombineQueryContext, MaxoutReadout


def _normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("use_bias", [True, False])
def test_combine_equals_its_formula(use_bias):
    combine = CombineQueryContext(2, 3, 4, use_bias=use_bias, rngs=nnx.Rngs(0))
    query, context = _normal(0, 5, 6, 2), _normal(1, 5, 6, 3)
    weight = np.asarray(combine.linear.kernel[...])  # [query_dim + context_dim, output_dim]
    wanted = np.asarray(query) @ weight[:2] + np.asarray(context) @ weight[2:]
    if use_bias:
        combine.linear.bias[...] = jnp.arange(4.0)
        wanted = wanted + np.arange(4.0)
    np.testing.assert_allclose(combine(query, context), wanted, atol=1e-6)


def test_maxout_equals_its_formula():
    readout = MaxoutReadout(2, 3, 4, 5, rngs=nnx.Rngs(0))
    state, token, context = _normal(0, 7, 2), _normal(1, 7, 3), _normal(2, 7, 4)
    readout.linear.bias[...] = jnp.arange(10.0) / 10
    weight, bias = np.asarray(readout.linear.kernel[...]), np.asarray(readout.linear.bias[...])
    summed = (
        np.asarray(state) @ weight[:2]
        + np.asarray(token) @ weight[2:5]
        + np.asarray(context) @ weight[5:]
        + bias
    )
    wanted = np.array([[max(row[unit], row[unit + 5]) for unit in range(5)] for row in summed])
    np.testing.assert_allclose(readout(state, token, context), wanted, atol=1e-6)
