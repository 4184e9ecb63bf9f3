"""Text from features: steps agree with teacher forcing, padding changes nothing, beams share a memory."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.decode.protocol import FeatureInputs, repeat_state
from transformer_jax.decode.searcher import BeamConfig
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.inference import BatchSearcher, FeatureRows
from transformer_jax.models import (
    Bahdanau,
    FeatureToText,
    FeatureToTextConfig,
    Luong,
    RecurrentFeatureEncoder,
    RecurrentTextDecoder,
    TransformerTextDecoder,
)

ENCODER = RecurrentFeatureEncoder(cell="gru", hidden_dim=4, num_layers=1, time_reduction=(2,))
DECODERS = {
    "coverage": RecurrentTextDecoder(
        embedding_dim=4, hidden_dim=6, attention=Bahdanau(attention_dim=5, coverage_width=3)
    ),
    "luong-lstm": RecurrentTextDecoder(
        cell="lstm",
        embedding_dim=4,
        hidden_dim=6,
        num_layers=2,
        attention=Luong(score="general", input_feeding=True),
    ),
    "transformer": TransformerTextDecoder(
        model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=8, num_layers=1, dropout_rate=0.0
    ),
}
LENGTHS = np.array([7, 3, 0, 4])
TARGETS = np.random.default_rng(1).integers(4, 9, (4, 5))


@functools.cache
def built(name: str) -> FeatureToText:
    config = FeatureToTextConfig(encoder=ENCODER, decoder=DECODERS[name])
    return FeatureToText(config, feature_dim=3, vocab_size=9, rngs=nnx.Rngs(0))


def features(length: int, *, fill: float = 0.0) -> FeatureInputs:
    """Rows of the lengths above, padded with anything."""
    found = np.full((4, length, 3), fill, np.float32)
    generator = np.random.default_rng(0)
    for row, valid in enumerate(LENGTHS):
        found[row, :valid] = generator.normal(size=(valid, 3))
    return FeatureInputs(jnp.asarray(found), jnp.asarray(LENGTHS))


@pytest.mark.parametrize(
    "name",
    [pytest.param(one, marks=pytest.mark.full if one == "luong-lstm" else ()) for one in DECODERS],
)
def test_steps_and_attention_agree_with_teacher_forcing_whatever_the_padding_holds(name):
    graph, params = nnx.split(built(name))

    @jax.jit
    def forced(params, inputs):
        model = nnx.merge(graph, params)
        targets = jnp.asarray(TARGETS)
        return model(inputs, targets), model.attention_maps(inputs, targets)

    @jax.jit
    def stepped(params, inputs):
        model = nnx.merge(graph, params)
        state = repeat_state(model.start(inputs, max_len=5), 2)

        def body(state, tokens):
            logits, weights, after = model.step_with_attention(state, tokens)
            plain, _ = model.step(state, tokens)
            return after, (logits, weights, plain)

        tokens = jnp.repeat(jnp.asarray(TARGETS), 2, axis=0).T
        return jax.lax.scan(body, state, tokens)[1]

    logits, maps = forced(params, features(7))
    again, more = forced(params, features(12, fill=np.nan))
    np.testing.assert_allclose(again, logits, rtol=0, atol=2e-5)
    for_last = list(maps)[-1]
    np.testing.assert_allclose(
        np.asarray(more[for_last])[..., :4], maps[for_last], rtol=0, atol=2e-5, err_msg="attention"
    )
    by_step, weights, plain = (np.asarray(one).swapaxes(0, 1) for one in stepped(params, features(7)))
    for copy in range(2):
        np.testing.assert_allclose(by_step[copy::2], logits, rtol=0, atol=2e-5)
        np.testing.assert_allclose(plain[copy::2], logits, rtol=0, atol=2e-5)
        wanted = np.asarray(maps[for_last]).mean(axis=1)
        np.testing.assert_allclose(weights[copy::2], wanted, rtol=0, atol=2e-5)


def test_a_decoder_by_itself_reads_nothing_behind_the_lengths_of_a_memory():
    config = RecurrentTextDecoder(embedding_dim=4, hidden_dim=6, attention=Bahdanau(attention_dim=5))
    decoder = config.build(3, 9, rngs=nnx.Rngs(0))
    lengths, targets = jnp.array([5, 2]), jnp.ones((2, 4), jnp.int32)
    memory = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    hidden = jax.jit(lambda memory: decoder.hidden(memory, lengths, targets))
    wanted = hidden(jnp.asarray(memory))
    for fill in (7.0, np.nan):
        memory[1, 2:] = fill
        np.testing.assert_array_equal(hidden(jnp.asarray(memory)), wanted)


def test_coverage_sees_what_was_attended_to():
    """The second step's weights are another where the first one's are hidden from it."""
    model = built("coverage")
    state = model.start(features(7), max_len=5)
    tokens = jnp.asarray(TARGETS[:, 0])
    _, weights, after = model.step_with_attention(state, tokens)
    np.testing.assert_allclose(after.coverage, weights, atol=1e-6)
    _, seen, _ = model.step_with_attention(after, tokens)
    _, unseen, _ = model.step_with_attention(
        dataclasses.replace(after, coverage=jnp.zeros_like(after.coverage)), tokens
    )
    assert np.abs(np.asarray(seen - unseen))[0].max() > 1e-4


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ConfigError, match="nothing writes text"):
        FeatureToTextConfig(encoder=ENCODER, decoder=None)
    alone = FeatureToText(
        FeatureToTextConfig(encoder=ENCODER, decoder=None, ctc=True),
        feature_dim=3,
        vocab_size=9,
        rngs=nnx.Rngs(0),
    )
    memory, lengths = alone.encode(features(7))
    assert alone.ctc_logits(memory).shape == (4, 4, 9)
    assert lengths.tolist() == [4, 2, 0, 2]
    assert not np.asarray(memory[2]).any()
    with pytest.raises(ConfigError, match="no decoder"):
        alone.start(features(7), max_len=3)
    with pytest.raises(ConfigError, match="no CTC head"):
        built("coverage").ctc_logits(memory)
    with pytest.raises(ConfigError, match="hidden_dim must be even"):
        RecurrentTextDecoder(embedding_dim=4, hidden_dim=5, attention=Bahdanau(attention_dim=5))
    located = RecurrentTextDecoder(
        embedding_dim=4, hidden_dim=6, attention=Luong(score="location", input_feeding=False, max_len=3)
    ).build(8, 9, rngs=nnx.Rngs(0))
    with pytest.raises(ShapeError, match="memory has 4 positions"):
        located.start(memory, lengths, max_len=3)


@pytest.mark.parametrize(
    "name",
    ["coverage", *(pytest.param(one, marks=pytest.mark.full) for one in ("luong-lstm", "transformer"))],
)
def test_texts_have_the_same_bits_whatever_stands_beside_them(name):
    model = built(name)
    searcher = BatchSearcher(
        model, BeamConfig(max_len=5, num_beams=2), batch_size=4, lengths=[8], form=FeatureRows(3)
    )
    generator = np.random.default_rng(2)
    sources = [
        generator.normal(size=(length, 3)).astype(np.float32) for length in (8, 1, 5, 0, 3, 8, 2, 7, 4)
    ]
    params = nnx.split(model)[1]
    found = searcher(params, sources)
    assert [one[0].tokens for one in found] != [()] * len(sources)
    assert found[3][0].tokens == ()
    assert searcher.changed_by_neighbours(params, sources, found) == []
    with pytest.raises(ShapeError, match="a source has 9 frames, the search takes at most 8"):
        searcher(params, [np.zeros((9, 3), np.float32)])
