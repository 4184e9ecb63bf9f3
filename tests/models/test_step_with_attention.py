"""Where each step of a search looked, against the attention maps of the whole outputs."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiers import tiered

from transformer_jax.decode import beam_search
from transformer_jax.decode.coverage import coverage_penalty
from transformer_jax.decode.protocol import AttendingStepModel, TokenInputs
from transformer_jax.decode.search_config import BeamConfig
from transformer_jax.decode.search_options import RowOptions, SearchIds
from transformer_jax.errors import ConfigError
from transformer_jax.models import (
    Bahdanau,
    EncoderDecoderConfig,
    LastState,
    Luong,
    RecurrentSeq2SeqConfig,
    build_model,
)
from transformer_jax.models.sizes import Sizes
from transformer_jax.nn import Monotonic, Predictive
from transformer_jax.testing.step_model_suite import SOURCE_VOCAB_SIZE, TARGET_VOCAB_SIZE, make_batch

BOS, EOS = 2, 3
MAX_LEN, NUM_BEAMS, BETA, ALPHA = 6, 3, 0.3, 0.6

TRANSFORMER = EncoderDecoderConfig(
    model_dim=16, num_heads=4, num_kv_heads=2, feed_forward_dim=24, num_encoder_layers=1, num_decoder_layers=2
)
RECURRENT = RecurrentSeq2SeqConfig(
    embedding_dim=6, hidden_dim=8, cell="gru", num_encoder_layers=1, num_decoder_layers=1, bidirectional=True,
    attention=Bahdanau(attention_dim=5), dropout_rate=0.0, residual=False,
)  # fmt: skip


def luong(**options: Any) -> RecurrentSeq2SeqConfig:
    return dataclasses.replace(
        RECURRENT, attention=Luong(**({"score": "general", "input_feeding": True} | options))
    )


MODELS = {
    "transformer": TRANSFORMER,
    "transformer_pre_norm": dataclasses.replace(TRANSFORMER, norm_placement="pre", num_decoder_layers=1),
    "bahdanau": RECURRENT,
    "luong": luong(),
    "luong_concat_no_feeding": luong(score="concat", input_feeding=False),
    "luong_predictive": luong(local=Predictive(half_width=2), input_feeding=False),
    "luong_monotonic": luong(local=Monotonic(half_width=1)),
}


def build(config: Any) -> Any:
    return build_model(config, Sizes.of_pairs(SOURCE_VOCAB_SIZE, TARGET_VOCAB_SIZE), seed=1)


def compiled(function: Any) -> Any:
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


@pytest.mark.parametrize("name", tiered(MODELS, {"transformer", "bahdanau", "luong_predictive"}))
def test_a_search_counts_what_the_whole_outputs_looked_at(name: str) -> None:
    model, batch = build(MODELS[name]), make_batch()
    assert isinstance(model, AttendingStepModel)
    graph, params = nnx.split(model)

    def search(params: Any) -> Any:
        merged: Any = nnx.merge(graph, params)
        state = merged.start(TokenInputs(batch.source_tokens, batch.source_lengths), max_len=MAX_LEN)
        config = BeamConfig(
            max_len=MAX_LEN,
            num_beams=NUM_BEAMS,
            num_best=NUM_BEAMS,
            length_penalty=ALPHA,
            coverage_penalty=BETA,
        )
        rows = RowOptions(source_lengths=batch.source_lengths)
        return beam_search(merged, state, config, SearchIds(bos_id=BOS, eos_id=EOS), rows)

    output = jax.tree.map(np.asarray, compiled(search)(params))
    said = output.tokens.reshape(-1, MAX_LEN)
    inputs = np.concatenate([np.full((len(said), 1), BOS, np.int32), said[:, :-1]], axis=1)
    sources = [jnp.repeat(part, NUM_BEAMS, axis=0) for part in batch[:2]]
    maps = compiled(lambda params: nnx.merge(graph, params).attention_maps(*sources, jnp.asarray(inputs)))(
        params
    )
    last = np.asarray(list(maps.values())[-1]).mean(axis=1)  # [rows, target, source]
    for row, (length, finished) in enumerate(zip(output.lengths.reshape(-1), output.finished.reshape(-1))):
        generated = int(length) + int(finished)
        weights = last[row, :generated, : int(sources[1][row])]
        wanted = output.log_probs.reshape(-1)[row] / ((5 + generated) / 6) ** ALPHA
        wanted += coverage_penalty(weights, BETA)
        assert output.scores.reshape(-1)[row] == pytest.approx(wanted, rel=1e-4, abs=1e-4)
    assert np.all(np.diff(output.scores, axis=1) <= 0)


@pytest.mark.parametrize("name", MODELS)
def test_looking_changes_no_logits(name: str) -> None:
    model, batch = build(MODELS[name]), make_batch()
    graph, params = nnx.split(model)

    def both(params: Any) -> Any:
        merged: Any = nnx.merge(graph, params)
        state = merged.start(TokenInputs(batch.source_tokens, batch.source_lengths), max_len=2)
        _, state = merged.step(state, batch.target_inputs[:, 0])
        logits, after = merged.step(state, batch.target_inputs[:, 1])
        looked_logits, weights, same = merged.step_with_attention(state, batch.target_inputs[:, 1])
        return (logits, after), (looked_logits, same), weights

    plain, looked, weights = compiled(both)(params)
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, atol=2e-6), plain, looked)
    assert weights.shape == batch.source_tokens.shape
    is_token = np.arange(weights.shape[1])[None] < np.asarray(batch.source_lengths)[:, None]
    assert not np.any(np.asarray(weights)[~is_token])


def test_a_model_without_attention_says_so() -> None:
    model = build(dataclasses.replace(RECURRENT, attention=LastState(feed_each_step=True)))
    batch = make_batch()
    state = model.start(TokenInputs(batch.source_tokens, batch.source_lengths), max_len=MAX_LEN)
    with pytest.raises(ConfigError, match="'last_state' has no weights to tell of"):
        beam_search(
            model,
            state,
            BeamConfig(max_len=MAX_LEN, num_beams=2, coverage_penalty=0.2),
            SearchIds(bos_id=BOS, eos_id=EOS),
            RowOptions(source_lengths=batch.source_lengths),
        )
