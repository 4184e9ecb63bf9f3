"""One-head attention under every score rule, against NumPy loops over queries and keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.errors import ConfigError
from transformer_jax.functional import AttentionMask
from transformer_jax.nn import score_attention as rules
from transformer_jax.nn.score_attention import ScoreAttention

RULES = {
    "dot": rules.DotScore(),
    "scaled_dot": rules.ScaledDotScore(),
    "general": rules.GeneralScore(),
    "additive": rules.AdditiveScore(attention_dim=5),
    "additive_sum": rules.AdditiveSumScore(attention_dim=5),
    "concat": rules.ConcatScore(attention_dim=5),
    "linear": rules.LinearScore(),
    "location": rules.LocationScore(max_len=7),
}
LENGTHS = (4, 2, 0)


def _score(attend, query, key, position):
    """One score in float64, from the literature's formula."""

    def parameter(name):
        return np.asarray(getattr(attend, name)[...], np.float64)

    match attend.rule.kind:
        case "dot":
            return query @ key
        case "scaled_dot":
            return query @ key / np.sqrt(len(query))
        case "general":
            return query @ parameter("weight") @ key
        case "additive":
            hidden = np.tanh(query @ parameter("query_weight") + key @ parameter("key_weight"))
            return parameter("vector") @ hidden
        case "additive_sum":
            return np.tanh(query @ parameter("query_weight") + key @ parameter("key_weight")).sum()
        case "concat":
            return parameter("vector") @ np.tanh(np.concatenate([query, key]) @ parameter("weight"))
        case "linear":
            return parameter("weight") @ np.concatenate([query, key])
        case _:
            return (parameter("weight") @ query)[position]


def _case(name):
    key_dim = 3 if name in ("dot", "scaled_dot") else 4
    attend = ScoreAttention(RULES[name], 3, key_dim, rngs=nnx.Rngs(0))
    query = jax.random.normal(jax.random.key(0), (3, 2, 3))
    memory = jax.random.normal(jax.random.key(1), (3, 4, key_dim))
    return attend, query, memory


@pytest.mark.parametrize("name", RULES)
def test_equals_a_double_loop(name):
    attend, query, memory = _case(name)
    queries, keys = np.asarray(query, np.float64), np.asarray(memory, np.float64)
    wanted, wanted_weights = np.zeros((3, 2, memory.shape[-1])), np.zeros((3, 1, 2, 4))
    for row, length in enumerate(LENGTHS):
        for index in range(2 if length else 0):
            scores = np.array([_score(attend, queries[row, index], keys[row, j], j) for j in range(length)])
            weights = np.exp(scores - scores.max())
            wanted_weights[row, 0, index, :length] = weights / weights.sum()
            wanted[row, index] = wanted_weights[row, 0, index, :length] @ keys[row, :length]
    prepared, mask = attend.prepare(memory), AttentionMask.from_lengths(jnp.array(LENGTHS), 4)
    np.testing.assert_allclose(attend(query, prepared, mask), wanted, atol=1e-5)
    output, weights = attend.with_weights(query, prepared, mask)
    np.testing.assert_allclose(output, wanted, atol=1e-5)
    np.testing.assert_allclose(weights, wanted_weights, atol=1e-5)


@pytest.mark.parametrize("name", RULES)
def test_gradients_reach_every_parameter(name):
    attend, query, memory = _case(name)
    graphdef, params = nnx.split(attend)

    def loss(params):
        attend = nnx.merge(graphdef, params)
        mask = AttentionMask.from_lengths(jnp.array(LENGTHS), 4)
        return jnp.sum(jnp.sin(attend(query, attend.prepare(memory), mask)))

    gradients = jax.grad(loss)(params)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert bool(jnp.all(jnp.isfinite(gradient))), path
        assert float(jnp.max(jnp.abs(gradient))) > 0.0, path
    if name == "linear":  # the query cancels in the softmax
        np.testing.assert_array_equal(gradients["weight"][...][:3], 0.0)


def test_products_need_one_width():
    with pytest.raises(ConfigError, match="got 3 and 4"):
        ScoreAttention(rules.DotScore(), 3, 4, rngs=nnx.Rngs(0))
