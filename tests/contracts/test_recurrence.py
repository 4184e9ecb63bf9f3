"""Every implementation of the recurrence keeps the contract, for every cell."""

import functools
import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.recurrent import IMPLEMENTATIONS, GRUCell, LSTMCell, RNNCell, recurrence
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.testing.recurrence_oracle import random_parameters
from transformer_jax.testing.recurrence_suite import CELL_KINDS, CHECKS, assert_close, make_cell

# The support matrix of the recurrence: which implementation runs which cell. A refusal is no way to pass.
LINEAR = ("min_gru", "min_lstm", "diagonal")
SUPPORT = {
    "scan": {**dict.fromkeys(CELL_KINDS, True), "custom": False},
    "associative": {**{kind: kind in LINEAR for kind in CELL_KINDS}, "custom": False},
    "reference": {**dict.fromkeys(CELL_KINDS, True), "custom": True},
    "parallel": {**{kind: kind not in LINEAR for kind in CELL_KINDS}, "custom": False},
    "cudnn": {**dict.fromkeys(CELL_KINDS, False), "custom": False},  # the LSTM, on a GPU alone
    "native_cpu": {**dict.fromkeys(CELL_KINDS, False), "custom": False},  # the LSTM: see the test below
}
# Each cell by the scan; of the other implementations a carry of one part and of two, linear cells and others.
FIRST = {
    *(("scan", kind) for kind in CELL_KINDS),
    *(("associative", kind) for kind in ("min_lstm", "diagonal")),
    *(("reference", kind) for kind in ("lstm", "min_gru")),
    *(("parallel", kind) for kind in ("lstm", "rnn_relu")),
}


def _marks(name, kind):
    if (name, kind) == ("scan", "gru"):
        return [pytest.mark.smoke]
    return [] if (name, kind) in FIRST else [pytest.mark.full]


SERVED = [
    pytest.param(name, kind, marks=_marks(name, kind))
    for name, row in SUPPORT.items()
    for kind in CELL_KINDS
    if row[kind]
]


@pytree_dataclass
class DecayCell:
    """A cell that the library does not know: h' = h / 2 + x."""

    unit: jax.Array

    @property
    def hidden_dim(self) -> int:
        return 1

    def project(self, inputs):
        return inputs * self.unit

    def step(self, carry, projected):
        state = 0.5 * carry + projected
        return state, state

    def initial_carry(self, batch):
        return jnp.zeros((batch, 1), jnp.float32)


@functools.cache  # one function for all checks, so that they share its programs
def with_implementation(name):
    """``recurrence`` with the name bound, unwrappable so that the suite can reach its own errors."""
    bound = partial(recurrence, implementation=name)

    def run(*arguments, **options):
        return bound(*arguments, **options)

    run.__wrapped__ = partial(inspect.unwrap(recurrence), implementation=name)
    return run


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(("implementation", "kind"), SERVED)
def test_contract(implementation, kind, check):
    CHECKS[check](with_implementation(implementation), kind)


@pytest.mark.parametrize("check", sorted(set(CHECKS) - {"dtypes"}))  # it computes in float32 alone
@pytest.mark.parametrize("variant", ["avx512", "avx2", "plain"])
def test_native_contract(native_library, variant, check):
    if not native_library.use_variant(variant):
        pytest.skip("this processor does not have it")
    CHECKS[check](with_implementation("native_cpu"), "lstm")


def test_native_refuses_other_dtypes_and_is_chosen_where_it_can(native_library):
    cell = make_cell("lstm", random_parameters("lstm", np.random.default_rng(0), features=2, hidden_dim=3))
    inputs = jnp.ones((4, 3, 2))
    with pytest.raises(NotImplementedError, match="float32 alone, not with bfloat16"):
        recurrence(cell, inputs.astype(jnp.bfloat16), implementation="native_cpu")
    target = native_library.target("lstm_forward")
    assert target in jax.jit(lambda inputs: recurrence(cell, inputs)[0]).lower(inputs).as_text()
    for others in (inputs.astype(jnp.bfloat16), inputs[:1]):  # another dtype, a single row
        assert target not in jax.jit(lambda inputs: recurrence(cell, inputs)[0]).lower(others).as_text()


def test_native_bits_of_a_row_do_not_depend_on_the_batch(native_library):
    generator = np.random.default_rng(0)
    cell = make_cell("lstm", random_parameters("lstm", generator, features=5, hidden_dim=37))
    inputs = jnp.asarray(generator.normal(size=(29, 11, 5)), jnp.float32)
    lengths = jnp.asarray(generator.integers(0, 12, 29))
    run = jax.jit(partial(recurrence, implementation="native_cpu"))
    together, _ = run(cell, inputs, lengths=lengths)
    for first, last in ((0, 1), (3, 10), (10, 29)):
        part, _ = run(cell, inputs[first:last], lengths=lengths[first:last])
        np.testing.assert_array_equal(part, together[first:last])


