"""Linear recurrences: both methods, the form in logarithms, and lengths at which products vanish."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.recurrent import (
    DiagonalCell,
    MinGRUCell,
    MinLSTMCell,
    linear_recurrence,
    linear_recurrence_in_logs,
    recurrence,
)

TIME, BATCH, HIDDEN = 33, 2, 3


@pytest.fixture
def parts(random_generator):
    """Decays in (0, 1), addends, a start, and weights of the states in a loss."""
    draw = random_generator.normal
    decay = 1.0 / (1.0 + np.exp(-draw(size=(TIME, BATCH, HIDDEN))))
    return (
        decay,
        draw(size=(TIME, BATCH, HIDDEN)),
        draw(size=(BATCH, HIDDEN)),
        draw(size=(TIME, BATCH, HIDDEN)),
    )


def loop(decay, addend, state, reverse):
    states = np.zeros_like(addend)
    for at in reversed(range(len(decay))) if reverse else range(len(decay)):
        state = states[at] = decay[at] * state + addend[at]
    return states


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("method", ["sequential", "associative"])
def test_states_and_gradients_are_those_of_the_loop(parts, method, reverse):
    decay, addend, initial, weights = parts
    expected = loop(decay, addend, initial, reverse)
    arrays = [jnp.asarray(array, jnp.float32) for array in (decay, addend, initial)]
    found = linear_recurrence(*arrays, method=method, reverse=reverse)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())

    def loss(*arrays):
        return (linear_recurrence(*arrays, method=method, reverse=reverse) * weights).sum()

    gradients = [np.asarray(gradient) for gradient in jax.jit(jax.grad(loss, (0, 1, 2)))(*arrays)]
    step = 1e-6
    for place, gradient in enumerate(gradients):
        changed = [decay, addend, initial]
        for index in [(0,) * gradient.ndim, (1,) * gradient.ndim, (-1,) * gradient.ndim]:
            values = []
            for sign in (1, -1):
                changed[place] = [decay, addend, initial][place].copy()
                changed[place][index] += sign * step
                values.append((loop(*changed, reverse) * weights).sum())
            wanted = (values[0] - values[1]) / (2 * step)
            np.testing.assert_allclose(gradient[index], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["sequential", "associative"])
def test_second_derivatives(parts, method):
    decay, addend, initial = (jnp.asarray(array, jnp.float32) for array in parts[:3])

    def slope(scale, method):
        def loss(addend):
            return (linear_recurrence(decay * scale, addend * scale, initial, method=method) ** 2).sum()

        return (jax.grad(loss)(addend) ** 2).sum()

    def plain(scale):
        def loss(addend):
            def body(state, at_time):
                state = at_time[0] * state + at_time[1]
                return state, state

            return (jax.lax.scan(body, initial, (decay * scale, addend * scale))[1] ** 2).sum()

        return (jax.grad(loss)(addend) ** 2).sum()

    found = jax.jit(jax.grad(slope), static_argnums=1)(0.9, method)
    np.testing.assert_allclose(found, jax.jit(jax.grad(plain))(0.9), rtol=1e-4)


def test_long_sequences_neither_overflow_nor_lose_the_start():
    decay = jnp.full((5000, 1, 1), 0.999)
    states = [
        linear_recurrence(decay, 0 * decay, jnp.ones((1, 1)), method=method)
        for method in ("sequential", "associative")
    ]
    np.testing.assert_allclose(states[1], states[0], rtol=1e-3)
    np.testing.assert_allclose(states[1][-1, 0, 0], 0.999**5000, rtol=1e-3)


@pytest.mark.parametrize("kind", [MinGRUCell, MinLSTMCell])
def test_the_form_in_logarithms_is_the_same(random_generator, kind):
    gates = kind.num_gates * HIDDEN

    def draw(*shape):
        return jnp.asarray(random_generator.normal(size=shape), jnp.float32)

    cell, inputs = kind(draw(4, gates), draw(gates)), draw(BATCH, TIME, 4)
    initial = jnp.abs(draw(BATCH, HIDDEN))
    expected, _ = recurrence(cell, inputs, initial_carry=initial)
    logs = cell.log_coefficients(cell.project(inputs.swapaxes(0, 1)))
    states = jnp.exp(linear_recurrence_in_logs(*logs, jnp.log(initial)))
    np.testing.assert_allclose(states.swapaxes(0, 1), expected, atol=1e-5 * float(jnp.abs(expected).max()))


def test_logarithms_keep_what_float32_products_lose():
    """Forty decays of 1e-5: their product is 1e-200, and the ratio of two states survives in logarithms."""
    log_decay = jnp.full((40, 1, 2), -5 * np.log(10.0))
    logs = linear_recurrence_in_logs(
        log_decay, jnp.full((40, 1, 2), -jnp.inf), jnp.log(jnp.array([[1.0, 3.0]]))
    )
    np.testing.assert_allclose(logs[-1, 0, 1] - logs[-1, 0, 0], np.log(3.0), rtol=1e-3)
    assert np.isfinite(logs).all()


def test_no_steps_at_all():
    empty = jnp.zeros((0, 2, 3))
    for method in ("sequential", "associative"):
        assert linear_recurrence(empty, empty, jnp.ones((2, 3)), method=method).shape == (0, 2, 3)


def test_what_does_not_fit_is_refused():
    ones = jnp.ones((2, 1, 1))
    with pytest.raises(ConfigError, match="did you mean 'associative'"):
        inspect.unwrap(linear_recurrence)(
            ones, ones, ones[0], method="asociative"
        )  # past the tests' own checks
    for make, name in [
        (lambda: MinGRUCell(jnp.ones((3, 4)), jnp.ones(5)), "bias|input_weight"),
        (lambda: MinLSTMCell(jnp.ones((3, 9)), jnp.ones(6)), "input_weight"),
        (lambda: DiagonalCell(jnp.ones((3, 2)), jnp.ones(2), jnp.ones(3)), "decay"),
    ]:
        with pytest.raises((ShapeError, TypeError), match=name):
            make()
