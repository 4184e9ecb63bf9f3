"""Every language model under the contract of language models; a model joins by being listed."""

import dataclasses
import functools

import pytest
from flax import nnx

from transformer_jax import models, nn
from transformer_jax.testing import language_model_suite as suite

GPT = models.DecoderOnlyConfig(
    model_dim=16,
    num_heads=4,
    num_kv_heads=4,
    feed_forward_dim=24,
    num_layers=2,
    positions=nn.Learned(max_len=suite.TEXT_LEN),
    weight_deviation=0.2,  # at the usual 0.02 a tiny model's logits hardly depend on the tokens before
)


def _gpt(**changes):
    return dataclasses.replace(GPT, **changes)


def _recurrent(cell, **changes):
    sizes = {"embedding_dim": 6, "hidden_dim": 8, "num_layers": 1, "dropout_rate": 0.1}
    return models.RecurrentLMConfig(cell=cell, **sizes | changes)


MODELS = {
    "gpt": GPT,
    "llama": _gpt(
        positions=nn.Rotary(),
        num_kv_heads=2,
        normalization="rms",
        activation="swiglu",
        use_bias=False,
    ),
    "post_norm_sinusoidal_untied_window": _gpt(
        positions=nn.Sinusoidal(),
        num_layers=1,
        norm_placement="post",
        scale_embeddings=True,
        tied=False,
        activation="gelu",
        window_len=3,
        num_sinks=1,
        weight_deviation=None,
    ),
    "alibi_multi_query_geglu_window": _gpt(
        positions=nn.AlibiPositions(), num_kv_heads=1, activation="geglu", window_len=2, num_layers=1
    ),
    "relative_rms": _gpt(positions=nn.RelativePositions(num_buckets=8, max_distance=16), normalization="rms"),
    "linear": _gpt(self_attention="linear", num_layers=1),
    "expert_heads_window": _gpt(
        heads=nn.ExpertHeads(num_experts=5), num_kv_heads=1, window_len=3, num_layers=1
    ),
    "experts_swiglu": _gpt(feed_forward=nn.Experts(num_experts=3), activation="swiglu", num_layers=1),
    "batch_deep": _gpt(normalization="batch", norm_placement="deep", num_layers=1, use_bias=False),
    "power_sandwich": _gpt(normalization="power", norm_placement="sandwich", num_layers=1),
    "lstm_deep_residual": _recurrent("lstm", num_layers=2, residual=True),
    "gru_tied": _recurrent("gru", embedding_dim=8, tied=True),
    "rnn": _recurrent("rnn"),
    "min_gru_deep": _recurrent("min_gru", num_layers=2),
    "lstm_pre_layer_norm": _recurrent("lstm", num_layers=2, normalization="layer", norm_placement="pre"),
    "min_lstm": _recurrent("min_lstm"),
    "diagonal": _recurrent("diagonal"),
}
# Relative positions and norms over the batch are held to the contract of step models in the first tier, one-layer cells
# to that of recurrences.
IN_SECOND_TIER = {"relative_rms", "rnn", "min_lstm", "batch_deep", "power_sandwich", "lstm_pre_layer_norm"}
CASES = [
    pytest.param(name, check, marks=pytest.mark.full if name in IN_SECOND_TIER else [])
    for name in MODELS
    for check in suite.CHECKS
]


@functools.cache
def build(name):
    return models.build_model(MODELS[name], models.Sizes(vocab_size=suite.VOCAB_SIZE), seed=0)


@pytest.mark.parametrize(("name", "check"), CASES)
def test_keeps_the_contract(name, check):
    suite.CHECKS[check](build(name))


def test_the_suite_finds_documents_that_see_each_other():
    class Mixes(nnx.Module):
        def __init__(self):
            self.model = build("gpt")

        def __call__(self, tokens, *, segments=None, rng_key=None):
            return self.model(tokens, rng_key=rng_key)

        def hidden(self, tokens):
            return self.model.hidden(tokens)

    with pytest.raises(AssertionError, match="packed document"):
        suite.check_documents_of_a_packed_row_are_apart(Mixes())
