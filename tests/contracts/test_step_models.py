"""Every sequence-to-sequence model under the contract of step models; a model joins by being listed."""

import dataclasses
import functools

import pytest
from flax import nnx

from transformer_jax import models, nn
from transformer_jax.decode.protocol import StepModel
from transformer_jax.testing import step_model_suite as suite

TRANSFORMER = models.EncoderDecoderConfig(
    model_dim=16,
    num_heads=4,
    num_kv_heads=4,
    feed_forward_dim=24,
    num_encoder_layers=1,
    num_decoder_layers=1,
    dropout_rate=0.1,
)
RECURRENT = models.RecurrentSeq2SeqConfig(
    embedding_dim=6,
    hidden_dim=8,
    cell="gru",
    num_encoder_layers=1,
    num_decoder_layers=1,
    bidirectional=False,
    attention=models.LastState(feed_each_step=False),
    dropout_rate=0.1,
    residual=False,
)


def _transformer(**changes):
    return dataclasses.replace(TRANSFORMER, **changes)


def _recurrent(**changes):
    return dataclasses.replace(RECURRENT, **changes)


def _luong(score, **changes):
    max_len = suite.MAX_SOURCE_LEN if score == "location" else None
    attention = models.Luong(score=score, input_feeding=True, max_len=max_len)
    return _recurrent(cell="lstm", attention=attention, **changes)


def _luong_local(local, *, input_feeding):
    cell, score = ("lstm", "general") if input_feeding else ("min_gru", "concat")
    attention = models.Luong(score=score, input_feeding=input_feeding, local=local)
    return _recurrent(cell=cell, bidirectional=True, attention=attention)


