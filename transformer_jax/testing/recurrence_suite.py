"""The contract of a recurrence, as checks that any implementation can be put through.

Each check takes ``run``, called like :func:`transformer_jax.functional.recurrent.recurrence` without its
``implementation``, and a kind of cell from ``CELL_KINDS``; it raises ``AssertionError`` where the contract is
broken.

Example:
  >>> from transformer_jax.functional.recurrent import recurrence
  >>> for check in CHECKS.values():
  ...   check(recurrence, "gru")
"""

import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.errors import ShapeError
from transformer_jax.functional.recurrent import (
    Cell,
    DiagonalCell,
    GRUCell,
    LSTMCell,
    MinGRUCell,
    MinLSTMCell,
    RNNCell,
    step_once,
)
from transformer_jax.testing import recurrence_oracle as oracle
from transformer_jax.testing.recurrence_oracle import CELL_KINDS

__all__ = ["CELL_KINDS", "CHECKS", "Run", "assert_close", "make_cell"]

Run = Callable[..., tuple[jax.Array, Any]]
BATCH, TIME, FEATURES, HIDDEN = 4, 5, 3, 4
LENGTHS = np.array([5, 0, 3, 1], np.int32)
SEGMENTS = np.array([[1, 1, 2, 2, 2], [1, 1, 1, 1, 1], [4, 7, 7, 0, 0], [3, 3, 3, 2, 2]], np.int32)


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-5, what: str = "") -> None:
    """Every leaf within ``tolerance * max|expected|`` (at least ``tolerance`` where all is tiny)."""
    actual_leaves, expected_leaves = jax.tree.leaves(actual), jax.tree.leaves(expected)
    assert len(actual_leaves) == len(expected_leaves), what
    for have, want in zip(actual_leaves, expected_leaves, strict=True):
        have, want = np.asarray(have, np.float64), np.asarray(want, np.float64)
        assert have.shape == want.shape, f"{what}: shape {have.shape}, expected {want.shape}"
        assert np.isfinite(have).all(), f"{what}: not finite"
        error = np.abs(have - want).max(initial=0.0)
        bound = tolerance * max(np.abs(want).max(initial=0.0), 1e-2)
        assert error <= bound, f"{what}: error {error:.3g} over {bound:.3g}"


def make_cell(kind: str, parameters: oracle.Parameters) -> Cell:
    """The library's cell with the oracle's parameters, in float32."""
    arrays = {name: jnp.asarray(value, jnp.float32) for name, value in parameters.items()}
    named: dict[str, type] = {
        "lstm": LSTMCell,
        "gru": GRUCell,
        "min_gru": MinGRUCell,
        "min_lstm": MinLSTMCell,
        "diagonal": DiagonalCell,
    }
    if kind in named:
        return named[kind](**arrays)
    return RNNCell(**arrays, activation="relu" if kind == "rnn_relu" else "tanh")


