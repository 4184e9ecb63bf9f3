"""The contract of a recurrence, as checks that any implementation can be put through.

Each check takes ``run``, called like :func:`transformer_jax.functional.recurrent.run_cells` without its
``implementation``, and a row of the suite: one of ``CELL_KINDS``, or a ``CellCase`` of one's own. It raises
``AssertionError`` where the contract is broken.

Example:
  >>> from transformer_jax.functional.recurrent import recurrence
  >>> for check in CHECKS.values():
  ...   check(recurrence, "gru")
"""

import functools
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.errors import ShapeError
from transformer_jax.functional.recurrent import Cell, step_once
from transformer_jax.testing import recurrence_oracle as oracle
from transformer_jax.testing.recurrence_oracle import CELL_KINDS, CellCase, cell_case

__all__ = ["CELL_KINDS", "CHECKS", "CellCase", "Kind", "Run", "assert_close", "make_cell"]

Run = Callable[..., tuple[jax.Array, Any]]
Kind = str | CellCase
BATCH, TIME, FEATURES, HIDDEN = 4, 5, 3, 4
LENGTHS = np.array([5, 0, 3, 1], np.int32)
_DIRECTIONS = list(itertools.product((False, True), (False, True)))  # with lengths or not, in reverse or not
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


def make_cell(kind: Kind, parameters: oracle.Parameters) -> Cell:
    """The library's cell with the oracle's parameters, in float32."""
    arrays = {name: jnp.asarray(value, jnp.float32) for name, value in parameters.items()}
    case = cell_case(kind)
    return case.cell(**arrays, **case.statics)


class _Case(NamedTuple):
    """Random float64 arrays of one kind of cell; its methods give the same in float32 for the library."""

    kind: Kind
    parameters: dict[str, np.ndarray]
    inputs: np.ndarray
    carry: tuple[np.ndarray, ...]
    output_weights: np.ndarray
    carry_weights: tuple[np.ndarray, ...]

    def cell(self) -> Cell:
        return make_cell(self.kind, self.parameters)

    def inputs32(self) -> jax.Array:
        return jnp.asarray(self.inputs, jnp.float32)

    def carry32(self) -> Any:
        return self._as_carry(self.carry)

    def weights32(self) -> tuple[jax.Array, Any]:
        """Cotangents of outputs and last carry in the loss."""
        return jnp.asarray(self.output_weights, jnp.float32), self._as_carry(self.carry_weights)

    def _as_carry(self, parts: tuple[np.ndarray, ...]) -> Any:
        arrays = tuple(jnp.asarray(part, jnp.float32) for part in parts)
        return arrays if len(arrays) > 1 else arrays[0]

    def loss(self, outputs: np.ndarray, carry: tuple[np.ndarray, ...]) -> np.ndarray:
        """A number for each entry of the axes before the batch."""
        total = (outputs * self.output_weights).sum((-3, -2, -1))
        parts = zip(carry, self.carry_weights, strict=True)
        return total + sum((part * weight).sum((-2, -1)) for part, weight in parts)


@functools.cache
def _case(kind: Kind, seed: int = 0) -> _Case:
    generator = np.random.default_rng(seed)
    size = len(cell_case(kind).cell.carry_names)
    return _Case(
        kind=kind,
        parameters=oracle.random_parameters(kind, generator, features=FEATURES, hidden_dim=HIDDEN),
        inputs=generator.normal(size=(BATCH, TIME, FEATURES)),
        carry=tuple(generator.normal(size=(BATCH, HIDDEN)) for _ in range(size)),
        output_weights=generator.normal(size=(BATCH, TIME, HIDDEN)),
        carry_weights=tuple(generator.normal(size=(BATCH, HIDDEN)) for _ in range(size)),
    )


@functools.cache
def _expected(kind: Kind, *, has_lengths: bool, reverse: bool, has_carry: bool) -> Any:
    """Outputs and last carry by the float64 loops."""
    case = _case(kind)
    return oracle.run(
        kind, case.parameters, case.inputs,
        lengths=LENGTHS if has_lengths else None, reverse=reverse, initial_carry=case.carry if has_carry else None,
    )  # fmt: skip


@functools.cache
def _expected_gradients(kind: Kind, *, has_lengths: bool, reverse: bool) -> dict[str, np.ndarray]:
    """Central differences of the loss of the float64 loops; the carry's parts are ``carry0``, ``carry1``."""
    case = _case(kind)

    def loss(arrays: dict[str, np.ndarray]) -> np.ndarray:
        carry = tuple(arrays[f"carry{k}"] for k in range(len(case.carry)))
        lengths = LENGTHS if has_lengths else None
        result = oracle.run(
            kind, arrays, arrays["inputs"], lengths=lengths, reverse=reverse, initial_carry=carry
        )
        return case.loss(*result)

    arrays = {**case.parameters, "inputs": case.inputs}
    return oracle.numeric_gradient(loss, arrays | {f"carry{k}": part for k, part in enumerate(case.carry)})


