"""Recurrent layers and stacks against single steps of the cells they hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.recurrent import step_once
from transformer_jax.nn.recurrent import (
    CarryBridge,
    RecurrentCell,
    RecurrentLayer,
    RecurrentStack,
    carry_hidden,
)

LENGTHS = (4, 2, 0)
KINDS = ("rnn", "lstm", "gru", "min_gru", "min_lstm", "diagonal")


def _inputs(seed=0, features=3):
    return jax.random.normal(jax.random.key(seed), (len(LENGTHS), 4, features))


def _stack(kind="gru", *, num_layers=2, bidirectional=False, dropout_rate=0.0, residual=False):
    return RecurrentStack(
        kind,
        3,
        5,
        num_layers,
        bidirectional=bidirectional,
        dropout_rate=dropout_rate,
        residual=residual,
        rngs=nnx.Rngs(0),
    )


def _by_single_steps(cell, steps):
    """Outputs and final carry of one row, step by step."""
    carry, outputs = cell.initial_carry(1), []
    for step in steps:
        carry, output = step_once(cell, carry, step[None])
        outputs.append(np.asarray(output[0]))
    return outputs, carry


@pytest.mark.parametrize("kind", KINDS)
def test_bidirectional_layer_is_two_cells_over_each_rows_own_steps(kind):
    layer = RecurrentLayer(kind, 3, 5, bidirectional=True, rngs=nnx.Rngs(0))
    inputs = _inputs()
    outputs, (forward, backward) = layer(inputs, lengths=jnp.array(LENGTHS))
    wanted = np.zeros((3, 4, 10))
    for row, length in enumerate(LENGTHS):
        ahead, last_forward = _by_single_steps(layer.forward_cell.cell(), inputs[row, :length])
        back, last_backward = _by_single_steps(layer.backward_cell.cell(), inputs[row, :length][::-1])
        for time in range(length):
            wanted[row, time] = np.concatenate([ahead[time], back[length - 1 - time]])
        for got, want in ((forward, last_forward), (backward, last_backward)):
            np.testing.assert_allclose(carry_hidden(got)[row], carry_hidden(want)[0], atol=1e-6)
    np.testing.assert_allclose(outputs, wanted, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("residual", [False, True])
def test_stack_equals_its_steps(kind, residual):
    stack, inputs = _stack(kind, residual=residual), _inputs()
    outputs, carries = stack(inputs)
    step_carries = stack.initial_carry(3)
    for time in range(4):
        step_carries, output = stack.step(step_carries, inputs[:, time])
        np.testing.assert_allclose(output, outputs[:, time], atol=1e-6)
    for got, want in zip(jax.tree.leaves(step_carries), jax.tree.leaves(carries), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_residual_adds_the_input_of_the_upper_layers():
    inputs = _inputs()
    stack = _stack(residual=True)
    first, _ = stack.layers[0](inputs)
    second, _ = stack.layers[1](first)
    np.testing.assert_allclose(stack(inputs)[0], first + second, atol=1e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_initial_carry_continues_a_sequence(bidirectional):
    layer = RecurrentLayer("lstm", 3, 5, bidirectional=bidirectional, rngs=nnx.Rngs(0))
    inputs = _inputs()
    whole, _ = layer(inputs)
    _, carry = layer(inputs[:, :2])
    rest, _ = layer(inputs[:, 2:], initial_carry=carry)
    np.testing.assert_allclose(rest[..., :5], whole[:, 2:, :5], atol=1e-6)
    assert jax.tree.structure(layer.initial_carry(3)) == jax.tree.structure(carry)


def test_padding_and_neighbours_change_nothing():
    stack, inputs, lengths = _stack(bidirectional=True, residual=True), _inputs(), jnp.array(LENGTHS)
    wanted, wanted_carries = stack(inputs, lengths=lengths)
    valid = jnp.arange(4)[None, :, None] < lengths[:, None, None]
    got, carries = stack(jnp.where(valid, inputs, jnp.nan), lengths=lengths)
    np.testing.assert_array_equal(got, wanted)
    assert jax.tree.all(jax.tree.map(lambda x, y: bool(jnp.all(x == y)), carries, wanted_carries))
    alone, _ = stack(inputs[1:2, :2], lengths=lengths[1:2])
    np.testing.assert_allclose(alone, wanted[1:2, :2], atol=1e-6)
    np.testing.assert_array_equal(wanted[2], 0.0)


def test_dropout_acts_between_layers_and_follows_the_key():
    inputs, key = _inputs(), jax.random.key(1)
    one_layer = _stack(num_layers=1, dropout_rate=0.5)
    np.testing.assert_array_equal(one_layer(inputs, rng_key=key)[0], one_layer(inputs)[0])
    two_layers = _stack(dropout_rate=0.5)
    dropped = two_layers(inputs, rng_key=key)[0]
    np.testing.assert_array_equal(dropped, two_layers(inputs, rng_key=key)[0])
    assert float(jnp.max(jnp.abs(dropped - two_layers(inputs)[0]))) > 1e-3
    step_carries, _ = two_layers.step(two_layers.initial_carry(3), inputs[:, 0], rng_key=key)
    plain_carries, _ = two_layers.step(two_layers.initial_carry(3), inputs[:, 0])
    np.testing.assert_array_equal(step_carries[0], plain_carries[0])
    assert float(jnp.max(jnp.abs(step_carries[1] - plain_carries[1]))) > 1e-3


def test_initial_parameters():
    cell = RecurrentCell("lstm", 3, 5, rngs=nnx.Rngs(0))
    assert cell.bias[...].reshape(4, 5).tolist() == [[0.0] * 5, [1.0] * 5, [0.0] * 5, [0.0] * 5]
    for block in np.split(np.asarray(cell.recurrent_weight[...]), 4, axis=1):
        np.testing.assert_allclose(block @ block.T, np.eye(5), atol=1e-5)
    assert float(jnp.max(jnp.abs(cell.input_weight[...]))) <= np.sqrt(6 / 8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [(1, 1), (2, 2), (1, 2), (2, 1)])
def test_bridge_maps_both_directions(kind, layers):
    num_encoder_layers, num_decoder_layers = layers
    bridge = CarryBridge(kind, 4, 3, *layers, bidirectional=True, rngs=nnx.Rngs(0))
    keys = iter(jax.random.split(jax.random.key(0), 8))
    halves = 2 if kind == "lstm" else 1

    def carry():
        parts = tuple(jax.random.normal(next(keys), (2, 2)) for _ in range(halves))
        return parts if kind == "lstm" else parts[0]

    carries = tuple((carry(), carry()) for _ in range(num_encoder_layers))
    got = bridge(carries)
    assert len(got) == num_decoder_layers
    for layer, new in enumerate(got):
        forward, backward = carries[layer if num_encoder_layers == num_decoder_layers else -1]
        for half, leaf in enumerate(jax.tree.leaves(new)):
            both = np.concatenate([jax.tree.leaves(forward)[half], jax.tree.leaves(backward)[half]], axis=1)
            linear = bridge.maps[layer * halves + half]
            np.testing.assert_allclose(
                leaf, np.tanh(both @ np.asarray(linear.kernel[...]) + np.asarray(linear.bias[...])), atol=1e-6
            )


def test_errors_name_the_argument():
    with pytest.raises(ConfigError, match="num_layers must be at least 1; got 0"):
        _stack(num_layers=0)
    with pytest.raises(ConfigError, match=r"dropout_rate must be in \[0, 1\)"):
        _stack(dropout_rate=1.0)
    stack = _stack(bidirectional=True)
    with pytest.raises(ShapeError, match="bidirectional"):
        stack.step(stack.initial_carry(2), jnp.zeros((2, 3)))