class _Case:
    """Random float64 arrays of one kind of cell, and the same in float32 for the library."""

    def __init__(self, kind: str, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self.kind = kind
        self.parameters = oracle.random_parameters(kind, generator, features=FEATURES, hidden_dim=HIDDEN)
        self.inputs = generator.normal(size=(BATCH, TIME, FEATURES))
        size = oracle.CARRY_SIZE[kind]
        self.carry = tuple(generator.normal(size=(BATCH, HIDDEN)) for _ in range(size))
        self.output_weights = generator.normal(size=(BATCH, TIME, HIDDEN))
        self.carry_weights = tuple(generator.normal(size=(BATCH, HIDDEN)) for _ in range(size))

    def cell(self) -> Cell:
        return make_cell(self.kind, self.parameters)

    def as_carry(self, parts: tuple[np.ndarray, ...] | None) -> Any:
        if parts is None:
            return None
        arrays = tuple(jnp.asarray(part, jnp.float32) for part in parts)
        return arrays if self.kind == "lstm" else arrays[0]

    def loss(self, outputs: Any, carry: Any) -> Any:
        parts = carry if isinstance(carry, tuple) else (carry,)
        total = (outputs * self.output_weights.astype(outputs.dtype)).sum()
        return total + sum(
            (p * w.astype(p.dtype)).sum() for p, w in zip(parts, self.carry_weights, strict=True)
        )


def _variants(case: _Case) -> Iterator[dict[str, Any]]:
    """All combinations of lengths, direction and initial carry."""
    for lengths, reverse, carry in itertools.product((None, LENGTHS), (False, True), (None, case.carry)):
        yield {"lengths": lengths, "reverse": reverse, "initial_carry": carry}


def _run(run: Run, case: _Case, variant: dict[str, Any], **more: Any) -> tuple[jax.Array, Any]:
    lengths = None if variant["lengths"] is None else jnp.asarray(variant["lengths"])
    arguments = {**variant, "lengths": lengths, "initial_carry": case.as_carry(variant["initial_carry"])}
    return run(case.cell(), jnp.asarray(case.inputs, jnp.float32), **{**arguments, **more})


def check_values(run: Run, kind: str) -> None:
    """Outputs and last carry equal the float64 loops, for every mixture of lengths, direction and carry."""
    case = _Case(kind)
    for variant in _variants(case):
        expected = oracle.run(kind, case.parameters, case.inputs, **variant)
        assert_close(_run(run, case, variant), expected, 1e-5, f"{kind} {variant}")


def check_gradients(run: Run, kind: str) -> None:
    """Gradients by parameters, inputs and initial carry equal central differences of the float64 loops."""
    case = _Case(kind)
    names = sorted(case.parameters)
    for lengths, reverse in itertools.product((None, LENGTHS), (False, True)):

        def reference(arrays: dict, lengths: Any = lengths, reverse: bool = reverse) -> float:
            carry = tuple(arrays[f"carry{k}"] for k in range(len(case.carry)))
            options = {"lengths": lengths, "reverse": reverse, "initial_carry": carry}
            return case.loss(*oracle.run(kind, arrays, arrays["inputs"], **options))

        def ours(
            cell: Cell, inputs: jax.Array, carry: Any, lengths: Any = lengths, reverse: bool = reverse
        ) -> jax.Array:
            lengths = None if lengths is None else jnp.asarray(lengths)
            return case.loss(*run(cell, inputs, lengths=lengths, reverse=reverse, initial_carry=carry))

        arrays = {**case.parameters, "inputs": case.inputs}
        arrays |= {f"carry{k}": part for k, part in enumerate(case.carry)}
        expected = oracle.numeric_gradient(reference, arrays)
        to_cell, to_inputs, to_carry = jax.grad(ours, (0, 1, 2))(
            case.cell(), jnp.asarray(case.inputs, jnp.float32), case.as_carry(case.carry)
        )
        what = f"{kind} gradient, lengths {lengths}, reverse {reverse}: "
        for name in names:
            assert_close(getattr(to_cell, name), expected[name], 1e-4, what + name)
        assert_close(to_inputs, expected["inputs"], 1e-4, what + "inputs")
        assert_close(to_carry, [expected[f"carry{k}"] for k in range(len(case.carry))], 1e-4, what + "carry")


def check_segments(run: Run, kind: str) -> None:
    """A change of segment starts from zeros, in values and gradients: a loop of single steps says the same."""
    case = _Case(kind)
    arguments = case.cell(), jnp.asarray(case.inputs, jnp.float32), case.as_carry(case.carry)
    for lengths, reverse in itertools.product((np.full(BATCH, TIME), LENGTHS), (False, True)):

        def packed(
            cell: Cell, inputs: jax.Array, carry: Any, lengths: Any = lengths, reverse: bool = reverse
        ) -> Any:
            options = {"segments": jnp.asarray(SEGMENTS), "initial_carry": carry, "reverse": reverse}
            return run(cell, inputs, lengths=jnp.asarray(lengths, jnp.int32), **options)

        def by_steps(
            cell: Cell, inputs: jax.Array, carry: Any, lengths: Any = lengths, reverse: bool = reverse
        ) -> Any:
            outputs: list[Any] = [None] * TIME
            before = np.full(BATCH, -1)  # the segment of the step before; -1 where there is none
            for at in reversed(range(TIME)) if reverse else range(TIME):
                exists = at < lengths
                starts_again = exists & (before >= 0) & (SEGMENTS[:, at] != before)
                before = np.where(exists, SEGMENTS[:, at], before)
                start = jax.tree.map(lambda old, z=starts_again: jnp.where(z[:, None], 0.0, old), carry)
                new, output = step_once(cell, start, inputs[:, at])
                carry = jax.tree.map(lambda n, o, e=exists: jnp.where(e[:, None], n, o), new, carry)
                outputs[at] = jnp.where(exists[:, None], output, 0.0)
            return jnp.stack(outputs, axis=1), carry

        what = f"{kind} segments, lengths {lengths}, reverse {reverse}"
        have, want = (
            jax.jit(
                lambda *free, function=function: (
                    function(*free),
                    jax.grad(lambda *same: case.loss(*function(*same)), (0, 1, 2))(*free),
                )
            )(*arguments)
            for function in (packed, by_steps)
        )
        assert_close(have[0], want[0], 1e-5, what)
        assert_close(have[1], want[1], 1e-4, what + ", gradients")


def check_unroll(run: Run, kind: str) -> None:
    """Unrolling changes nothing, also by a number that does not divide the time."""
    case = _Case(kind)
    variant: dict[str, Any] = {"lengths": LENGTHS, "reverse": True, "initial_carry": case.carry}
    expected = oracle.run(kind, case.parameters, case.inputs, **variant)
    for unroll in (2, TIME):
        assert_close(_run(run, case, variant, unroll=unroll), expected, 1e-5, f"{kind} unroll {unroll}")


def check_jit(run: Run, kind: str) -> None:
    """The same under ``jit`` with traced lengths; lengths out of range then act as the nearest in range."""
    case = _Case(kind)
    compiled = jax.jit(
        lambda cell, inputs, lengths, carry: run(cell, inputs, lengths=lengths, initial_carry=carry)
    )
    arguments = (case.cell(), jnp.asarray(case.inputs, jnp.float32))
    for given, meant in [(LENGTHS, LENGTHS), (LENGTHS + 7 * (LENGTHS == TIME) - 3 * (LENGTHS == 0), LENGTHS)]:
        expected = oracle.run(kind, case.parameters, case.inputs, lengths=meant, initial_carry=case.carry)
        actual = compiled(*arguments, jnp.asarray(given, jnp.int32), case.as_carry(case.carry))
        assert_close(actual, expected, 1e-5, f"{kind} jit, lengths {given}")


def check_vmap(run: Run, kind: str) -> None:
    """``vmap`` over cells, inputs, lengths and carries equals a loop, in values and in gradients."""
    cases = [_Case(kind, seed) for seed in (1, 2)]
    lengths = [jnp.asarray(LENGTHS), jnp.asarray(LENGTHS[::-1].copy())]
    rows = [
        (case.cell(), jnp.asarray(case.inputs, jnp.float32), row, case.as_carry(case.carry))
        for case, row in zip(cases, lengths, strict=True)
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)

    def values(cell: Cell, inputs: jax.Array, row: jax.Array, carry: Any) -> Any:
        return run(cell, inputs, lengths=row, initial_carry=carry, reverse=True)

    def gradients(cell: Cell, inputs: jax.Array, row: jax.Array, carry: Any) -> Any:
        return jax.grad(lambda *free: cases[0].loss(*values(free[0], free[1], row, free[2])), (0, 1, 2))(
            cell, inputs, carry
        )

    for function, tolerance in [(values, 1e-5), (gradients, 1e-4)]:
        expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(function(*row) for row in rows))
        assert_close(jax.vmap(function)(*stacked), expected, tolerance, f"{kind} vmap of {function.__name__}")