class _Result(NamedTuple):
    """``(outputs, last carry)`` as computed without and with a derivative, and the gradients of the loss."""

    values: Any
    values_differentiated: Any
    gradients: tuple[Cell, jax.Array, Any]


def _differentiate(function: Callable, weights: Any, *free: Any) -> _Result:
    values, pull_back = jax.vjp(function, *free)
    return _Result(function(*free), values, pull_back(weights))


def _differentiated(run: Run, reverse: bool) -> Callable[..., _Result]:
    """``run`` and its gradients by cell, inputs and carry, as a function of everything that may be traced."""

    def compute(
        cell: Cell, inputs: jax.Array, carry: Any, lengths: Any, segments: Any, weights: Any
    ) -> _Result:
        more = {} if segments is None else {"segments": segments}

        def free(cell: Cell, inputs: jax.Array, carry: Any) -> Any:
            return run(cell, inputs, lengths=lengths, initial_carry=carry, reverse=reverse, **more)

        return _differentiate(free, weights, cell, inputs, carry)

    return compute


@functools.lru_cache(maxsize=32)
def _compiled(run: Run, reverse: bool) -> Callable[..., _Result]:
    """:func:`_differentiated` as one program that all checks share: building programs is what checks cost."""
    return jax.jit(_differentiated(run, reverse))


def _result(
    run: Run, case: _Case, *, reverse: bool, inputs: Any = None, lengths: Any = None, segments: Any = None
) -> _Result:
    inputs = case.inputs32() if inputs is None else jnp.asarray(inputs, jnp.float32)
    lengths, segments = (
        None if given is None else jnp.asarray(given, jnp.int32) for given in (lengths, segments)
    )
    arguments = case.cell(), inputs, case.carry32(), lengths, segments, case.weights32()
    return _compiled(run, reverse)(*arguments)


def check_values(run: Run, kind: Kind) -> None:
    """Outputs and last carry equal the float64 loops, for every mixture of lengths, direction and carry."""
    case = _case(kind)

    @jax.jit
    def from_zeros(cell: Cell, inputs: jax.Array, lengths: jax.Array) -> dict[tuple[bool, bool], Any]:
        return {
            (has_lengths, reverse): run(
                cell, inputs, lengths=lengths if has_lengths else None, initial_carry=None, reverse=reverse
            )
            for has_lengths, reverse in _DIRECTIONS
        }

    all_from_zeros = from_zeros(case.cell(), case.inputs32(), jnp.asarray(LENGTHS))
    for has_lengths, reverse in _DIRECTIONS:
        options = {"has_lengths": has_lengths, "reverse": reverse}
        expected = _expected(kind, **options, has_carry=True)
        actual = _result(run, case, lengths=LENGTHS if has_lengths else None, reverse=reverse)
        assert_close(actual.values, expected, 1e-5, f"{kind} {options}")
        assert_close(actual.values_differentiated, expected, 1e-5, f"{kind} {options}, differentiated")
        expected = _expected(kind, **options, has_carry=False)
        assert_close(all_from_zeros[has_lengths, reverse], expected, 1e-5, f"{kind} {options}, no carry")


def check_gradients(run: Run, kind: Kind) -> None:
    """Gradients by parameters, inputs and initial carry equal central differences of the float64 loops."""
    case = _case(kind)
    for has_lengths, reverse in _DIRECTIONS:
        expected = _expected_gradients(kind, has_lengths=has_lengths, reverse=reverse)
        lengths = LENGTHS if has_lengths else None
        to_cell, to_inputs, to_carry = _result(run, case, lengths=lengths, reverse=reverse).gradients
        what = f"{kind} gradient, lengths {lengths}, reverse {reverse}: "
        for name in sorted(case.parameters):
            assert_close(getattr(to_cell, name), expected[name], 1e-4, what + name)
        assert_close(to_inputs, expected["inputs"], 1e-4, what + "inputs")
        assert_close(to_carry, [expected[f"carry{k}"] for k in range(len(case.carry))], 1e-4, what + "carry")


def check_segments(run: Run, kind: Kind) -> None:
    """A change of segment starts from zeros, in values and gradients: a loop of single steps says the same."""
    case = _case(kind)
    for lengths, reverse in itertools.product((np.full(BATCH, TIME), LENGTHS), (False, True)):
        what = f"{kind} segments, lengths {lengths}, reverse {reverse}"
        have = _result(run, case, lengths=lengths, segments=SEGMENTS, reverse=reverse)
        want = _by_steps(case, lengths, SEGMENTS, reverse=reverse)
        assert_close(have.values, want.values, 1e-5, what)
        assert_close(have.values_differentiated, want.values, 1e-5, what + ", differentiated")
        assert_close(have.gradients, want.gradients, 1e-4, what + ", gradients")