def test_support_matrix_is_complete():
    assert set(SUPPORT) == set(IMPLEMENTATIONS)
    for row in SUPPORT.values():
        assert set(row) == {*CELL_KINDS, "custom"}


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_associative_refuses_what_is_not_linear(kind):
    parameters = random_parameters(kind, np.random.default_rng(0), features=2, hidden_dim=3)
    with pytest.raises(NotImplementedError, match="not linear"):
        recurrence(make_cell(kind, parameters), jnp.ones((1, 3, 2)), implementation="associative")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_unknown_cells_are_refused_or_done(implementation):
    inputs = jnp.ones((1, 3, 1))
    cell = DecayCell(jnp.ones((1, 1, 1)))
    if not SUPPORT[implementation]["custom"]:
        with pytest.raises(NotImplementedError, match="DecayCell"):
            recurrence(cell, inputs, implementation=implementation)
    else:
        outputs, carry = recurrence(cell, inputs, implementation=implementation)
        np.testing.assert_allclose(outputs[0, :, 0], [1.0, 1.5, 1.75])
        np.testing.assert_allclose(carry, [[1.75]])


def test_default_takes_the_next_implementation_for_an_unknown_cell():
    outputs, _ = recurrence(DecayCell(jnp.ones((1, 1, 1))), jnp.ones((1, 3, 1)))
    np.testing.assert_allclose(outputs[0, :, 0], [1.0, 1.5, 1.75])


def test_default_never_drops_the_backward_pass_of_scan():
    cell = RNNCell(jnp.ones((1, 1)), jnp.ones((1, 1)), jnp.zeros(1))
    jaxpr = str(jax.make_jaxpr(lambda x: recurrence(cell, x)[0])(jnp.ones((1, 3, 1))))
    assert "custom_vjp" in jaxpr


def test_unknown_implementation_names_the_nearest():
    cell = RNNCell(jnp.ones((1, 1)), jnp.ones((1, 1)), jnp.zeros(1))
    with pytest.raises(ConfigError, match="did you mean 'scan'"):
        recurrence(cell, jnp.ones((1, 1, 1)), implementation="scam")
    with pytest.raises(ConfigError, match="unroll"):
        recurrence(cell, jnp.ones((1, 1, 1)), unroll=0)


@pytest.mark.parametrize(("kind", "num_gates"), [(RNNCell, 1), (LSTMCell, 4), (GRUCell, 3)])
def test_cells_refuse_parameters_that_do_not_fit(kind, num_gates):
    hidden, wrong = 2, 3 * num_gates
    more = {"recurrent_bias": jnp.zeros(hidden)} if kind is GRUCell else {}
    good = {
        "input_weight": jnp.zeros((3, hidden * num_gates)),
        "recurrent_weight": jnp.zeros((hidden, hidden * num_gates)),
        "bias": jnp.zeros(hidden * num_gates),
        **more,
    }
    kind(**good)
    bad = {"input_weight": jnp.zeros((3, wrong)), "bias": jnp.zeros(wrong)}
    bad |= {name: jnp.zeros(3) for name in more}
    for name, array in bad.items():
        # The dataclass is made by hand, past the run-time shape checks of the tests.
        node = object.__new__(kind)
        for field, value in {**good, name: array, "activation": "tanh"}.items():
            object.__setattr__(node, field, value)
        with pytest.raises(ShapeError, match=f"^{name}"):
            inspect.unwrap(kind.__post_init__)(node)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_second_derivatives_of_scan_equal_those_of_reference(kind):
    generator = np.random.default_rng(3)

    def draw(*shape):
        return jnp.asarray(generator.normal(size=shape), jnp.float32)

    if kind == "lstm":
        cell = LSTMCell(draw(2, 12), draw(3, 12), draw(12))
    else:
        cell = GRUCell(draw(2, 9), draw(3, 9), draw(9), draw(3))
    inputs, lengths = draw(2, 4, 2), jnp.array([4, 2])

    def slope(weight, implementation):
        def loss(inputs):
            outputs, _ = recurrence(cell, inputs * weight, lengths=lengths, implementation=implementation)
            return (outputs**2).sum()

        return (jax.grad(loss)(inputs) ** 2).sum()

    curvature = jax.jit(jax.grad(slope), static_argnums=1)
    assert_close(curvature(jnp.float32(1.5), "scan"), curvature(jnp.float32(1.5), "reference"), 1e-4)


@pytest.mark.parametrize("reverse", [False, True])
def test_many_rows_are_as_few(reverse):
    """From eight rows on a GRU's steps multiply their own inputs on a CPU; the suite's cases have fewer rows."""
    keys = jax.random.split(jax.random.key(0), 8)
    cell = GRUCell(
        input_weight=jax.random.normal(keys[0], (3, 12)), recurrent_weight=jax.random.normal(keys[1], (4, 12)),
        bias=jax.random.normal(keys[2], (12,)), recurrent_bias=jax.random.normal(keys[3], (4,)),
    )  # fmt: skip
    inputs, weights = jax.random.normal(keys[4], (9, 5, 3)), jax.random.normal(keys[5], (9, 5, 4))
    lengths = jnp.array([5, 0, 3, 1, 5, 2, 4, 5, 1])

    def loss(cell, inputs, implementation):
        outputs, carry = recurrence(
            cell, inputs, lengths=lengths, reverse=reverse, implementation=implementation
        )
        return (outputs * weights).sum() + (carry**2).sum()

    differentiated = jax.jit(jax.value_and_grad(loss, (0, 1)), static_argnums=2)
    have, want = (differentiated(cell, inputs, implementation) for implementation in ("scan", "reference"))
    assert_close(have, want, 1e-5)
