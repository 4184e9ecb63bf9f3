"""Search over the prefix scores of CTC: it finds the most probable text, alone and joined with a decoder."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.decode.protocol import FeatureInputs
from transformer_jax.decode.search_options import SearchIds
from transformer_jax.decode.searcher import BeamConfig, make_searcher
from transformer_jax.errors import ConfigError
from transformer_jax.functional.ctc import ctc_loss
from transformer_jax.models.ctc_decoder import CtcDecoder
from transformer_jax.models.feature_encoders import RecurrentFeatureEncoder
from transformer_jax.models.feature_to_text import FeatureToText, FeatureToTextConfig
from transformer_jax.models.recurrent_config import Bahdanau
from transformer_jax.models.text_decoders import RecurrentTextDecoder

VOCAB, BOS, EOS = 6, 2, 3
LETTERS = (4, 5)
IDS = SearchIds(bos_id=BOS, eos_id=EOS, pad_id=0)


def model_of(*, has_decoder: bool) -> FeatureToText:
    decoder = RecurrentTextDecoder(embedding_dim=4, hidden_dim=4, attention=Bahdanau(attention_dim=4))
    config = FeatureToTextConfig(
        encoder=RecurrentFeatureEncoder(cell="gru", hidden_dim=4, num_layers=1, time_reduction=(2,)),
        decoder=decoder if has_decoder else None,
        ctc=True,
    )
    model = FeatureToText(config, feature_dim=3, vocab_size=VOCAB, rngs=nnx.Rngs(0))
    assert model.ctc_output is not None
    model.ctc_output.kernel[...] *= 8.0  # far from even
    return model


def inputs() -> FeatureInputs:
    features = np.random.default_rng(0).normal(size=(3, 9, 3)).astype(np.float32)
    features[1, 5:] = np.nan
    return FeatureInputs(jnp.asarray(features), jnp.array([9, 5, 8]))


def texts(longest: int) -> list[tuple[int, ...]]:
    return [text for n in range(longest + 1) for text in itertools.product(LETTERS, repeat=n)]


def allowed_logits(model: FeatureToText) -> tuple[Any, Any]:
    memory, lengths = model.encode(inputs())
    logits = model.ctc_logits(memory)
    never = jnp.isin(jnp.arange(VOCAB), jnp.array([1, BOS, EOS]))
    return jnp.where(never, -1e9, logits), lengths


def test_beam_search_alone_finds_the_most_probable_text() -> None:
    model = model_of(has_decoder=False)
    logits, lengths = allowed_logits(model)
    all_texts = texts(4)
    labels = np.zeros((len(all_texts), 4), np.int32)
    for row, text in enumerate(all_texts):
        labels[row, : len(text)] = text
    counts = jnp.array([len(text) for text in all_texts])
    losses = jax.jit(jax.vmap(
        lambda row, length: ctc_loss(
            jnp.broadcast_to(row, (len(all_texts), *row.shape)),
            jnp.full(len(all_texts), length), jnp.asarray(labels), counts,
        )
    ))(logits, lengths)  # fmt: skip
    log_probs = np.where(losses[1], -losses[0], -np.inf)
    decoder = CtcDecoder(model)
    config = BeamConfig(max_len=5, num_beams=8, length_penalty=0.0, forbidden_ids=(0, 1, BOS))
    found = make_searcher(decoder, config, IDS)(nnx.state(decoder), inputs())
    for row in range(3):
        best = int(np.argmax(log_probs[row]))
        tokens = found.tokens[row, 0, : found.lengths[row, 0]].tolist()
        assert tuple(token for token in tokens if token != EOS) == all_texts[best]
        assert float(found.scores[row, 0]) == pytest.approx(float(log_probs[row, best]), abs=2e-3)


def test_joint_scores_are_weighed_and_padding_changes_nothing() -> None:
    model = model_of(has_decoder=True)
    weight = 0.4
    alone, joint = CtcDecoder(model), CtcDecoder(model, ctc_weight=weight)

    def scored(one: Any, given: FeatureInputs) -> list[Any]:
        state, found = one.start(given, max_len=4), []
        for token in (BOS, *LETTERS):
            logits, state = one.step(state, jnp.full(3, token))
            found.append(logits)
        return found

    run = nnx.jit(scored)
    given = inputs()
    of_ctc, of_both, of_decoder = (run(one, given) for one in (alone, joint, model))
    for ctc, both, plain in zip(of_ctc, of_both, of_decoder, strict=True):
        wanted = weight * np.asarray(ctc) + (1 - weight) * np.asarray(jax.nn.log_softmax(plain))
        np.testing.assert_allclose(both, wanted, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(np.exp(ctc).sum(axis=1), 1.0, atol=1e-4)
        assert (np.asarray(both)[:, [0, 1, BOS]] == -np.inf).all()
    longer = FeatureInputs(
        jnp.pad(given.features, ((0, 0), (0, 4), (0, 0)), constant_values=jnp.nan), given.lengths
    )
    for before, after in zip(of_both, run(joint, longer), strict=True):
        np.testing.assert_allclose(before, after, rtol=1e-4, atol=1e-4)


def test_joint_search_finds_the_text_of_the_best_weighed_sum() -> None:
    model = model_of(has_decoder=True)
    weight, longest = 0.4, 2
    logits, lengths = allowed_logits(model)
    all_texts = texts(longest)
    sums = np.zeros((len(all_texts), 3), np.float32)
    run = nnx.jit(lambda one, tokens: one.step(*tokens))
    for place, text in enumerate(all_texts):
        labels = jnp.broadcast_to(jnp.array([*text, 0], jnp.int32), (3, len(text) + 1))
        loss, has_alignment = ctc_loss(logits, lengths, labels, jnp.full(3, len(text)))
        state, of_decoder = model.start(inputs(), max_len=longest + 1), np.zeros(3, np.float32)
        for fed, wanted in zip((BOS, *text), (*text, EOS), strict=True):
            step, state = run(model, (state, jnp.full(3, fed)))
            of_decoder += np.asarray(jax.nn.log_softmax(step))[:, wanted]
        of_ctc = np.where(has_alignment, -loss, -np.inf)
        sums[place] = weight * of_ctc + (1 - weight) * of_decoder
    joint = CtcDecoder(model, ctc_weight=weight)
    config = BeamConfig(max_len=longest + 1, num_beams=8, length_penalty=0.0, forbidden_ids=(0, 1, BOS))
    found = make_searcher(joint, config, IDS)(nnx.state(joint), inputs())
    for row in range(3):
        best = int(np.argmax(sums[:, row]))
        tokens = found.tokens[row, 0, : found.lengths[row, 0]].tolist()
        assert tuple(token for token in tokens if token != EOS) == all_texts[best]
        assert float(found.scores[row, 0]) == pytest.approx(float(sums[best, row]), abs=2e-3)


def test_refusals() -> None:
    model = model_of(has_decoder=False)
    with pytest.raises(ConfigError, match="no decoder to weigh against"):
        CtcDecoder(model, ctc_weight=0.5)
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        CtcDecoder(model, ctc_weight=0.0)
    with pytest.raises(ConfigError, match="nothing writes text"):
        FeatureToTextConfig(encoder=model.config.encoder, decoder=None, ctc=False)
    assert math.isfinite(float(model.encode(inputs())[0].sum()))
