"""Newton's method over all time steps: equal to the scan, iterations and fallbacks reported."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiers import tiered

from transformer_jax.errors import ConfigError
from transformer_jax.functional.recurrent import MinGRUCell, parallel_recurrence, recurrence
from transformer_jax.nn.recurrent import RecurrentCell
from transformer_jax.testing.recurrence_suite import assert_close


def as_initialised(kind, hidden_dim, seed=0):
    return RecurrentCell(kind, hidden_dim, hidden_dim, rngs=nnx.Rngs(seed)).cell()


def draw(*shape, seed=1):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize(
    ("kind", "jacobian", "most"),
    tiered(
        [("gru", "diagonal", 25), ("lstm", "diagonal", 30), ("gru", "full", 8), ("lstm", "full", 8)],
        {("gru", "full", 8), ("lstm", "diagonal", 30)},
    ),
)
def test_cells_as_initialised_converge_in_every_row(kind, jacobian, most):
    hidden_dim = 16 if jacobian == "full" else 48
    cell, inputs = as_initialised(kind, hidden_dim), draw(3, 512, hidden_dim)
    outputs, carry, report = jax.jit(lambda x: parallel_recurrence(cell, x, jacobian=jacobian))(inputs)
    assert report.converged.all()
    assert 2 <= int(report.iterations) <= most
    assert (report.residual <= 1e-6).all()
    assert_close((outputs, carry), recurrence(cell, inputs), 1e-5)


@pytest.mark.parametrize(
    ("jacobian", "kind"),
    tiered(
        itertools.product(("diagonal", "full"), ("rnn", "gru", "lstm")),
        {("diagonal", "gru"), ("diagonal", "lstm"), ("full", "rnn")},
    ),
)
def test_gradients_equal_those_of_the_scan(kind, jacobian):
    cell, inputs = as_initialised(kind, 6), draw(2, 40, 6)
    options = {
        "lengths": jnp.array([40, 23]),
        "segments": jnp.asarray(np.repeat([[0, 1], [5, 5]], 20, axis=1)),
        "reverse": True,
    }

    def loss(run):
        def of(cell, inputs):
            outputs, carry = run(cell, inputs)
            return jnp.sin(outputs).sum() + sum((leaf**2).sum() for leaf in jax.tree.leaves(carry))

        return jax.jit(jax.grad(of, (0, 1)))(cell, inputs)

    have = loss(lambda cell, x: parallel_recurrence(cell, x, jacobian=jacobian, **options)[:2])
    assert_close(have, loss(lambda cell, x: recurrence(cell, x, **options)), 1e-5)


def chaotic(hidden_dim=12):
    """A tanh cell of large weights, whose states part for the least difference."""
    cell = as_initialised("rnn", hidden_dim)
    return jax.tree.map(lambda leaf: 4.0 * leaf, cell)


@pytest.mark.parametrize("kind", ["lstm", pytest.param("gru", marks=pytest.mark.full)])
def test_derivatives_of_every_mode_and_order_are_the_scans(kind):
    cell, inputs = as_initialised(kind, 3), draw(2, 5, 3)

    def loss(implementation):
        def run(cell, inputs):
            lengths = jnp.array([5, 3])
            return (recurrence(cell, inputs, lengths=lengths, implementation=implementation)[0] ** 2).sum()

        return run

    def derivatives(implementation):
        run = loss(implementation)

        def slope(cell, inputs):
            return jax.grad(run, (0, 1))(cell, inputs)

        def squared(cell, inputs):
            return sum((leaf**2).sum() for leaf in jax.tree.leaves(slope(cell, inputs)))

        direction = (cell, inputs)
        return jax.jit(
            lambda: (
                jax.jvp(run, (cell, inputs), direction),
                jax.jvp(slope, (cell, inputs), direction)[1],
                jax.grad(squared, (0, 1))(cell, inputs),
                jax.grad(lambda *at: jax.jvp(run, at, direction)[1], (0, 1))(cell, inputs),
            )
        )()

    assert_close(derivatives("parallel"), derivatives("reference"), 1e-4)


def test_rows_that_do_not_converge_are_the_scans_and_said_so():
    # The first row has no inputs, and so nothing to converge to but zeros.
    cell, inputs = chaotic(), draw(2, 64, 12).at[0].set(0.0)

    def run(cell, inputs):
        return parallel_recurrence(cell, inputs, max_iterations=3)

    outputs, carry, report = jax.jit(run)(cell, inputs)
    assert report.converged.tolist() == [True, False]
    assert int(report.iterations) == 3
    assert float(report.residual[1]) > 1e-3
    expected = recurrence(cell, inputs)
    assert_close((outputs, carry), expected, 1e-6)

    def slope(run):
        return jax.jit(jax.grad(lambda cell, x: (run(cell, x)[0] ** 2).sum(), (0, 1)))(cell, inputs)

    assert_close(slope(run), slope(recurrence), 1e-5)


def test_a_tolerance_that_cannot_be_met_falls_back():
    cell, inputs = as_initialised("lstm", 8), draw(2, 16, 8)
    outputs, carry, report = parallel_recurrence(cell, inputs, tolerance=0.0, max_iterations=2)
    assert not report.converged.any()
    assert_close((outputs, carry), recurrence(cell, inputs), 1e-6)


def test_a_chaotic_cell_is_right_after_as_many_iterations_as_steps():
    cell, inputs = chaotic(), draw(2, 24, 12)
    outputs, _, report = parallel_recurrence(cell, inputs)
    assert int(report.iterations) <= 25
    assert report.converged.all()
    assert_close(outputs, recurrence(cell, inputs)[0], 1e-4)


def test_not_a_number_in_the_inputs_stays_in_its_row():
    cell = as_initialised("gru", 5)
    inputs = draw(2, 12, 5).at[0, 7].set(jnp.nan)
    outputs, _, report = parallel_recurrence(cell, inputs)
    assert report.converged.tolist() == [False, True]
    assert jnp.isfinite(outputs[0, :7]).all()
    assert jnp.isnan(outputs[0, 7:]).all()
    assert_close(outputs[1], recurrence(cell, inputs)[0][1], 1e-5)


@pytest.mark.parametrize("options", [{"tolerance": -1.0}, {"tolerance": float("nan")}, {"max_iterations": 0}])
def test_bad_options_are_named(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        parallel_recurrence(as_initialised("gru", 3), draw(1, 4, 3), **options)


def test_a_linear_cell_needs_no_newton():
    cell = MinGRUCell(jnp.zeros((3, 4)), jnp.zeros(4))
    with pytest.raises(NotImplementedError, match="MinGRUCell"):
        parallel_recurrence(cell, draw(1, 4, 3))
