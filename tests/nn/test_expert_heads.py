"""Heads as experts: by loops over tokens and heads, decoding step by step, padding and losses in training."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.errors import ConfigError
from transformer_jax.functional import AttentionMask
from transformer_jax.models import DecoderOnlyConfig
from transformer_jax.nn import ExpertHeadAttention, ExpertHeads, NoPositions
from transformer_jax.nn.cache import KeyValueCache
from transformer_jax.nn.norms import TrainingTokens
from transformer_jax.training.router_losses import routing_terms

BATCH, LENGTH, WIDTH, HEADS, EXPERTS = 2, 5, 8, 2, 5
X = jax.random.normal(jax.random.key(0), (BATCH, LENGTH, WIDTH))


def layer(**changes: Any) -> ExpertHeadAttention:
    return ExpertHeadAttention(
        WIDTH,
        HEADS,
        ExpertHeads(num_experts=EXPERTS),
        use_bias=True,
        dropout_rate=0.0,
        rngs=nnx.Rngs(1),
        **changes,
    )


def by_loops(made: ExpertHeadAttention) -> np.ndarray:
    """Causal attention, one token and one head at a time."""
    x = np.asarray(X, np.float64)
    router, query, output = (
        np.asarray(part.kernel[...], np.float64) for part in (made.router, made.query, made.output)
    )
    keys, values = np.split(x @ np.asarray(made.key_value.kernel[...], np.float64), 2, axis=-1)
    found = np.zeros_like(x)
    for row in range(BATCH):
        for token in range(LENGTH):
            logits = x[row, token] @ router
            chosen = np.argsort(-logits)[:HEADS]
            weights = np.exp(logits[chosen]) / np.exp(logits[chosen]).sum()
            for expert, weight in zip(chosen, weights):
                scores = keys[row, : token + 1] @ (x[row, token] @ query[expert]) / np.sqrt(WIDTH // HEADS)
                attention = np.exp(scores) / np.exp(scores).sum()
                found[row, token] += weight * (attention @ values[row, : token + 1]) @ output[expert]
    return found


def test_outputs_are_the_formula() -> None:
    made = layer()
    np.testing.assert_allclose(made(X, mask=AttentionMask.causal()), by_loops(made), atol=1e-5)
    outputs, weights = made.attention_weights(X, mask=AttentionMask.causal())
    np.testing.assert_allclose(outputs, by_loops(made), atol=1e-5)
    assert weights.shape == (BATCH, HEADS, LENGTH, LENGTH)
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-5)


def test_steps_are_the_whole_run_with_one_head_of_keys() -> None:
    made = layer(rotary_base=10_000.0)
    cache = KeyValueCache.empty(BATCH, LENGTH, made.num_kv_heads, made.head_dim)
    assert cache.stored_keys.shape == (BATCH, 1, WIDTH // HEADS, LENGTH)
    outputs = []
    for place in range(LENGTH):
        output, cache = made.attend_cached(X[:, place : place + 1], cache)
        outputs.append(output)
    whole = made(X, mask=AttentionMask.causal())
    np.testing.assert_allclose(jnp.concatenate(outputs, 1), whole, atol=1e-5)


def test_padding_is_not_routed_and_losses_are_written_in_training_only() -> None:
    valid = jnp.arange(LENGTH)[None] < jnp.array([5, 2])[:, None]
    mask = AttentionMask.from_lengths(jnp.array([5, 2]), LENGTH)
    found = []
    for behind in (0.0, 9.0, jnp.nan):
        made = layer()
        y = made(jnp.where(valid[..., None], X, behind), mask=mask, tokens=TrainingTokens(valid))
        found.append((np.asarray(y)[np.asarray(valid)], float(routing_terms(made)[0])))
    assert np.isfinite(found[0][0]).all()
    assert found[0][1] > 0.0
    for outputs, loss in found[1:]:
        np.testing.assert_array_equal(outputs, found[0][0])
        assert loss == found[0][1]
    made = layer()
    made(X, mask=mask)
    assert float(routing_terms(made)[0]) == 0.0


def test_impossible_values_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_experts must be at least num_heads, 8"):
        ExpertHeadAttention(
            8, 8, ExpertHeads(num_experts=3), use_bias=False, dropout_rate=0.0, rngs=nnx.Rngs(0)
        )
    sizes = {"model_dim": 8, "num_heads": 2, "feed_forward_dim": 16, "num_layers": 1}
    with pytest.raises(ConfigError, match="num_kv_heads must be 1 with expert heads"):
        DecoderOnlyConfig(**sizes, num_kv_heads=2, positions=NoPositions(), heads=ExpertHeads())
    with pytest.raises(ConfigError, match="z_weight must be a number of at least 0"):
        ExpertHeads(z_weight=float("nan"))
