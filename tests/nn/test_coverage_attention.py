"""Coverage of additive attention against a loop in NumPy written from the equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.errors import ConfigError
from transformer_jax.models import Bahdanau
from transformer_jax.nn.coverage_attention import CoverageAttention


def by_loops(attend, query, memory, lengths, coverage):
    """Contexts and weights, a query and a position at a time."""
    own = {name: np.asarray(getattr(attend, name)[...], np.float64) for name in (
        "query_weight", "key_weight", "vector", "coverage_weight"
    )}  # fmt: skip
    width = len(own["coverage_weight"])
    contexts, weights = np.zeros((*query.shape[:2], memory.shape[-1])), np.zeros(coverage.shape)
    for row, length in enumerate(lengths):
        for place in range(query.shape[1]):
            scores = np.full(length, -np.inf)
            for j in range(length):
                hidden = query[row, place] @ own["query_weight"] + memory[row, j] @ own["key_weight"]
                for tap in range(width):
                    k = j + tap - (width - 1) // 2
                    if 0 <= k < coverage.shape[-1]:
                        hidden = hidden + coverage[row, place, k] * own["coverage_weight"][tap]
                scores[j] = np.tanh(hidden) @ own["vector"]
            if length:
                shares = np.exp(scores - scores.max())
                weights[row, place, :length] = shares / shares.sum()
                contexts[row, place] = weights[row, place, :length] @ memory[row, :length]
    return contexts, weights


@pytest.mark.parametrize("width", [4, *(pytest.param(width, marks=pytest.mark.full) for width in (1, 7))])
def test_matches_a_loop_whatever_the_padding_holds(width):
    generator = np.random.default_rng(0)
    attend = CoverageAttention(5, 4, 6, coverage_width=width, rngs=nnx.Rngs(0))
    query, memory = generator.normal(size=(3, 2, 4)), generator.normal(size=(3, 5, 6))
    lengths = np.array([5, 2, 0])
    valid = np.arange(5) < lengths[:, None]
    coverage = generator.uniform(size=(3, 2, 5)) * valid[:, None]
    wanted = by_loops(attend, query, memory, lengths, coverage)
    spoiled = np.where(valid[..., None], memory, np.nan).astype(np.float32)

    def run(query, memory, coverage):
        return attend.covering(query, attend.prepare(memory), jnp.asarray(lengths), coverage)

    found = jax.jit(run)(jnp.float32(query), jnp.asarray(spoiled), jnp.float32(coverage))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def test_coverage_is_of_the_additive_score():
    assert Bahdanau(attention_dim=4, coverage_width=3).coverage_width == 3
    with pytest.raises(ConfigError, match="coverage_width is for score 'additive'"):
        Bahdanau(attention_dim=4, score="general", coverage_width=3)
    with pytest.raises(ConfigError, match="coverage_width must be at least 1"):
        Bahdanau(attention_dim=4, coverage_width=0)
