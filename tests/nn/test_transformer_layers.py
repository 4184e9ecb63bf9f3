"""Layers and stacks: norm placement, dropout's places, positions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional import AttentionMask, sinusoidal_table
from transformer_jax.nn import position_encodings as P
from transformer_jax.nn.parameters import parameter_count
from transformer_jax.nn.stacks import DecoderStack, EncoderStack
from transformer_jax.nn.transformer_layers import (
    DecoderLayer,
    EncoderLayer,
    Residual,
    TransformerLayerConfig,
)

CONFIG = TransformerLayerConfig(
    model_dim=8,
    num_heads=2,
    num_kv_heads=2,
    feed_forward_dim=12,
    dropout_rate=0.0,
    attention_dropout_rate=0.0,
    activation_dropout_rate=0.0,
    norm_placement="post",
    normalization="layer",
    norm_epsilon=1e-5,
    activation="relu",
    attention_bias=True,
    rotary_base=None,
    self_attention="softmax",
)
X = jax.random.normal(jax.random.key(0), (2, 4, 8))
MEMORY = jax.random.normal(jax.random.key(1), (2, 3, 8))


def config(**changes):
    return dataclasses.replace(CONFIG, **changes)


def test_post_norm_encoder_layer_is_the_papers():
    layer = EncoderLayer(CONFIG, rngs=nnx.Rngs(0))
    first = layer.self_attention_residual.norm(X + layer.self_attention(X))
    wanted = layer.feed_forward_residual.norm(first + layer.feed_forward(first))
    np.testing.assert_allclose(layer(X, mask=None), wanted, atol=1e-6)


def test_pre_norm_encoder_layer_leaves_the_stream_alone():
    layer = EncoderLayer(config(norm_placement="pre"), rngs=nnx.Rngs(0))
    first = X + layer.self_attention(layer.self_attention_residual.norm(X))
    wanted = first + layer.feed_forward(layer.feed_forward_residual.norm(first))
    np.testing.assert_allclose(layer(X, mask=None), wanted, atol=1e-6)


def test_pre_norm_decoder_layer():
    layer = DecoderLayer(config(norm_placement="pre"), rngs=nnx.Rngs(0))
    causal = AttentionMask.causal()
    first = X + layer.self_attention(layer.self_attention_residual.norm(X), mask=causal)
    second = first + layer.cross_attention(layer.cross_attention_residual.norm(first), MEMORY)
    wanted = second + layer.feed_forward(layer.feed_forward_residual.norm(second))
    got = layer(X, layer.project_memory(MEMORY), mask=causal, memory_mask=None)
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_dropout_falls_on_the_sublayers_output_only():
    residual = Residual(config(dropout_rate=0.5, norm_placement="pre"))
    dropped = residual.leave(X, jnp.ones_like(X), jax.random.key(0)) - X
    np.testing.assert_allclose(np.unique(np.round(dropped, 5)), [0.0, 2.0])
    np.testing.assert_allclose(residual.leave(X, jnp.ones_like(X), None) - X, 1.0, atol=1e-6)


def test_every_dropout_rate_has_its_own_place():
    for name in ("dropout_rate", "attention_dropout_rate", "activation_dropout_rate"):
        layer = DecoderLayer(config(**{name: 0.5}), rngs=nnx.Rngs(0))
        memory = layer.project_memory(MEMORY)
        options = {"mask": None, "memory_mask": None}
        dropped = layer(X, memory, **options, rng_key=jax.random.key(0))
        assert float(jnp.abs(dropped - layer(X, memory, **options)).max()) > 1e-3, name
    plain = DecoderLayer(CONFIG, rngs=nnx.Rngs(0))
    memory = plain.project_memory(MEMORY)
    with_key = plain(X, memory, mask=None, memory_mask=None, rng_key=jax.random.key(0))
    np.testing.assert_array_equal(with_key, plain(X, memory, mask=None, memory_mask=None))


def test_embedding_dropout_comes_before_the_first_layer():
    stack = EncoderStack(
        config(dropout_rate=0.5), 0, positions=P.NoPositions(), final_norm=False, rngs=nnx.Rngs(0)
    )
    ones = jnp.ones((2, 4, 8))
    assert set(np.unique(stack(ones, mask=None, rng_key=jax.random.key(0)))) == {0.0, 2.0}
    np.testing.assert_array_equal(stack(ones, mask=None), ones)


def test_sinusoidal_positions_are_added_once():
    stack = EncoderStack(CONFIG, 0, positions=P.Sinusoidal(), final_norm=False, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(stack(X, mask=None), X + sinusoidal_table(4, 8)[None], atol=1e-6)


POSITIONS = {
    "sinusoidal": (P.Sinusoidal(), 0),
    "learned": (P.Learned(max_len=6), 6 * 8),
    "rotary": (P.Rotary(), 0),
    "alibi": (P.AlibiPositions(), 0),
    "relative": (P.RelativePositions(num_buckets=8, max_distance=16), 8 * 2),
    "none": (P.NoPositions(), 0),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_positions_tell_the_order(name):
    positions, num_parameters = POSITIONS[name]
    rotary_base = positions.base if name == "rotary" else None
    encoder = EncoderStack(
        config(rotary_base=rotary_base), 1, positions=positions, final_norm=False, rngs=nnx.Rngs(0)
    )
    plain = EncoderStack(CONFIG, 1, positions=P.NoPositions(), final_norm=False, rngs=nnx.Rngs(0))
    assert parameter_count(encoder) == parameter_count(plain) + num_parameters
    order = jnp.array([3, 1, 0, 2])
    change = jnp.abs(encoder(X[:, order], mask=None) - encoder(X, mask=None)[:, order]).max()
    # Without positions self-attention cannot tell one order from another.
    assert (float(change) < 1e-5) == (name == "none")


def test_relative_biases_of_encoder_and_decoder_differ_in_direction():
    positions = P.RelativePositions(num_buckets=8, max_distance=16)
    options = {"model_dim": 8, "num_heads": 2, "rngs": nnx.Rngs(0)}
    both = P.PositionalEncoding(positions, bidirectional=True, **options)
    back = P.PositionalEncoding(positions, bidirectional=False, **options)
    arange = jnp.arange(4)[None, :]
    assert float(jnp.abs(both.bias(arange, arange)[0, 0, 0, 1] - both.bias(arange, arange)[0, 0, 1, 0])) > 0
    bias = back.bias(arange, arange)
    np.testing.assert_array_equal(bias[0, 0, 0, 1:], jnp.broadcast_to(bias[0, 0, 0, 0], (3,)))


def test_final_norm_comes_last():
    stack = DecoderStack(
        config(norm_placement="pre"), 1, positions=P.NoPositions(), final_norm=True, rngs=nnx.Rngs(0)
    )
    output = stack(X, stack.project_memory(MEMORY), memory_mask=None)
    np.testing.assert_allclose(output.mean(-1), 0.0, atol=1e-6)
    np.testing.assert_allclose(output.var(-1), 1.0, atol=1e-3)


def test_too_long_for_learned_positions_is_refused():
    stack = DecoderStack(CONFIG, 1, positions=P.Learned(max_len=3), final_norm=False, rngs=nnx.Rngs(0))
    with pytest.raises(ShapeError, match="length 4 exceeds the 3 learned positions"):
        stack(X, stack.project_memory(MEMORY), memory_mask=None)
    with pytest.raises(ShapeError, match="length 4 exceeds the 3 learned positions"):
        stack.empty_caches(2, 4, jnp.float32)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (P.Learned, {"max_len": 0}, "max_len of learned positions must be at least 1, got 0"),
        (P.Rotary, {"base": -1.0}, r"base of rotary positions must be above 0, got -1\.0"),
        (P.Rotary, {"base": 0.0}, "must be above 0"),
        (P.Rotary, {"base": float("nan")}, "must be above 0, got nan"),
        (
            P.RelativePositions,
            {"num_buckets": 0},
            "num_buckets of relative positions must be at least 2, got 0",
        ),
        (P.RelativePositions, {"max_distance": -3}, "max_distance of .* must be at least 2, got -3"),
    ],
)
def test_impossible_positions_are_refused_when_made(kind, values, message):
    with pytest.raises(ConfigError, match=message):
        kind(**values)


def test_buckets_must_suit_the_direction():
    odd = P.RelativePositions(num_buckets=7, max_distance=16)
    options = {"model_dim": 8, "num_heads": 2, "rngs": nnx.Rngs(0)}
    P.PositionalEncoding(odd, bidirectional=False, **options)
    with pytest.raises(ConfigError, match="num_buckets must be an even number of at least 4, got 7"):
        P.PositionalEncoding(odd, bidirectional=True, **options)


def test_bad_values_are_refused():
    with pytest.raises(ShapeError, match="model_dim must be even"):
        P.PositionalEncoding(P.Sinusoidal(), 7, 1, bidirectional=True, rngs=nnx.Rngs(0))
    bad = object.__new__(TransformerLayerConfig)
    for field in dataclasses.fields(CONFIG):
        object.__setattr__(bad, field.name, getattr(CONFIG, field.name))
    object.__setattr__(bad, "norm_placement", "before")
    wanted = "norm_placement must be one of 'post', 'pre', 'sandwich', 'deep'; got 'before'"
    with pytest.raises(ConfigError, match=wanted):
        Residual(bad)