def _by_steps(case: _Case, lengths: np.ndarray, segments: np.ndarray, *, reverse: bool) -> _Result:
    """The same by a loop of ``step_once``; which steps exist and start again is found here, in NumPy."""
    exists = np.arange(TIME)[None, :] < lengths[:, None]
    starts_again = np.zeros_like(exists)
    before = np.full(BATCH, -1)  # the segment of the step before; -1 where there is none
    order = np.arange(TIME)[:: -1 if reverse else 1]
    for at in order:
        starts_again[:, at] = exists[:, at] & (before >= 0) & (segments[:, at] != before)
        before = np.where(exists[:, at], segments[:, at], before)
    (outputs_weights, carry_weights), inputs = case.weights32(), case.inputs32()
    result = _loop_of_steps(
        case.cell(), inputs[:, order], case.carry32(), exists[:, order], starts_again[:, order],
        (outputs_weights[:, order], carry_weights),
    )  # fmt: skip
    (outputs, carry), (to_cell, to_inputs, to_carry) = result.values, result.gradients
    return result._replace(
        values=(outputs[:, order], carry), gradients=(to_cell, to_inputs[:, order], to_carry)
    )


@jax.jit
def _loop_of_steps(
    cell: Cell, inputs: jax.Array, carry: Any, exists: jax.Array, starts_again: jax.Array, weights: Any
) -> _Result:
    def free(cell: Cell, inputs: jax.Array, carry: Any) -> Any:
        outputs = []
        for at in range(TIME):
            start = jax.tree.map(lambda old, z=starts_again[:, at]: jnp.where(z[:, None], 0.0, old), carry)
            new, output = step_once(cell, start, inputs[:, at])
            carry = jax.tree.map(lambda n, o, e=exists[:, at]: jnp.where(e[:, None], n, o), new, carry)
            outputs.append(jnp.where(exists[:, at, None], output, 0.0))
        return jnp.stack(outputs, axis=1), carry

    return _differentiate(free, weights, cell, inputs, carry)


def check_unroll(run: Run, kind: Kind) -> None:
    """Unrolling changes nothing, also by a number that does not divide the time."""
    case = _case(kind)
    numbers = (2, TIME)

    @jax.jit
    def unrolled(cell: Cell, inputs: jax.Array, lengths: jax.Array, carry: Any) -> list[Any]:
        options = {"lengths": lengths, "initial_carry": carry, "reverse": True}
        return [run(cell, inputs, unroll=unroll, **options) for unroll in numbers]

    expected = _expected(kind, has_lengths=True, reverse=True, has_carry=True)
    results = unrolled(case.cell(), case.inputs32(), jnp.asarray(LENGTHS), case.carry32())
    for unroll, actual in zip(numbers, results, strict=True):
        assert_close(actual, expected, 1e-5, f"{kind} unroll {unroll}")


def check_jit(run: Run, kind: Kind) -> None:
    """The same under ``jit`` with traced lengths; lengths out of range then act as the nearest in range."""
    case = _case(kind)
    beyond = LENGTHS + 7 * (LENGTHS == TIME) - 3 * (LENGTHS == 0)
    for given, reverse in itertools.product((LENGTHS, beyond), (False, True)):
        expected = _expected(kind, has_lengths=True, reverse=reverse, has_carry=True)
        actual = _result(run, case, lengths=given, reverse=reverse).values
        assert_close(actual, expected, 1e-5, f"{kind} jit, lengths {given}, reverse {reverse}")


def check_vmap(run: Run, kind: Kind) -> None:
    """``vmap`` over cells, inputs, lengths and carries equals a loop, in values and in gradients."""
    weights = _case(kind, 1).weights32()
    rows = [
        (case.cell(), case.inputs32(), case.carry32(), jnp.asarray(lengths), None, weights)
        for case, lengths in [(_case(kind, 1), LENGTHS), (_case(kind, 2), LENGTHS[::-1])]
    ]
    one_by_one = [_compiled(run, True)(*row) for row in rows]
    together = jax.jit(jax.vmap(_differentiated(run, True)))(*_stack(rows))
    for name, tolerance in [("values", 1e-5), ("values_differentiated", 1e-5), ("gradients", 1e-4)]:
        expected = _stack([getattr(result, name) for result in one_by_one])
        assert_close(getattr(together, name), expected, tolerance, f"{kind} vmap of {name}")


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def check_padding(run: Run, kind: Kind) -> None:
    """NaN and Inf past the length reach neither values nor gradients; the padding's own gradient is zero."""
    case = _case(kind)
    is_padding = np.arange(TIME)[None, :] >= LENGTHS[:, None]
    for reverse, garbage in itertools.product((False, True), (np.nan, np.inf)):
        clean, spoiled = (
            _result(
                run, case, reverse=reverse, lengths=LENGTHS,
                inputs=np.where(is_padding[..., None], padding, case.inputs),
            )
            for padding in (0.0, garbage)
        )  # fmt: skip
        assert_close(spoiled, clean, 1e-6, f"{kind} with {garbage} in the padding, reverse {reverse}")
        outputs, to_inputs = spoiled.values[0], spoiled.gradients[1]
        assert not np.asarray(outputs)[is_padding].any(), "outputs past the length must be zero"
        assert not np.asarray(to_inputs)[is_padding].any(), "padding must get no gradient"


