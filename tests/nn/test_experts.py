"""Feed-forward networks of experts: by their formula, padding, limits and recomputation in training."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.errors import ConfigError
from transformer_jax.functional import AttentionMask
from transformer_jax.models import DecoderOnlyConfig, Sizes
from transformer_jax.models.forecast_configs import PatchForecast
from transformer_jax.models.transformer_choices import check_choices
from transformer_jax.nn import ExpertFeedForward, Experts, NoPositions
from transformer_jax.nn.norms import TrainingTokens
from transformer_jax.nn.transformer_layers import EncoderLayer, TransformerLayerConfig
from transformer_jax.training.router_losses import routing_terms
from transformer_jax.variables import RoutingState

X = jax.random.normal(jax.random.key(0), (3, 6, 4))
VALID = jnp.arange(6)[None] < jnp.array([6, 3, 0])[:, None]


def layer(**changes: Any) -> ExpertFeedForward:
    config = Experts(**{"num_experts": 4, "hidden_dim": 5, **changes})
    made = ExpertFeedForward(
        4, 8, config, activation="swiglu", dropout_rate=0.0, use_bias=True, rngs=nnx.Rngs(0)
    )
    made.inner.bias[...] = jax.random.normal(jax.random.key(1), made.inner.bias.shape)
    return made


def by_loops(made: ExpertFeedForward, x: Any) -> np.ndarray:
    inner, outer = (np.asarray(part.kernel[...], np.float64) for part in (made.inner, made.outer))
    bias, router = np.asarray(made.inner.bias[...]), np.asarray(made.router.kernel[...], np.float64)
    rows = np.asarray(x, np.float64).reshape(-1, 4)
    found = np.zeros_like(rows)
    for place, row in enumerate(rows):
        logits = row @ router
        chosen = np.argsort(-logits)[: made.config.top_k]
        weights = np.exp(logits[chosen]) / np.exp(logits[chosen]).sum()
        for expert, weight in zip(chosen, weights):
            gate, value = np.split(row @ inner[expert] + bias[expert], 2)
            found[place] += weight * ((gate / (1 + np.exp(-gate)) * value) @ outer[expert])
    if made.shared is not None:
        found += np.asarray(made.shared(jnp.asarray(rows, jnp.float32)))
    return found.reshape(x.shape)


@pytest.mark.parametrize("num_shared", [0, 2])
def test_outputs_are_the_formula(num_shared: int) -> None:
    made = layer(num_shared=num_shared)
    np.testing.assert_allclose(made(X), by_loops(made, X), atol=1e-5)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(nnx.state(made, RoutingState))), "no training"


def test_padding_is_not_routed_and_reaches_no_loss() -> None:
    found = []
    for behind in (0.0, 50.0, jnp.nan):
        made = layer(capacity_factor=0.5)
        y = made(jnp.where(VALID[..., None], X, behind), tokens=TrainingTokens(VALID))
        found.append(
            (np.asarray(y)[np.asarray(VALID)], jax.tree.map(np.asarray, nnx.state(made, RoutingState)))
        )
    for outputs, state in found[1:]:
        np.testing.assert_array_equal(outputs, found[0][0])
        jax.tree.map(np.testing.assert_array_equal, state, found[0][1])
    assert float(made.load[...].sum()) == pytest.approx(4.0)  # 9 tokens, 18 choices
    # 18 rows, padding included, give each of 4 experts room for 5 of the 18 choices.
    counts = np.round(np.asarray(made.load[...]) * 18 / 4)
    assert float(made.dropped[...]) == pytest.approx(np.maximum(counts - 5, 0).sum() / 18)


def test_without_a_limit_training_computes_what_evaluation_does() -> None:
    made = layer()
    np.testing.assert_allclose(made(X, tokens=TrainingTokens(None)), made(X), atol=1e-6)
    assert float(made.dropped[...]) == 0.0
    assert float(made.auxiliary_loss[...]) > 0.0
    nothing = layer()
    y = nothing(X, tokens=TrainingTokens(jnp.zeros((3, 6), bool)))
    assert not np.any(y)
    assert float(nothing.auxiliary_loss[...]) == 0.0


def test_a_router_that_sends_all_to_the_same_is_reported() -> None:
    made = layer(balance_weight=1.0, z_weight=0.0)
    made.router.kernel[...] = jnp.zeros((4, 4)).at[:, 2].set(50.0).at[:, 1].set(40.0)
    made(jnp.abs(X) + 0.1, tokens=TrainingTokens(None))
    loss, metrics = routing_terms(made)
    assert float(metrics["busiest_expert"].mean()) == pytest.approx(2.0)  # 4 experts, top 2
    assert float(loss) == pytest.approx(2.0, rel=1e-3)
    assert float(metrics["routing_loss"].mean()) == float(loss)


@pytest.mark.parametrize("recomputed", ["elementwise", "layers"])
def test_recomputed_layers_hand_out_losses_and_their_gradients(recomputed: Any) -> None:
    config = TransformerLayerConfig(
        model_dim=4, num_heads=1, num_kv_heads=1, feed_forward_dim=6, dropout_rate=0.0, attention_dropout_rate=0.0,
        activation_dropout_rate=0.0, norm_placement="pre", normalization="layer", norm_epsilon=1e-5,
        activation="relu", attention_bias=True, rotary_base=None, self_attention="softmax",
        feed_forward=Experts(num_experts=3, balance_weight=1.0),
    )  # fmt: skip
    made = EncoderLayer(config, rngs=nnx.Rngs(0))
    mask = AttentionMask.from_lengths(jnp.array([6, 3, 0]), 6)

    def gradient(recomputed: Any) -> Any:
        made.remat = recomputed
        graph, params, others = nnx.split(made, nnx.Param, ...)

        @jax.jit
        def run(params: Any) -> Any:
            def loss(params: Any) -> Any:
                own = nnx.merge(graph, params, others, copy=True)
                own(X, mask=mask, valid=VALID, rng_key=jax.random.key(3))
                return routing_terms(own)[0]

            return jax.value_and_grad(loss)(params)

        return run(params)

    wanted, found = gradient("nothing"), gradient(recomputed)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, wanted)
    assert np.abs(found[1]["feed_forward"]["router"]["kernel"][...]).max() > 0


def test_impossible_values_are_refused() -> None:
    with pytest.raises(ConfigError, match="top_k must be at most num_experts, 2; got 3"):
        Experts(num_experts=2, top_k=3)
    with pytest.raises(ConfigError, match="capacity_factor must be a number above 0, got 0"):
        Experts(capacity_factor=0.0)
    with pytest.raises(ConfigError, match="num_experts must be at least 1"):
        Experts(num_experts=0)
    with pytest.raises(ConfigError, match="balance_weight must be a number of at least 0"):
        Experts(balance_weight=-1.0)
    sizes = {"model_dim": 8, "num_heads": 2, "num_kv_heads": 2, "feed_forward_dim": 16, "num_layers": 1}
    with pytest.raises(ConfigError, match="feed_forward must be 'dense'"):
        PatchForecast(**sizes, feed_forward=Experts())
    wrong: Any = SimpleNamespace(**vars(PatchForecast(**sizes)) | {"feed_forward": "experts"})
    with pytest.raises(ConfigError, match=r"feed_forward must be Dense\(\) or Experts\(...\), got 'experts'"):
        check_choices(wrong, counts=("num_layers",), bidirectional=(True,))


def test_more_experts_than_tokens() -> None:
    config = DecoderOnlyConfig(
        model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=4, num_layers=1, positions=NoPositions(),
        feed_forward=Experts(num_experts=16, capacity_factor=1.0),
    )  # fmt: skip
    model = config.build(Sizes(vocab_size=5), rngs=nnx.Rngs(0))
    y = model(jnp.array([[1, 2]]), rng_key=jax.random.key(0))
    assert np.isfinite(y).all()
    assert float(routing_terms(model)[1]["dropped_tokens"].mean()) < 1.0