def check_padding(run: Run, kind: str) -> None:
    """NaN and Inf past the length reach neither values nor gradients; the padding's own gradient is zero."""
    case = _Case(kind)
    lengths = jnp.asarray(LENGTHS)
    is_padding = np.arange(TIME)[None, :] >= LENGTHS[:, None]
    clean = np.where(is_padding[..., None], 0.0, case.inputs)
    for reverse, garbage in itertools.product((False, True), (np.nan, np.inf)):

        def loss(cell: Cell, inputs: jax.Array, carry: Any, reverse: bool = reverse) -> tuple[jax.Array, Any]:
            result = run(cell, inputs, lengths=lengths, initial_carry=carry, reverse=reverse)
            return case.loss(*result), result

        differentiate = jax.grad(loss, (0, 1, 2), has_aux=True)
        results = [
            differentiate(case.cell(), jnp.asarray(inputs, jnp.float32), case.as_carry(case.carry))
            for inputs in (clean, np.where(is_padding[..., None], garbage, case.inputs))
        ]
        assert_close(results[1], results[0], 1e-6, f"{kind} with {garbage} in the padding, reverse {reverse}")
        outputs, to_inputs = results[1][1][0], results[1][0][1]
        assert not np.asarray(outputs)[is_padding].any(), "outputs past the length must be zero"
        assert not np.asarray(to_inputs)[is_padding].any(), "padding must get no gradient"


