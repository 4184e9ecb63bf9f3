"""The formulas of the race's costs against XLA's own count, on builds without loops."""

import math

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from transformer_jax.nn.parameters import parameter_count
from transformer_jax.race.contestants import build, mean_loss, parse, recurrent_parameters, recurrent_width
from transformer_jax.race.costs import forward_flops

VOCAB, LENGTH, BATCH = 256, 8, 4


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru", "min_gru", "transformer"])
def test_forward_flops_are_xlas_within_five_percent(kind):
    # An unrolled recurrence and attention that holds all its weights have no loop, whose body XLA counts once.
    how = {"transformer": "transformer:reference", "min_gru": "min_gru:associative"}.get(
        kind, f"{kind}:plain"
    )
    model = build(parse(how), width=256, vocab_size=VOCAB, equal_parameters=False)
    if hasattr(model, "unroll"):
        model.unroll = LENGTH
    tokens = jnp.zeros((BATCH, LENGTH + 1), jnp.int32)
    graph, params = nnx.split(model)

    def hidden_and_logits(params, tokens):
        model = nnx.merge(graph, params)
        return model(tokens[:, :-1]) @ model.embedding.table().T

    analysis = jax.jit(hidden_and_logits).lower(params, tokens).compile().cost_analysis()
    counted = (analysis[0] if isinstance(analysis, list) else analysis)["flops"]
    formula = forward_flops(kind, 256, VOCAB, LENGTH, skips_masked=False) * BATCH * LENGTH
    assert counted == pytest.approx(formula, rel=0.05)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru", "min_gru", "min_lstm", "diagonal"])
def test_parameters_are_counted_exactly_and_equal_within_two_percent(kind):
    width = recurrent_width(kind, 128, VOCAB)
    model = build(parse(kind), width=128, vocab_size=VOCAB, equal_parameters=True)
    assert parameter_count(model) == recurrent_parameters(kind, width, VOCAB)
    budget = parameter_count(build(parse("transformer"), width=128, vocab_size=VOCAB, equal_parameters=True))
    assert parameter_count(model) == pytest.approx(budget, rel=0.02)


@pytest.mark.parametrize("kind", ["gru", "min_lstm", "transformer", "linear_attention"])
def test_going_on_from_a_state_gives_what_the_whole_gives(kind):
    model = build(parse(kind), width=32, vocab_size=VOCAB, equal_parameters=False)
    tokens = jax.random.randint(jax.random.key(0), (2, 9), 0, VOCAB)
    state, parts = model.start(2, 9), []
    for piece in (tokens[:, :4], tokens[:, 4:5], tokens[:, 5:]):
        hidden, state = model.extend(piece, state)
        parts.append(hidden)
    assert jnp.abs(jnp.concatenate(parts, axis=1) - model(tokens)).max() < 1e-5


def test_the_loss_is_near_that_of_guessing_at_first():
    model = build(parse("min_gru"), width=32, vocab_size=VOCAB, equal_parameters=False)
    tokens = jax.random.randint(jax.random.key(0), (4, 17), 0, VOCAB)
    assert float(mean_loss(model, tokens)) == pytest.approx(math.log(VOCAB), rel=0.2)
