"""cuDNN's LSTM where no GPU is: the layout of its weights, and the adaptor over JAX's own reference of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import rnn

from transformer_jax.errors import ShapeError
from transformer_jax.functional.recurrent import (
    GRUCell,
    LSTMCell,
    lstm_cell_from_cudnn,
    lstm_weights_for_cudnn,
    recurrence,
)
from transformer_jax.functional.recurrent import cudnn_recurrence as cudnn
from transformer_jax.functional.recurrent.cudnn_recurrence import lstm_by, refusals
from transformer_jax.testing.recurrence_suite import assert_close

FEATURES, HIDDEN = 3, 5


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def lstm_cell():
    return LSTMCell(draw(FEATURES, 4 * HIDDEN), draw(HIDDEN, 4 * HIDDEN, seed=1), draw(4 * HIDDEN, seed=2))


def on_the_cpu(
    inputs, hidden, memory, weights, lengths, features, hidden_dim, layers, dropout, bidirectional
):
    """JAX's reference of cuDNN's LSTM, called like the thing itself; like it, it freezes past the length."""
    unpacked = rnn.unpack_lstm_weights(weights, features, hidden_dim, layers, bidirectional)
    return rnn.lstm_ref(
        inputs, hidden, memory, *unpacked, lengths, features, hidden_dim, layers, dropout, bidirectional
    )


def test_the_layout_is_cudnns():
    cell = lstm_cell()
    weights = lstm_weights_for_cudnn(cell)
    assert weights.shape == (rnn.get_num_params_in_lstm(FEATURES, HIDDEN, 1, False),)
    back = lstm_cell_from_cudnn(weights, FEATURES, HIDDEN)
    jax.tree.map(np.testing.assert_array_equal, back, cell)


def test_the_second_bias_is_added():
    weights = lstm_weights_for_cudnn(lstm_cell()).at[-4 * HIDDEN :].set(1.0)
    np.testing.assert_allclose(lstm_cell_from_cudnn(weights, FEATURES, HIDDEN).bias, lstm_cell().bias + 1.0)


def test_weights_of_another_size_are_refused():
    with pytest.raises(ShapeError, match=r"\(200,\)"):
        lstm_cell_from_cudnn(jnp.zeros(7), FEATURES, HIDDEN)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [None, (6, 0, 2, 1)])
def test_the_adaptor_gives_what_the_scan_gives(lengths, reverse):
    cell, inputs = lstm_cell(), draw(4, 6, FEATURES, seed=3)
    carry = (draw(4, HIDDEN, seed=4), draw(4, HIDDEN, seed=5))
    valid, options = None, {}
    if lengths is not None:
        options["lengths"] = jnp.array(lengths)
        valid = jnp.arange(6)[:, None] < options["lengths"][None]
        inputs = jnp.where(valid.T[..., None], inputs, 0.0)
    outputs, final = lstm_by(on_the_cpu, cell, inputs.swapaxes(0, 1), carry, valid, reverse=reverse)
    expected = recurrence(cell, inputs, initial_carry=carry, reverse=reverse, **options)
    assert_close((outputs.swapaxes(0, 1), final), expected, 1e-5)


def test_every_reason_to_refuse_is_given():
    gru = GRUCell(draw(3, 15), draw(5, 15), draw(15), draw(5))
    reasons = "; ".join(refusals(gru, draw(2, 1, 3), jnp.zeros((2, 1), bool)))
    assert "GRUCell" in reasons
    assert "segments" in reasons
    assert "float32" in "; ".join(refusals(lstm_cell(), draw(2, 1, 3).astype(jnp.bfloat16), None))
    carry = (draw(1, HIDDEN), draw(1, HIDDEN).astype(jnp.bfloat16))
    assert "a carry in bfloat16" in "; ".join(refusals(lstm_cell(), draw(2, 1, 3), None, carry))
    assert "a carry" not in "; ".join(refusals(lstm_cell(), draw(2, 1, 3), None, carry[:1]))


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="it runs here")
def test_without_a_gpu_it_is_refused():
    with pytest.raises(NotImplementedError, match="NVIDIA GPU"):
        recurrence(lstm_cell(), draw(1, 2, FEATURES), implementation="cudnn")


@pytest.fixture
def emulated_cudnn(monkeypatch):
    """Forward and backward pass of JAX's wrapper of cuDNN's, by its reference."""

    def forward(*arguments):
        *arrays, features, hidden_dim, layers, dropout, bidirectional, precision = arguments
        del precision
        sizes = (features, hidden_dim, layers, dropout, bidirectional)
        outputs, reserved = on_the_cpu(*arrays, *sizes), jnp.zeros(7)
        return outputs, (*arrays, outputs[0], reserved)

    @jax.custom_vjp
    def never_differentiated(arrays):
        return arrays

    def backward(*arguments):
        *sizes, _, saved, gradients = arguments
        *arrays, lengths, _, reserved = saved
        assert reserved.shape == (7,)
        _, pull_back = jax.vjp(lambda *free: on_the_cpu(*free, lengths, *sizes), *arrays)
        return *never_differentiated(pull_back(gradients)), jnp.zeros_like(lengths)

    def fails(*_):
        raise AssertionError("cuDNN's backward pass has no derivative")

    never_differentiated.defvjp(fails, fails)
    monkeypatch.setattr(rnn, "lstm_fwd", forward)
    monkeypatch.setattr(rnn, "lstm_bwd", backward)
    monkeypatch.setattr(cudnn, "refusals", lambda *_: [])


@pytest.mark.usefixtures("emulated_cudnn")
def test_vmap_runs_one_call_after_the_other():
    """Values and gradients are those of a loop; cuDNN's own primitives have no rule for vmap."""
    cells = [LSTMCell(*(draw(*size, seed=seed) for size in ((2, 12), (3, 12), (12,)))) for seed in (1, 2)]
    inputs, lengths = draw(2, 2, 3, 2, seed=3), jnp.array([[3, 1], [2, 0]])

    def loss(cell, inputs, lengths):
        outputs, carry = recurrence(cell, inputs, lengths=lengths, implementation="cudnn")
        return (outputs**2).sum() + carry[0].sum(), outputs

    run = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *cells)

    @jax.jit
    def both(stacked, cells, inputs, lengths):
        one_by_one = [run(*each) for each in zip(cells, inputs, lengths)]
        return jax.vmap(run)(stacked, inputs, lengths), jax.tree.map(lambda *x: jnp.stack(x), *one_by_one)

    assert_close(*both(stacked, cells, inputs, lengths), 1e-6)


@pytest.mark.usefixtures("emulated_cudnn")
def test_it_has_derivatives_of_every_order_and_mode():
    """Beyond the first ones by the plain loop: what None can differentiate must not depend on what it takes."""
    cell, inputs, lengths = lstm_cell(), draw(2, 3, FEATURES, seed=3), jnp.array([3, 2])

    def derivatives(implementation):
        def loss(cell, inputs):
            outputs, carry = recurrence(cell, inputs, lengths=lengths, implementation=implementation)
            return (outputs**2).sum() + (carry[1] ** 2).sum()

        gradient = jax.grad(loss, argnums=(0, 1))
        along = jax.jvp(loss, (cell, inputs), (cell, inputs))[1]
        penalty = jax.grad(lambda inputs: (gradient(cell, inputs)[1] ** 2).sum())(inputs)
        return gradient(cell, inputs), along, penalty

    got, wanted = jax.jit(lambda: (derivatives("cudnn"), derivatives("reference")))()
    assert_close(got, wanted, 1e-4)