def check_empty(run: Run, kind: str) -> None:
    """A row of length 0, and sequences of no steps at all, return the initial carry exactly."""
    case = _Case(kind)
    carry = case.as_carry(case.carry)
    inputs = jnp.full((BATCH, TIME, FEATURES), jnp.nan)
    for reverse in (False, True):
        options = {"lengths": jnp.zeros(BATCH, jnp.int32), "initial_carry": carry, "reverse": reverse}
        for steps in (inputs, inputs[:, :0]):
            outputs, final = run(case.cell(), steps, **options)
            assert outputs.shape == (BATCH, steps.shape[1], HIDDEN)
            assert not np.asarray(outputs).any()
            assert all(map(np.array_equal, jax.tree.leaves(final), jax.tree.leaves(carry)))


def check_more_padding(run: Run, kind: str) -> None:
    """Columns of padding added at the end change no output and no carry."""
    case = _Case(kind)
    options = {"lengths": jnp.asarray(LENGTHS), "initial_carry": case.as_carry(case.carry)}
    inputs = jnp.asarray(case.inputs, jnp.float32)
    for reverse in (False, True):
        outputs, final = run(case.cell(), inputs, reverse=reverse, **options)
        padded = jnp.pad(inputs, ((0, 0), (0, 3), (0, 0)), constant_values=7.0)
        longer, longer_final = run(case.cell(), padded, reverse=reverse, **options)
        assert_close((longer[:, :TIME], longer_final), (outputs, final), 1e-6, f"{kind} with more padding")
        assert not np.asarray(longer[:, TIME:]).any()


def check_dtypes(run: Run, kind: str) -> None:
    """Bfloat16 inputs and weights give bfloat16 outputs near the float64 loops; carries stay float32."""
    case = _Case(kind)
    expected, _ = oracle.run(kind, case.parameters, case.inputs, lengths=LENGTHS)
    cell = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), case.cell())
    outputs, final = run(cell, jnp.asarray(case.inputs, jnp.bfloat16), lengths=jnp.asarray(LENGTHS))
    assert outputs.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(final))
    assert_close(outputs.astype(jnp.float32), expected, 2e-2, f"{kind} in bfloat16")


def check_stepwise(run: Run, kind: str) -> None:
    """Stepping by hand with ``step_once`` gives the outputs of the whole run."""
    case = _Case(kind)
    cell, inputs = case.cell(), jnp.asarray(case.inputs, jnp.float32)
    carry = cell.initial_carry(BATCH)
    outputs = []
    for at in range(TIME):
        carry, output = step_once(cell, carry, inputs[:, at])
        outputs.append(output)
    assert_close(run(cell, inputs), (jnp.stack(outputs, axis=1), carry), 1e-5, f"{kind} step by step")


def check_errors(run: Run, kind: str) -> None:
    """Lengths and carries that cannot be are refused, with the argument and the value named."""
    case = _Case(kind)
    cell, inputs = case.cell(), jnp.asarray(case.inputs, jnp.float32)
    good = case.as_carry(case.carry)
    short = jax.tree.map(lambda leaf: leaf[1:], good)
    other = good[0] if kind == "lstm" else (good, good)
    for options, words in [
        ({"lengths": jnp.array([5, 6, 0, 1])}, ["lengths", "0..5", "row 1", "6"]),
        ({"lengths": jnp.array([5, 5, 0, -1])}, ["lengths", "0..5", "row 3", "-1"]),
        ({"lengths": jnp.array([5, 5, 0])}, ["lengths", "(4,)", "(3,)"]),
        ({"segments": jnp.zeros((BATCH, 2), jnp.int32)}, ["segments", "(4, 5)", "(4, 2)"]),
        ({"initial_carry": short}, ["initial_carry", "(4, 4)", "(3, 4)"]),
        ({"initial_carry": other}, ["initial_carry", type(cell).__name__]),
    ]:
        message = _refusal(run, cell, inputs, options)
        assert message is not None, f"{kind}: no error for {options}"
        missing = [word for word in words if word not in message]
        assert not missing, f"the message '{message}' does not name {missing}"


def _refusal(run: Run, cell: Cell, inputs: jax.Array, options: dict[str, Any]) -> str | None:
    try:
        # Unwrapped: under the tests' run-time shape checks a wrong shape would not get to the function.
        inspect.unwrap(run)(cell, inputs, **options)
    except ShapeError as error:
        return str(error)
    return None


CHECKS: dict[str, Callable[[Run, str], None]] = {
    "values": check_values,
    "gradients": check_gradients,
    "segments": check_segments,
    "unroll": check_unroll,
    "jit": check_jit,
    "vmap": check_vmap,
    "padding": check_padding,
    "empty": check_empty,
    "more_padding": check_more_padding,
    "dtypes": check_dtypes,
    "stepwise": check_stepwise,
    "errors": check_errors,
}
"""Every check by name; a new implementation joins by running them all."""
