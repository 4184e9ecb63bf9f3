"""Placements of norms by their formulas, DeepNorm's initial weights, and norms over the batch inside of layers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.functional import AttentionMask
from transformer_jax.nn import Sinusoidal
from transformer_jax.nn.causal_stack import CausalStack
from transformer_jax.nn.parameters import named_parameters
from transformer_jax.nn.stacks import EncoderStack
from transformer_jax.nn.transformer_layers import DecoderLayer, EncoderLayer, TransformerLayerConfig

CONFIG = TransformerLayerConfig(
    model_dim=8, num_heads=2, num_kv_heads=1, feed_forward_dim=12, dropout_rate=0.0, attention_dropout_rate=0.0,
    activation_dropout_rate=0.0, norm_placement="post", normalization="layer", norm_epsilon=1e-5, activation="swiglu",
    attention_bias=True, rotary_base=None, self_attention="softmax",
)  # fmt: skip
X = jax.random.normal(jax.random.key(0), (2, 4, 8))
MEMORY = jax.random.normal(jax.random.key(1), (2, 3, 8))
KEY = jax.random.key(2)
LENGTHS = jnp.array([4, 2])
VALID = jnp.arange(4)[None] < LENGTHS[:, None]
MASK = AttentionMask.from_lengths(LENGTHS, 4)


def config(**changes):
    return dataclasses.replace(CONFIG, **changes)


def test_sandwich_normalises_before_and_after_each_sublayer():
    layer = EncoderLayer(config(norm_placement="sandwich"), rngs=nnx.Rngs(0))
    attended, fed = layer.self_attention_residual, layer.feed_forward_residual
    for residual, factor in ((attended, 2.0), (fed, 3.0)):
        residual.update_norm.scale[...] = jnp.full(8, factor)  # not the same norm twice
    first = X + attended.update_norm(layer.self_attention(attended.norm(X)))
    wanted = first + fed.update_norm(layer.feed_forward(fed.norm(first)))
    np.testing.assert_allclose(layer(X, mask=None), wanted, atol=1e-6)


def test_deep_weighs_the_stream():
    layer = DecoderLayer(config(norm_placement="deep", residual_scale=1.7), rngs=nnx.Rngs(0))
    causal = AttentionMask.causal()
    first = layer.self_attention_residual.norm(1.7 * X + layer.self_attention(X, mask=causal))
    second = layer.cross_attention_residual.norm(1.7 * first + layer.cross_attention(first, MEMORY))
    wanted = layer.feed_forward_residual.norm(1.7 * second + layer.feed_forward(second))
    got = layer(X, layer.project_memory(MEMORY), mask=causal, memory_mask=None)
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_deep_scales_values_outputs_and_the_feed_forward_network_only():
    plain = named_parameters(DecoderLayer(CONFIG, rngs=nnx.Rngs(0)))
    scaled = named_parameters(
        DecoderLayer(config(norm_placement="deep", initial_scale=0.5), rngs=nnx.Rngs(0))
    )
    columns = {"self_attention.query_key_value.kernel": -4, "cross_attention.key_value.kernel": -4}
    whole = {
        f"{name}.kernel"
        for name in (
            "self_attention.output",
            "cross_attention.output",
            "feed_forward.inner",
            "feed_forward.outer",
        )
    }
    assert plain.keys() == scaled.keys()
    for name, array in plain.items():
        wanted = np.array(array)
        if name in whole:
            wanted *= 0.5
        elif name in columns:
            wanted[:, columns[name] :] *= 0.5
        np.testing.assert_array_equal(scaled[name], wanted, err_msg=name)


@pytest.mark.parametrize("recomputed", ["nothing", "elementwise", "layers"])
def test_batch_statistics_leave_recomputed_layers(recomputed):
    layer = EncoderLayer(config(normalization="batch", norm_placement="sandwich"), rngs=nnx.Rngs(0))
    layer.remat = recomputed
    graph, params, statistics = nnx.split(layer, nnx.Param, nnx.BatchStat)

    @jax.jit
    def gradient(params, statistics):
        def loss(params):
            own = nnx.merge(graph, params, statistics, copy=True)
            y = own(X, mask=MASK, valid=VALID, rng_key=KEY)
            return jnp.where(VALID[..., None], y**2, 0.0).sum(), nnx.state(own, nnx.BatchStat)

        return jax.value_and_grad(loss, has_aux=True)(params)

    found = gradient(params, statistics)
    layer.remat = "nothing"
    y = layer(X, mask=MASK, valid=VALID, rng_key=KEY)
    np.testing.assert_allclose(found[0][0], jnp.where(VALID[..., None], y**2, 0.0).sum(), rtol=1e-5)
    after = nnx.state(layer, nnx.BatchStat)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found[0][1], after)
    real = np.asarray(X)[np.asarray(VALID)]
    np.testing.assert_allclose(layer.self_attention_residual.norm.mean[...], 0.1 * real.mean(0), atol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found[1]))


@pytest.mark.parametrize("placement", ["post", "pre", "sandwich", "deep"])
def test_padding_changes_no_statistic_and_no_real_token(placement):
    changes = {"normalization": "batch", "norm_placement": placement, "residual_scale": 1.3}
    outputs, statistics = [], []
    for behind in (0.0, 1e3, jnp.nan):
        stack = EncoderStack(
            config(**changes),
            2,
            positions=Sinusoidal(),
            final_norm=True,
            embedding_norm=True,
            rngs=nnx.Rngs(0),
        )
        y = stack(jnp.where(VALID[..., None], X, behind), mask=MASK, valid=VALID, rng_key=KEY)
        outputs.append(np.asarray(y)[np.asarray(VALID)])
        statistics.append(nnx.state(stack, nnx.BatchStat))
    for one, found in zip(outputs[1:], statistics[1:], strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_array_equal(one, outputs[0])
        jax.tree.map(np.testing.assert_array_equal, found, statistics[0])


@pytest.mark.parametrize("kind", ["batch", "power"])
def test_evaluation_and_decoding_take_running_statistics_row_by_row(kind):
    stack = CausalStack(
        config(normalization=kind, norm_placement="pre"), 1, positions=Sinusoidal(), final_norm=True,
        rngs=nnx.Rngs(0),
    )  # fmt: skip
    stack(X, rng_key=KEY)
    before = jax.tree.map(np.asarray, nnx.state(stack, nnx.BatchStat))
    whole = stack(X)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(stack, nnx.BatchStat), before)
    np.testing.assert_array_equal(stack(X.at[1].set(jnp.nan))[0], whole[0])
    caches, steps = stack.empty_caches(2, 4, X.dtype), []
    for place in range(4):
        y, caches = stack.extend(X[:, place : place + 1], caches)
        steps.append(y)
    np.testing.assert_allclose(jnp.concatenate(steps, 1), whole, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(stack, nnx.BatchStat), before)
