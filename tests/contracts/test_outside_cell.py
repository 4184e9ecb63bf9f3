"""A cell that the library does not know: one class outside of the package runs wherever the library's own do."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from transformer_jax.config_json import from_json, to_json
from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.errors import ConfigError
from transformer_jax.functional.losses import cross_entropy
from transformer_jax.functional.recurrent import (
    GatedCell,
    LSTMCell,
    cell_class,
    cell_kinds,
    recurrence,
    register_cell,
)
from transformer_jax.functional.recurrent.gated_cell import recur
from transformer_jax.models.recurrent_config import Bahdanau, LastState, Luong, RecurrentSeq2SeqConfig
from transformer_jax.models.recurrent_seq2seq import RecurrentSeq2Seq
from transformer_jax.nn.parameters import named_parameters
from transformer_jax.nn.recurrent import RecurrentStack
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.testing.recurrence_oracle import CellCase, sigmoid
from transformer_jax.testing.recurrence_suite import CHECKS
from transformer_jax.typing import Array, Float


@register_cell
@pytree_dataclass
class MinimalGatedCell(GatedCell):
    """One gate that both forgets and resets: Zhou et al. 2016, https://arxiv.org/abs/1603.09420, equation 6."""

    input_weight: Float[Array, "features gates"]
    recurrent_weight: Float[Array, "hidden gates"]
    bias: Float[Array, "gates"]

    kind = "minimal_gated"
    num_gates = 2

    def step(self, carry, projected):
        input_forget, input_candidate = jnp.split(projected, 2, axis=-1)
        forget_weight, candidate_weight = jnp.split(self.recurrent_weight, 2, axis=-1)
        forget = jax.nn.sigmoid(input_forget + recur(carry, forget_weight))
        candidate = jnp.tanh(input_candidate + recur(forget * carry, candidate_weight))
        state = (1.0 - forget) * carry + forget * candidate
        return state, state


def _oracle(parameters, carry, x):
    of_inputs = x @ parameters["input_weight"] + parameters["bias"][..., None, :]
    (input_f, input_h), (weight_f, weight_h) = (
        np.split(array, 2, axis=-1) for array in (of_inputs, parameters["recurrent_weight"])
    )
    forget = sigmoid(input_f + carry[0] @ weight_f)
    return ((1 - forget) * carry[0] + forget * np.tanh(input_h + (forget * carry[0]) @ weight_h),)


CASE = CellCase("minimal_gated", MinimalGatedCell, _oracle)


@pytest.mark.parametrize("check", CHECKS)
def test_contract_of_the_recurrence(check):
    CHECKS[check](recurrence, CASE)


@pytest.mark.parametrize("kind", ["minimal_gated", MinimalGatedCell])
def test_stack_of_it_by_name_and_by_class(kind):
    stack = RecurrentStack(
        kind, 3, 4, 2, bidirectional=False, dropout_rate=0.0, residual=True, rngs=nnx.Rngs(0)
    )
    assert named_parameters(stack)["layers.0.forward_cell.recurrent_weight"].shape == (4, 8)
    inputs = jax.random.normal(jax.random.key(0), (2, 5, 3))
    outputs, carries = stack(inputs)
    stepped = stack.initial_carry(2)
    for time in range(5):
        stepped, output = stack.step(stepped, inputs[:, time])
        np.testing.assert_allclose(output, outputs[:, time], atol=1e-6)
    np.testing.assert_allclose(stepped[1], carries[1], atol=1e-6)


def _config(attention):
    return RecurrentSeq2SeqConfig(
        embedding_dim=8, hidden_dim=16, cell="minimal_gated", num_encoder_layers=1, num_decoder_layers=1,
        bidirectional=True, attention=attention, dropout_rate=0.0, residual=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "attention",
    [
        pytest.param(LastState(feed_each_step=False), marks=pytest.mark.full),
        Bahdanau(attention_dim=8),
        pytest.param(Luong(score="general", input_feeding=True), marks=pytest.mark.full),
    ],
    ids=lambda attention: attention.kind,
)
def test_encoder_decoder_learns_and_steps_as_it_runs(attention):
    config = from_json(RecurrentSeq2SeqConfig, to_json(_config(attention)))
    model = RecurrentSeq2Seq(config, source_vocab_size=6, target_vocab_size=6, rngs=nnx.Rngs(0))
    source = jax.random.randint(jax.random.key(0), (8, 3), 2, 6)
    lengths = jnp.full(8, 3)
    inputs = jnp.concatenate([jnp.ones((8, 1), jnp.int32), source[:, :-1]], axis=1)
    graph, params = nnx.split(model, nnx.Param)
    optimizer = optax.adam(2e-2)

    def loss(params):
        logits = nnx.merge(graph, params)(source, lengths, inputs)
        return cross_entropy(logits, source).mean()

    @jax.jit
    def update(params, state):
        value, gradients = jax.value_and_grad(loss)(params)
        changes, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, changes), state, value

    state, losses = optimizer.init(params), []
    for _ in range(60):
        params, state, value = update(params, state)
        losses.append(float(value))
    assert losses[-1] < 0.5 * losses[0]
    model = nnx.merge(graph, params)
    logits = model(source, lengths, inputs)
    decoding = model.start(TokenInputs(source, lengths), max_len=3)
    for time in range(3):
        step_logits, decoding = model.step(decoding, inputs[:, time])
        np.testing.assert_allclose(step_logits, logits[:, time], atol=1e-5)


def test_its_name_is_known_and_others_are_refused():
    assert "minimal_gated" in cell_kinds()
    assert cell_class("minimal_gated") is MinimalGatedCell
    with pytest.raises(
        ConfigError, match=r"cell must be one of .*; got 'minimal_gate'; did you mean 'minimal_gated'"
    ):
        cell_class("minimal_gate")
    with pytest.raises(ConfigError, match="subclass of GatedCell; got the class int"):
        inspect.unwrap(cell_class)(int)  # past the run-time checks of the tests


def test_a_taken_name_is_refused():
    class Another(LSTMCell):
        pass

    with pytest.raises(ConfigError, match=r"cell kind 'lstm' of Another is taken by .*LSTMCell"):
        register_cell(Another)
    assert cell_class("lstm") is LSTMCell
