"""Decoder-only models: parameter counts by formula, windows, beams, initial weights, refusals."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax import models, nn
from transformer_jax.decode.protocol import TokenInputs, reorder_state, repeat_state
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.models import DecoderOnlyConfig, Sizes, build_model, model_shapes
from transformer_jax.nn.parameters import named_parameters, parameter_count

CONFIG = DecoderOnlyConfig(
    model_dim=16,
    num_heads=4,
    num_kv_heads=2,
    feed_forward_dim=24,
    num_layers=2,
    positions=nn.Learned(max_len=12),
    weight_deviation=0.2,
)
VOCAB = 11


def config(**changes: Any) -> DecoderOnlyConfig:
    return dataclasses.replace(CONFIG, **changes)


def build(config: DecoderOnlyConfig = CONFIG) -> Any:
    return build_model(config, Sizes(vocab_size=VOCAB), seed=0)


def count(config: DecoderOnlyConfig, vocab_size: int) -> int:
    return parameter_count(model_shapes(config, Sizes(vocab_size=vocab_size)))


def formula(config: DecoderOnlyConfig, vocab_size: int) -> int:
    """Parameters written out: tables, projections, networks, norms."""
    width, inner, bias = config.model_dim, config.feed_forward_dim, int(config.use_bias)
    kv_width = config.num_kv_heads * width // config.num_heads
    maps = 3 if config.activation in ("swiglu", "geglu") else 2
    norm = width * (1 + (bias if config.normalization == "layer" else 0))
    attention = width * (width + 2 * kv_width) + width * width + bias * (2 * width + 2 * kv_width)
    network = maps * width * inner + bias * ((maps - 1) * inner + width)
    tables = vocab_size * width * (1 if config.tied else 2) + (config.context_len or 0) * width
    last = norm if config.norm_placement == "pre" else 0
    return tables + config.num_layers * (attention + network + 2 * norm) + last


@pytest.mark.parametrize(
    ("preset", "vocab_size", "wanted"),
    [
        (models.gpt2(), 50_257, 124_439_808),  # the count of the published weights
        (models.nanogpt(), 65, 10_745_088),  # nanoGPT prints 10.65M, which leaves the positions out
        (models.nanogpt_cpu(), 65, 804_096),  # and 0.80M
        (models.mingpt(), 65, 2_719_104),
        (models.llama_like(), 512, 260_032),
        (config(activation="geglu", positions=nn.Rotary()), 11, None),
        (config(norm_placement="post", normalization="rms", tied=False), 11, None),
    ],
)
def test_parameters_are_counted_by_a_formula(
    preset: DecoderOnlyConfig, vocab_size: int, wanted: int | None
) -> None:
    found = count(preset, vocab_size)
    assert found == formula(preset, vocab_size)
    assert wanted is None or found == wanted


def test_a_window_hides_what_lies_before_it() -> None:
    model = build(config(window_len=3, num_layers=1, positions=nn.Rotary()))
    tokens = jnp.arange(8)[None] % VOCAB
    logits = jax.jit(lambda tokens: model(tokens))
    changed = logits(tokens.at[0, 2].set(9)) != logits(tokens)
    assert changed.any(axis=-1)[0].tolist() == [False, False, True, True, True, False, False, False]


@pytest.mark.parametrize("window_len", [None, 2])
def test_beams_share_their_prompt_and_follow_their_ancestors(window_len: int | None) -> None:
    model = build(config(window_len=window_len))
    prompts = TokenInputs(jnp.array([[1, 2, 3], [4, 0, 0]]), jnp.array([3, 1]))
    fed = jnp.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 1, 2, 3]])  # [step, row]: two hypotheses of two prompts
    orders = jnp.array([[0, 1, 2, 3], [1, 1, 3, 2], [1, 0, 2, 2]])

    def reordered(state: Any, order: jax.Array) -> Any:
        # Every leaf is another value than before the last step, as within a search.
        return reorder_state(state, jax.tree.map(lambda leaf: leaf + 0, state), order)

    @jax.jit
    def by_beams() -> jax.Array:
        state = repeat_state(model.start(prompts, max_len=3), 2)
        logits = []
        for tokens, order in zip(fed, orders):
            state = reordered(state, order) if logits else state
            new, state = model.step(state, tokens)
            logits.append(new)
        return jnp.stack(logits)

    @jax.jit
    def by_copies() -> jax.Array:
        state = jax.tree.map(lambda leaf: jnp.repeat(leaf, 2, axis=0), model.start(prompts, max_len=3))
        logits = []
        for tokens, order in zip(fed, orders):
            state = jax.tree.map(lambda leaf, order=order: leaf[order], state) if logits else state
            new, state = model.step(state, tokens)
            logits.append(new)
        return jnp.stack(logits)

    np.testing.assert_allclose(by_beams(), by_copies(), atol=1e-5)


def test_a_beam_takes_one_token_at_a_time() -> None:
    model = build()
    state = repeat_state(model.start(TokenInputs(jnp.ones((1, 2), int), jnp.array([2])), max_len=4), 2)
    with pytest.raises(ShapeError, match="feeds one token a hypothesis, got 2"):
        model.extend(state, jnp.ones((2, 2), int))


def test_positions_have_an_end() -> None:
    assert CONFIG.context_len == 12
    assert config(positions=nn.Sinusoidal()).context_len is None
    model = build()
    with pytest.raises(ShapeError, match="length 13 exceeds the 12 learned positions"):
        model(jnp.ones((1, 13), int))
    prompt = TokenInputs(jnp.ones((1, 13), int), jnp.array([2]))
    with pytest.raises(ShapeError, match="the prompt has 13 tokens, the model has 12"):
        model.start(prompt, max_len=1)
    with pytest.raises(ShapeError, match="max_len asks for 13 tokens, the model has 12"):
        model.start(TokenInputs(jnp.ones((1, 2), int), jnp.array([2])), max_len=13)


def test_a_padded_prompt_needs_no_room_for_its_padding() -> None:
    model = build()
    prompt = TokenInputs(jnp.ones((1, 8), int), jnp.array([3]))
    state, step = model.start(prompt, max_len=9), jax.jit(lambda state, token: model.step(state, token))
    for _ in range(9):
        logits, state = step(state, jnp.array([1]))
        assert jnp.isfinite(logits).all()
    assert jnp.isnan(step(state, jnp.array([1]))[0]).all(), "a thirteenth token has no position"


def test_initial_weights_have_their_deviation() -> None:
    wide = config(model_dim=128, feed_forward_dim=512, num_layers=8, weight_deviation=0.02)
    parameters = named_parameters(build(wide))
    for name, deviation in (
        ("embedding.embedding", 0.02),
        ("stack.layers.3.self_attention.query_key_value.kernel", 0.02),
        ("stack.layers.3.self_attention.output.kernel", 0.02 / 4),
        ("stack.layers.3.feed_forward.inner.kernel", 0.02),
        ("stack.layers.3.feed_forward.outer.kernel", 0.02 / 4),
    ):
        assert float(jnp.std(parameters[name])) == pytest.approx(deviation, rel=0.1), name
    loss = -jnp.mean(jax.nn.log_softmax(build()(jnp.ones((1, 4), int))))
    assert float(loss) == pytest.approx(math.log(VOCAB), rel=0.5)


def test_another_seed_gives_other_weights_everywhere() -> None:
    first, other = (build_model(CONFIG, Sizes(vocab_size=VOCAB), seed=seed) for seed in (0, 1))
    for (name, one), two in zip(named_parameters(first).items(), named_parameters(other).values()):
        if name.endswith(("kernel", "embedding", "table")):
            assert (one != two).any(), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"window_len": 0}, "window_len must be at least 1, got 0"),
        ({"dropout_rate": 1.0}, "dropout_rate"),
        ({"weight_deviation": 0.0}, "weight_deviation must be above 0"),
        ({"self_attention": "linear"}, "num_kv_heads must be 4 with linear self-attention"),
        ({"self_attention": "linear", "num_kv_heads": 4, "window_len": 2}, "window_len must be None"),
        ({"self_attention": "linear", "num_kv_heads": 4, "positions": nn.Rotary()}, "positions must be"),
        ({"num_heads": 3}, "must be divisible by num_heads 3"),
        ({"positions": nn.Rotary(), "num_heads": 16, "num_kv_heads": 16}, None),
    ],
)
def test_values_that_do_not_go_together_are_refused(changes: dict[str, Any], message: str | None) -> None:
    if message is None:  # a head of width 1 cannot be turned: found where the module is made
        with pytest.raises(ShapeError, match="rotary positions need an even head_dim"):
            build(config(**changes))
        return
    with pytest.raises((ConfigError, ShapeError), match=message):
        config(**changes)


def test_linear_attention_starts_again_in_each_document_of_a_packed_row() -> None:
    model = build(config(self_attention="linear", num_kv_heads=4))
    tokens = jnp.arange(9)[None] % VOCAB
    segments = jnp.array([[1, 1, 1, 1, 2, 2, 2, 0, 0]])
    logits = jax.jit(lambda tokens: model(tokens, segments=segments))
    packed = logits(tokens)
    for part in (slice(0, 4), slice(4, 7)):
        np.testing.assert_allclose(packed[:, part], model(tokens[:, part]), atol=1e-5)
    np.testing.assert_array_equal(logits(tokens.at[0, :4].set(9).at[0, 7:].set(8))[:, 4:7], packed[:, 4:7])


def test_a_window_is_for_self_attention() -> None:
    options: Any = {"use_bias": False, "dropout_rate": 0.0, "rngs": nnx.Rngs(0)}
    with pytest.raises(ConfigError, match="window_len must be at least 1 and is for self-attention, got 2"):
        nn.MultiHeadAttention(8, 2, 2, key_value_dim=8, window_len=2, **options)


@pytest.mark.parametrize("tied", [True, False])
def test_the_output_projection_computes_in_the_models_dtype(tied: bool) -> None:
    model = build(config(tied=tied, dtype="bfloat16"))
    table, _ = model.output_projection()
    hidden = model.hidden(jnp.ones((1, 3), jnp.int32))
    assert table.dtype == hidden.dtype == jnp.bfloat16
    output = model.embedding if tied else model.output_embedding
    assert output(jnp.ones((1, 3), jnp.int32)).dtype == jnp.bfloat16
    assert output.embedding[...].dtype == jnp.float32