# Every value of every option in few models, but for no positions at all: these are checked always. The models after
# them, which mostly change one thing each, say in the second tier what a failure here comes from.
COVERING = {
    "transformer": TRANSFORMER,
    "transformer_rotary_grouped_pre_rms_silu_tied": _transformer(
        positions=nn.Rotary(),
        num_kv_heads=2,
        norm_placement="pre",
        normalization="rms",
        activation="silu",
        share_embeddings="target",
        num_encoder_layers=2,
    ),
    "transformer_alibi_multi_query_pre_gelu": _transformer(
        positions=nn.AlibiPositions(), num_kv_heads=1, norm_placement="pre", activation="gelu"
    ),
    "transformer_relative_multi_query_rms_gelu_bias": _transformer(
        positions=nn.RelativePositions(num_buckets=8, max_distance=16),
        num_kv_heads=1,
        normalization="rms",
        activation="gelu",
        attention_bias=True,
    ),
    "transformer_linear_learned_pre": _transformer(
        decoder_self_attention="linear",
        positions=nn.Learned(max_len=12),
        norm_placement="pre",
        attention_bias=True,
        num_decoder_layers=2,
    ),
    "transformer_expert_heads": _transformer(
        heads=nn.ExpertHeads(num_experts=5), num_kv_heads=1, positions=nn.Rotary()
    ),
    "transformer_experts": _transformer(feed_forward=nn.Experts(num_experts=3, num_shared=1)),
    "transformer_batch_sandwich": _transformer(normalization="batch", norm_placement="sandwich"),
    "diagonal_context_each_step": _recurrent(
        cell="diagonal",
        attention=models.LastState(feed_each_step=True),
        num_encoder_layers=2,
        num_decoder_layers=2,
    ),
    "gru_bahdanau_deep": _recurrent(
        bidirectional=True,
        attention=models.Bahdanau(attention_dim=5),
        num_encoder_layers=2,
        num_decoder_layers=2,
        residual=True,
    ),
    "lstm_luong_monotonic": _luong_local(nn.Monotonic(half_width=1), input_feeding=True),
    "min_gru_luong_concat_predictive": _luong_local(nn.Predictive(half_width=2), input_feeding=False),
    "min_lstm_luong_location": _recurrent(
        cell="min_lstm",
        attention=models.Luong(score="location", input_feeding=True, max_len=suite.MAX_SOURCE_LEN),
    ),
    "rnn_luong_dot_deep": _recurrent(
        cell="rnn",
        attention=models.Luong(score="dot", input_feeding=True),
        num_encoder_layers=2,
        num_decoder_layers=2,
        residual=True,
    ),
}
ONE_BY_ONE = {
    "transformer_relative_grouped_pre_tied_bias": _transformer(
        positions=nn.RelativePositions(num_buckets=8, max_distance=16),
        num_kv_heads=2,
        norm_placement="pre",
        share_embeddings="target",
        attention_bias=True,
    ),
    "transformer_alibi_multi_query_rms_gelu_bias": _transformer(
        positions=nn.AlibiPositions(),
        num_kv_heads=1,
        normalization="rms",
        activation="gelu",
        attention_bias=True,
    ),
    "min_gru_luong_concat_no_feeding": _recurrent(
        cell="min_gru",
        bidirectional=True,
        attention=models.Luong(score="concat", input_feeding=False),
    ),
    "lstm_luong_dot_deep": _luong("dot", num_encoder_layers=2, num_decoder_layers=2, residual=True),
    "transformer_two_layers": _transformer(num_encoder_layers=2, num_decoder_layers=2),
    "transformer_pre_norm": _transformer(norm_placement="pre"),
    "transformer_post_rms": _transformer(normalization="rms"),
    "transformer_pre_rms_silu": _transformer(norm_placement="pre", normalization="rms", activation="silu"),
    "transformer_power_deep": _transformer(normalization="power", norm_placement="deep"),
    "transformer_batch_post": _transformer(normalization="batch"),
    "transformer_pre_without_norms": _transformer(normalization="none", norm_placement="pre"),
    "transformer_grouped": _transformer(num_kv_heads=2),
    "transformer_multi_query": _transformer(num_kv_heads=1),
    "transformer_tied_target": _transformer(share_embeddings="target"),
    "transformer_bias_gelu": _transformer(attention_bias=True, activation="gelu"),
    "transformer_learned": _transformer(positions=nn.Learned(max_len=12)),
    "transformer_rotary": _transformer(positions=nn.Rotary()),
    "transformer_rotary_grouped_pre": _transformer(
        positions=nn.Rotary(), num_kv_heads=2, norm_placement="pre", normalization="rms"
    ),
    "transformer_alibi": _transformer(positions=nn.AlibiPositions()),
    "transformer_relative": _transformer(positions=nn.RelativePositions(num_buckets=8, max_distance=16)),
    "transformer_no_positions": _transformer(positions=nn.NoPositions()),
    "transformer_linear": _transformer(decoder_self_attention="linear"),
    "lstm_luong_post_layer_norm": _luong(
        "general", normalization="layer", num_decoder_layers=2, residual=True
    ),
    "gru_bahdanau_pre_rms": _recurrent(
        attention=models.Bahdanau(attention_dim=5),
        num_decoder_layers=2,
        normalization="rms",
        norm_placement="pre",
    ),
    "gru_last_state_rms": _recurrent(normalization="rms"),
    "rnn": _recurrent(cell="rnn"),
    "lstm": _recurrent(cell="lstm"),
    "min_gru": _recurrent(cell="min_gru"),
    "min_lstm_bahdanau": _recurrent(
        cell="min_lstm", bidirectional=True, attention=models.Bahdanau(attention_dim=5)
    ),
    "gru": RECURRENT,
    "gru_context_each_step": _recurrent(attention=models.LastState(feed_each_step=True)),
    "gru_bahdanau_coverage": _recurrent(
        bidirectional=True, attention=models.Bahdanau(attention_dim=5, coverage_width=3)
    ),
    "gru_bahdanau": _recurrent(bidirectional=True, attention=models.Bahdanau(attention_dim=5)),
    "lstm_luong_dot": _luong("dot"),
    "lstm_luong_general": _luong("general"),
    "lstm_luong_concat": _luong("concat"),
    "lstm_luong_location": _luong("location"),
    "gru_luong_no_feeding": _recurrent(attention=models.Luong(score="general", input_feeding=False)),
    "lstm_luong_deep": _luong(
        "general", num_encoder_layers=2, num_decoder_layers=2, bidirectional=True, residual=True
    ),
}
MODELS = COVERING | ONE_BY_ONE
SMOKE = {"transformer", "gru_bahdanau_deep"}
NAMES = [
    *(pytest.param(name, marks=pytest.mark.smoke if name in SMOKE else []) for name in COVERING),
    *(pytest.param(name, marks=pytest.mark.full) for name in ONE_BY_ONE),
]


@functools.cache
def build(name):
    return models.build_model(
        MODELS[name],
        models.Sizes.of_pairs(suite.SOURCE_VOCAB_SIZE, suite.TARGET_VOCAB_SIZE),
        seed=0,
    )


@pytest.mark.parametrize("check", suite.CHECKS)
@pytest.mark.parametrize("name", NAMES)
def test_keeps_the_contract(name, check):
    suite.CHECKS[check](build(name))


@pytest.mark.parametrize("name", NAMES)
def test_is_a_step_model(name):
    assert isinstance(build(name), StepModel)


def test_the_suite_finds_a_model_that_looks_ahead():
    class LooksAhead(nnx.Module):
        def __init__(self):
            self.model = build("transformer")

        def __call__(self, source_tokens, source_lengths, target_inputs, *, rng_key=None):
            logits = self.model(source_tokens, source_lengths, target_inputs, rng_key=rng_key)
            return logits + logits[:, ::-1]

        def start(self, inputs, *, max_len):
            return self.model.start(inputs, max_len=max_len)

        def step(self, state, tokens):
            return self.model.step(state, tokens)

    with pytest.raises(AssertionError, match="before the changed token"):
        suite.check_causality(LooksAhead())
    with pytest.raises(AssertionError, match="stepwise logits differ"):
        suite.check_stepwise_equals_teacher_forced(LooksAhead())
