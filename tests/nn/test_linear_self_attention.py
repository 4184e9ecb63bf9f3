"""Linear self-attention: against the function, step by step, under padding, in layers and stacks."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax import models
from transformer_jax.decode.protocol import TokenInputs, reorder_state, repeat_state, state_batch_size
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional import Alibi, AttentionMask, linear_attention
from transformer_jax.nn import position_encodings as P
from transformer_jax.nn.cache import KeyValueCache, LinearAttentionCache
from transformer_jax.nn.linear_self_attention import LinearSelfAttention, padding_of_causal_mask
from transformer_jax.nn.multi_head import MultiHeadAttention
from transformer_jax.nn.parameters import named_parameters
from transformer_jax.nn.stacks import DecoderStack, EncoderStack
from transformer_jax.nn.transformer_layers import DecoderLayer, EncoderLayer, TransformerLayerConfig

BATCH, LENGTH, MODEL, HEADS = 2, 7, 8, 2
X = jax.random.normal(jax.random.key(0), (BATCH, LENGTH, MODEL))
MEMORY = jax.random.normal(jax.random.key(1), (BATCH, 3, MODEL))
CAUSAL = AttentionMask.causal()
CONFIG = TransformerLayerConfig(
    model_dim=MODEL,
    num_heads=HEADS,
    num_kv_heads=HEADS,
    feed_forward_dim=12,
    dropout_rate=0.0,
    attention_dropout_rate=0.0,
    activation_dropout_rate=0.0,
    norm_placement="pre",
    normalization="layer",
    norm_epsilon=1e-5,
    activation="relu",
    attention_bias=True,
    rotary_base=None,
    self_attention="linear",
)


def config(**changes):
    return dataclasses.replace(CONFIG, **changes)


@pytest.fixture(scope="module")
def layer():
    made = LinearSelfAttention(MODEL, HEADS, use_bias=True, rngs=nnx.Rngs(0))
    made.query_key_value.bias[...] = jax.random.normal(jax.random.key(2), (3 * MODEL,))
    made.output.bias[...] = jax.random.normal(jax.random.key(3), (MODEL,))
    return made


def close(got, wanted):
    np.testing.assert_allclose(got, wanted, atol=1e-5 * max(1.0, float(jnp.abs(wanted).max())))


# Compiling is nearly all that these tests cost, so the compiler is told not to optimise.
@functools.partial(jax.jit, static_argnums=(0, 1), compiler_options={"xla_backend_optimization_level": 0})
def _compiled(graphdef, method, params, *arguments, **options):
    return getattr(nnx.merge(graphdef, params), method)(*arguments, **options)


def run(module, method, *arguments, **options):
    graphdef, params = nnx.split(module)
    return _compiled(graphdef, method, params, *arguments, **options)


def fused(layer, x):
    arrays = layer.query_key_value(x).reshape(*x.shape[:2], 3, HEADS, -1)
    return arrays[:, :, 0], arrays[:, :, 1], arrays[:, :, 2]


def test_equals_a_loop_over_pairs(layer):
    query, key, value = (np.array(array, np.float64) for array in fused(layer, X))

    def phi(x):
        return np.where(x > 0, x + 1, np.exp(x))

    context = np.zeros_like(value)
    for row, time, head in np.ndindex(BATCH, LENGTH, HEADS):
        weights = [phi(query[row, time, head]) @ phi(key[row, s, head]) for s in range(time + 1)]
        context[row, time, head] = weights @ value[row, : time + 1, head] / np.sum(weights)
    close(layer(X), layer.output(jnp.asarray(context.reshape(X.shape), jnp.float32)))


@pytest.mark.parametrize("length", [1, LENGTH, 70])
def test_equals_the_function_over_more_than_a_chunk(layer, length):
    x = jax.random.normal(jax.random.key(4), (BATCH, length, MODEL))
    context, _ = linear_attention(*fused(layer, x), form="parallel")
    close(layer(x), layer.output(context.reshape(x.shape)))


def test_its_parameters_are_those_of_softmax_attention(layer):
    softmax = MultiHeadAttention(MODEL, HEADS, HEADS, use_bias=True, dropout_rate=0.0, rngs=nnx.Rngs(0))
    linear = LinearSelfAttention(MODEL, HEADS, use_bias=True, rngs=nnx.Rngs(0))
    jax.tree.map(np.testing.assert_array_equal, named_parameters(softmax), named_parameters(linear))
    # The same columns are queries, keys and values: the first token sees itself only, whatever the weights.
    close(softmax(X[:, :1]), linear(X[:, :1]))


@pytest.mark.parametrize("pieces", [[1] * LENGTH, [3, 1, 3], [LENGTH]])
def test_pieces_equal_the_whole(layer, pieces):
    state, outputs, start = layer.empty_state(BATCH), [], 0
    for piece in pieces:
        out, state = run(layer, "extend", X[:, start : start + piece], state)
        outputs.append(out)
        start += piece
    close(jnp.concatenate(outputs, axis=1), run(layer, "__call__", X))


def test_ragged_pieces_equal_each_row_alone(layer):
    piece = X[:, :4].at[0, 2:].set(jnp.nan).at[1, 3:].set(jnp.nan)
    state = layer.empty_state(BATCH)
    first, state = run(layer, "extend", piece, state, num_valid=jnp.array([2, 3]))
    second, state = run(layer, "extend", X[:, 4:6], state, num_valid=jnp.array([2, 0]))
    last, _ = run(layer, "extend", X[:, 6:], state)
    row_0 = run(layer, "__call__", X[:1, jnp.array([0, 1, 4, 5, 6])])[0]
    row_1 = run(layer, "__call__", X[1:, jnp.array([0, 1, 2, 6])])[0]
    close(jnp.concatenate([first[0, :2], second[0], last[0]]), row_0)
    close(jnp.concatenate([first[1, :3], last[1]]), row_1)


def test_padding_leaks_nothing_forward_or_back(layer):
    valid = jnp.arange(LENGTH)[None, :] < jnp.array([[3], [LENGTH]])
    valid = valid.at[1, 0].set(False)  # padding on the left too
    dirty = jnp.where(valid[:, :, None], X, jnp.nan)
    out = run(layer, "__call__", dirty, valid=valid)
    close(out[0, :3], run(layer, "__call__", X[:1, :3])[0])
    close(out[1, 1:], run(layer, "__call__", X[1:, 1:])[0])

    graphdef, params = nnx.split(layer)

    def loss(params, x):
        return (jnp.where(valid[:, :, None], nnx.merge(graphdef, params)(x, valid=valid), 0.0) ** 2).sum()

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
    of_dirty, of_clean = gradient(params, dirty), gradient(params, X)
    for got, wanted in zip(jax.tree.leaves(of_dirty), jax.tree.leaves(of_clean), strict=True):
        assert jnp.isfinite(got).all()
        assert jnp.abs(got).max() > 0
        np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_a_row_of_padding_gives_what_zeros_give(layer):
    out = layer(X, valid=jnp.zeros((BATCH, LENGTH), bool))
    close(out, jnp.broadcast_to(layer.output.bias[...], X.shape))


def test_features_that_vanish_give_numbers():
    far = LinearSelfAttention(MODEL, HEADS, use_bias=True, rngs=nnx.Rngs(0))
    far.query_key_value.bias[...] = jnp.full(3 * MODEL, -1e4)  # elu + 1 is zero there
    out, state = far.extend(X[:, :1], far.empty_state(BATCH))
    assert jnp.isfinite(out).all()
    assert jnp.isfinite(far.extend(X[:, 1:], state)[0]).all()


def test_state_is_float32_whatever_the_inputs(layer):
    out, state = layer.extend(X.astype(jnp.bfloat16), layer.empty_state(BATCH))
    assert out.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}


def test_a_step_has_no_loop(layer):
    graphdef, params = nnx.split(layer)
    step = jax.jit(lambda params, x, state: nnx.merge(graphdef, params).extend(x, state))
    text = step.lower(params, X[:, :1], layer.empty_state(BATCH)).compile().as_text()
    assert " while(" not in text


@pytest.mark.parametrize("valid_part", ["lengths", "valid", "both"])
def test_padding_of_a_causal_mask(valid_part):
    valid = jnp.array([[True, False, True, True]])
    mask, wanted = CAUSAL, np.ones((BATCH, 4), bool)
    if valid_part != "valid":
        mask &= AttentionMask.from_lengths(jnp.array([3, 4]), 4)
        wanted[0, 3] = False
    if valid_part != "lengths":
        mask &= AttentionMask.valid(valid)
        wanted &= np.array(valid)
    np.testing.assert_array_equal(padding_of_causal_mask(mask, BATCH, 4), wanted)
    assert padding_of_causal_mask(CAUSAL, BATCH, 4) is None
    with pytest.raises(ShapeError, match="mask"):
        padding_of_causal_mask(mask, BATCH, 5)


SEGMENTS = jnp.zeros((1, LENGTH), int)
REFUSED_MASKS = {
    "give a mask that is": None,
    "is causal": AttentionMask.valid(jnp.ones((1, LENGTH), bool)),
    "got window": CAUSAL & AttentionMask.window(2, 0),
    "got segments twice": CAUSAL
    & AttentionMask.segments(SEGMENTS, SEGMENTS)
    & AttentionMask.segments(SEGMENTS, SEGMENTS),
    "got positions": CAUSAL & AttentionMask.positions(SEGMENTS, SEGMENTS),
    "got dense": CAUSAL & AttentionMask.dense(jnp.ones((1, 1, LENGTH, LENGTH), bool)),
}


@pytest.mark.parametrize("message", REFUSED_MASKS)
def test_other_masks_are_refused(message):
    layer = EncoderLayer(CONFIG, rngs=nnx.Rngs(0))
    with pytest.raises(ConfigError, match=message):
        layer(X, mask=REFUSED_MASKS[message])


@pytest.mark.parametrize("layer_class", [EncoderLayer, DecoderLayer])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_dropout_rate": 0.1}, "attention_dropout_rate must be 0.0 with linear"),
        ({"num_kv_heads": 1}, "num_kv_heads must be 2 with linear"),
        ({"rotary_base": 100.0}, "rotary_base must be None with linear"),
    ],
)
def test_what_linear_attention_cannot_do_is_refused(layer_class, changes, message):
    with pytest.raises(ConfigError, match=message):
        layer_class(config(**changes), rngs=nnx.Rngs(0))


def test_a_bias_is_refused():
    bias = Alibi(jnp.ones(HEADS))
    with pytest.raises(ConfigError, match="bias must be None with linear self-attention, got Alibi"):
        EncoderLayer(CONFIG, rngs=nnx.Rngs(0))(X, mask=CAUSAL, bias=bias)
    layer = DecoderLayer(CONFIG, rngs=nnx.Rngs(0))
    cache = LinearAttentionCache.of(layer.self_attention.empty_state(BATCH))
    with pytest.raises(ConfigError, match="bias must be None"):
        layer.extend(X, layer.project_memory(MEMORY), cache, memory_mask=None, bias=bias)


def test_the_other_kind_of_cache_is_refused():
    layer = DecoderLayer(CONFIG, rngs=nnx.Rngs(0))
    cache = KeyValueCache.empty(BATCH, LENGTH, HEADS, MODEL // HEADS)
    with pytest.raises(ConfigError, match="cache must suit LinearSelfAttention, got KeyValueCache"):
        layer.extend(X, layer.project_memory(MEMORY), cache, memory_mask=None)


@pytest.mark.parametrize("stack", [EncoderStack, DecoderStack])
@pytest.mark.parametrize("positions", [P.AlibiPositions(), P.RelativePositions(), P.Rotary()])
def test_positions_inside_attention_are_refused(stack, positions):
    with pytest.raises(ConfigError, match=f"positions must be .* got '{positions.kind}'"):
        stack(CONFIG, 1, positions=positions, final_norm=True, rngs=nnx.Rngs(0))


def test_a_causal_encoder_stack_is_a_language_models_body():
    stack = EncoderStack(CONFIG, 2, positions=P.Sinusoidal(), final_norm=True, rngs=nnx.Rngs(0))
    mask = CAUSAL & AttentionMask.from_lengths(jnp.array([4, LENGTH]), LENGTH)
    out = run(stack, "__call__", X, mask=mask)
    close(out[0, :4], run(stack, "__call__", X[:1, :4], mask=CAUSAL)[0])
    changed = run(stack, "__call__", X.at[:, 5:].set(0.0), mask=CAUSAL)
    close(changed[:, :5], run(stack, "__call__", X, mask=CAUSAL)[:, :5])
    assert not np.allclose(changed[:, 6], run(stack, "__call__", X, mask=CAUSAL)[:, 6])


def test_decoder_stack_extends_ragged_rows_at_their_own_positions():
    stack = DecoderStack(CONFIG, 2, positions=P.Learned(max_len=9), final_norm=True, rngs=nnx.Rngs(0))
    memories = stack.project_memory(MEMORY)
    caches = stack.empty_caches(BATCH, 9, jnp.float32)
    first, caches = run(
        stack, "extend", X[:, :3], memories, caches, memory_mask=None, num_valid=jnp.array([3, 1])
    )
    assert caches[0].length.tolist() == [3, 1]
    last, caches = run(stack, "extend", X[:, 3:4], memories, caches, memory_mask=None)
    assert caches[1].length.tolist() == [4, 2]
    whole = run(stack, "__call__", X[:, :4], memories, memory_mask=None)
    close(jnp.concatenate([first[0], last[0]]), whole[0])
    skipping = run(stack, "__call__", X[:, jnp.array([0, 3])], memories, memory_mask=None)
    close(jnp.concatenate([first[1, :1], last[1]]), skipping[1])


MODEL_CONFIG = {
    "model_dim": 8,
    "num_heads": 4,
    "num_kv_heads": 4,
    "feed_forward_dim": 8,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "decoder_self_attention": "linear",
}


@pytest.fixture(scope="module")
def model():
    config = models.EncoderDecoderConfig(**MODEL_CONFIG)
    return models.build_model(config, models.Sizes.of_pairs(7), seed=0)


SOURCE, SOURCE_LENGTHS = jnp.full((2, 3), 5), jnp.array([3, 2])


def test_the_state_of_a_model_does_not_grow_with_the_target(model):
    assert isinstance(model.encoder.layers[0].self_attention, MultiHeadAttention)
    short, long = (model.start(TokenInputs(SOURCE, SOURCE_LENGTHS), max_len=max_len) for max_len in (2, 2000))
    assert jax.tree.map(jnp.shape, short) == jax.tree.map(jnp.shape, long)


def test_beams_are_repeated_and_reordered_with_their_states(model):
    state = repeat_state(model.start(TokenInputs(SOURCE, SOURCE_LENGTHS), max_len=3), 2)
    first, second, third = jnp.array([2, 3, 4, 5]), jnp.array([6, 5, 4, 3]), jnp.array([1, 2, 3, 4])
    rows = jnp.array([1, 1, 3, 2])
    _, after = run(model, "step", state, first)
    state = reorder_state(after, state, rows)
    _, state = run(model, "step", state, second)
    logits, state = run(model, "step", state, third)
    assert state_batch_size(state.caches) == 4
    assert state_batch_size(state.memories) == 2  # one of each source, whatever the number of beams
    targets = jnp.stack([first[rows], second, third], axis=1)
    wanted = run(model, "__call__", jnp.repeat(SOURCE, 2, axis=0), jnp.repeat(SOURCE_LENGTHS, 2), targets)
    close(logits, wanted[:, -1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_dropout_rate": 0.1}, "attention_dropout_rate must be 0.0 with linear"),
        ({"num_kv_heads": 1}, "num_kv_heads must be 4 with linear"),
        ({"positions": P.Rotary()}, "positions must be .* got 'rotary'"),
        ({"positions": P.AlibiPositions()}, "positions must be .* got 'alibi'"),
    ],
)
def test_a_models_config_refuses_what_its_decoder_cannot_do(changes, message):
    with pytest.raises(ConfigError, match=message):
        models.EncoderDecoderConfig(**{**MODEL_CONFIG, **changes})
