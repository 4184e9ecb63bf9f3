"""The formulas of the race's costs against XLA's own count, on builds without loops; the contestants' models."""

import functools
import math

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from transformer_jax.decode import TokenInputs
from transformer_jax.models import Sizes, build_model
from transformer_jax.nn import recurrent
from transformer_jax.nn.parameters import parameter_count
from transformer_jax.race.contestants import contestant_config, parse, recurrent_parameters, recurrent_width
from transformer_jax.race.costs import forward_flops
from transformer_jax.race.speed import Contestant, random_batch
from transformer_jax.training.state import split_model

VOCAB, LENGTH, BATCH = 256, 8, 4


def model_of(name, *, width, equal_parameters=False):
    config = contestant_config(parse(name), width=width, vocab_size=VOCAB, equal_parameters=equal_parameters)
    return config, build_model(config, Sizes(vocab_size=VOCAB), seed=0)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru", "min_gru", "transformer"])
def test_forward_flops_are_xlas_within_five_percent(kind, monkeypatch):
    # An unrolled recurrence and attention that holds all its weights have no loop, whose body XLA counts once.
    monkeypatch.setattr(recurrent, "recurrence", functools.partial(recurrent.recurrence, unroll=LENGTH))
    how = {"transformer": "transformer:reference", "min_gru": "min_gru:associative"}
    config, model = model_of(how.get(kind, f"{kind}:plain"), width=256)
    structure, params, _ = split_model(model)
    tokens = jnp.zeros((BATCH, LENGTH), jnp.int32)

    def logits(params, tokens):
        return structure.merge(params, {})(tokens)

    analysis = jax.jit(logits).lower(params, tokens).compile().cost_analysis()
    counted = (analysis[0] if isinstance(analysis, list) else analysis)["flops"]
    formula = forward_flops(config, VOCAB, LENGTH, skips_masked=False) * BATCH * LENGTH
    assert counted == pytest.approx(formula, rel=0.05)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru", "min_gru", "min_lstm", "diagonal"])
def test_parameters_are_counted_exactly_and_equal_within_two_percent(kind):
    width = recurrent_width(kind, 128, VOCAB)
    _, model = model_of(kind, width=128, equal_parameters=True)
    assert parameter_count(model) == recurrent_parameters(kind, width, VOCAB)
    budget = parameter_count(model_of("transformer", width=128)[1])
    assert parameter_count(model) == pytest.approx(budget, rel=0.02)


@pytest.mark.parametrize(
    "name",
    [
        "gru:parallel",
        "transformer",
        pytest.param("min_lstm:associative", marks=pytest.mark.full),
        pytest.param("linear_attention", marks=pytest.mark.full),
    ],
)
def test_the_prefill_and_steps_of_generation_give_what_the_whole_gives(name):
    _, model = model_of(name, width=32)
    tokens = jax.random.randint(jax.random.key(0), (2, 9), 0, VOCAB)
    whole = nnx.jit(lambda model: model(tokens))(model)
    prompts = TokenInputs(tokens[:, :6], jnp.full(2, 6, jnp.int32))
    state = nnx.jit(lambda model: model.start(prompts, max_len=3))(model)
    step = nnx.jit(lambda model, state, tokens: model.step(state, tokens))
    for place in (6, 7, 8):
        logits, state = step(model, state, tokens[:, place])
        assert jnp.abs(logits - whole[:, place]).max() < 1e-5 * jnp.abs(whole).max()


def test_the_loss_is_near_that_of_guessing_at_first():
    one = Contestant(parse("gru"), width=32, vocab_size=VOCAB, equal_parameters=False, longest=16)
    loss = one.forward(one.params, random_batch(4, 16, VOCAB))
    assert float(loss) == pytest.approx(math.log(VOCAB), rel=0.2)