def check_empty(run: Run, kind: Kind) -> None:
    """A row of length 0, and sequences of no steps at all, return the initial carry exactly."""
    case = _case(kind)
    carry, no_steps = case.carry32(), np.zeros(BATCH, np.int32)
    unknown = np.full((BATCH, TIME, FEATURES), np.nan)

    @jax.jit
    def without_steps(cell: Cell, inputs: jax.Array, carry: Any, lengths: jax.Array) -> list[Any]:
        options = {"lengths": lengths, "initial_carry": carry}
        return [run(cell, inputs, reverse=reverse, **options) for reverse in (False, True)]

    results = without_steps(case.cell(), jnp.asarray(unknown[:, :0], jnp.float32), carry, no_steps)
    pairs = [(0, result) for result in results]
    for reverse in (False, True):
        result = _result(run, case, inputs=unknown, lengths=no_steps, reverse=reverse)
        pairs += [(TIME, result.values), (TIME, result.values_differentiated)]
    for num_steps, (outputs, final) in pairs:
        assert outputs.shape == (BATCH, num_steps, HIDDEN)
        assert not np.asarray(outputs).any()
        assert all(map(np.array_equal, jax.tree.leaves(final), jax.tree.leaves(carry)))


def check_more_padding(run: Run, kind: Kind) -> None:
    """Columns of padding added at the end change no output and no carry."""
    case = _case(kind)
    padded = np.pad(case.inputs, ((0, 0), (0, 3), (0, 0)), constant_values=7.0)

    @jax.jit
    def both_ways(cell: Cell, inputs: jax.Array, carry: Any, lengths: jax.Array) -> list[Any]:
        options = {"lengths": lengths, "initial_carry": carry}
        return [run(cell, inputs, reverse=reverse, **options) for reverse in (False, True)]

    results = both_ways(case.cell(), jnp.asarray(padded, jnp.float32), case.carry32(), jnp.asarray(LENGTHS))
    for reverse, (longer, longer_final) in zip((False, True), results, strict=True):
        expected = _result(run, case, lengths=LENGTHS, reverse=reverse).values
        assert_close((longer[:, :TIME], longer_final), expected, 1e-6, f"{kind} with more padding")
        assert not np.asarray(longer[:, TIME:]).any()


def check_dtypes(run: Run, kind: Kind) -> None:
    """Bfloat16 inputs and weights give bfloat16 outputs near the float64 loops; carries stay float32."""
    case = _case(kind)
    expected, _ = _expected(kind, has_lengths=True, reverse=False, has_carry=False)
    cell = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), case.cell())
    compiled = jax.jit(lambda cell, inputs, lengths: run(cell, inputs, lengths=lengths))
    outputs, final = compiled(cell, jnp.asarray(case.inputs, jnp.bfloat16), jnp.asarray(LENGTHS))
    assert outputs.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(final))
    assert_close(outputs.astype(jnp.float32), expected, 2e-2, f"{kind} in bfloat16")


def check_stepwise(run: Run, kind: Kind) -> None:
    """Stepping by hand with ``step_once`` gives the outputs of the whole run, which is not compiled here."""
    case = _case(kind)
    cell, inputs = case.cell(), case.inputs32()
    everything = np.ones((BATCH, TIME), bool)
    start = cell.initial_carry(BATCH)
    by_hand = _loop_of_steps(cell, inputs, start, everything, ~everything, case.weights32())
    assert_close(run(cell, inputs), by_hand.values, 1e-5, f"{kind} step by step")


def check_errors(run: Run, kind: Kind) -> None:
    """Lengths and carries that cannot be are refused, with the argument and the value named."""
    case = _case(kind)
    cell, inputs, good = case.cell(), case.inputs32(), case.carry32()
    short = jax.tree.map(lambda leaf: leaf[1:], good)
    other = good[0] if isinstance(good, tuple) else (good, good)
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


CHECKS: dict[str, Callable[[Run, Kind], None]] = {
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
