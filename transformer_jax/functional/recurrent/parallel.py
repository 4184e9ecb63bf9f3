r"""Classic recurrences over all time steps at once, by Newton's method and an associative scan.

The states of a recurrence are the root of :math:`h_t - f_t(h_{t-1}) = 0`. One Newton step takes the recurrence for
linear about the last guess,

.. math:: h_t = J_t h_{t-1} + \big(f_t(\hat h_{t-1}) - J_t \hat h_{t-1}\big), \quad J_t = f_t'(\hat h_{t-1}),

which a scan over time solves in depth :math:`\log_2 T`. With the true Jacobian the steps converge quadratically, and
each costs :math:`T` products of ``hidden x hidden`` matrices; with what a unit does to itself alone (the *diagonal*:
a number a unit, or 2 x 2 for an LSTM) a step costs a few passes over the states, and more steps are needed. Both
have one root, the states that a scan would give. After ``k`` steps at least the first ``k`` states are right.

The gradient follows from the implicit function: with :math:`\lambda` the cotangent of the states,

.. math:: \lambda_t = \bar h_t + f_{t+1}'(h_t)^\top \lambda_{t+1},

a linear recurrence, solved in the same way with the same Jacobian, and then one product over all steps for the weights.
Forward mode and derivatives of derivatives are those of a scan.

Source: Lim et al. 2024 (DEER), https://arxiv.org/abs/2309.12252; Gonzalez et al. 2024 (quasi-DEER, ELK),
https://arxiv.org/abs/2407.19115; Danieli et al. 2025 (ParaRNN), https://arxiv.org/abs/2510.21450.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from transformer_jax.errors import ConfigError, nearest_hint
from transformer_jax.functional.derivatives import Rules, with_backward
from transformer_jax.functional.dtypes import wide
from transformer_jax.functional.recurrent.cells import Carry, Cell, affine
from transformer_jax.functional.recurrent.fused import FusedCell, fused_form
from transformer_jax.functional.recurrent.prefix import prefixes
from transformer_jax.functional.recurrent.scan import cleared, moved, recurrent_share, select
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Bool, Float, Int

Jacobian = Literal["diagonal", "full"]
JACOBIANS: tuple[Jacobian, ...] = ("diagonal", "full")

TOLERANCE = {jnp.dtype(jnp.float32): 1e-6, jnp.dtype(jnp.float64): 2e-15}
"""Of a state's residual, relative where the state is larger than 1: a few units in the last place."""

MAX_ITERATIONS = 128
"""Steps of Newton's method at most; see ``docs/recurrence.md`` for what cells as initialised need."""

Leaves = tuple[Array, ...]  # the hidden state first, [time, batch, hidden] each


@pytree_dataclass
class ParallelReport:
    r"""How the steps of Newton's method went, for each row.

    Attributes:
      iterations: Steps made until the last row was there, or given up.
      residual: Largest :math:`|h_t - f_t(h_{t-1})| / \max(1, |h_t|)` of each row before the last step.
      converged: Whether it came below the tolerance; the other rows are a scan's.
    """

    iterations: Int[Array, ""]
    residual: Float[Array, "batch"]
    converged: Bool[Array, "batch"]


class _Settings(NamedTuple):
    form: FusedCell
    reverse: bool
    jacobian: Jacobian
    tolerance: float
    max_iterations: int


class _Problem(NamedTuple):
    """Inputs that the states depend on; the last two have no gradient."""

    weight: Array
    bias: Array | None
    projected: Array
    carries: Leaves
    valid: Array | None
    resets: Array | None


def run_parallel(
    cell: Cell,
    inputs: Float[Array, "time batch features"],
    carry: Carry,
    valid: Bool[Array, "time batch"] | None,
    resets: Bool[Array, "time batch"] | None,
    *,
    reverse: bool,
    unroll: int,
    jacobian: Jacobian = "diagonal",
    tolerance: float | None = None,
    max_iterations: int | None = None,
) -> tuple[Float[Array, "time batch hidden"], Carry, ParallelReport]:
    """The recurrence by Newton's method, time first, with the report.

    Raises:
      NotImplementedError: If the cell's type has no fused form.
      ConfigError: If the Jacobian, the tolerance or the number of iterations is none.
    """
    del unroll
    if jacobian not in JACOBIANS:
        raise ConfigError(
            f"jacobian must be one of {JACOBIANS}; got '{jacobian}'{nearest_hint(jacobian, JACOBIANS)}"
        )
    if tolerance is not None and not tolerance >= 0.0:
        raise ConfigError(f"tolerance must be at least 0; got {tolerance}")
    num_steps, batch, _ = inputs.shape
    if max_iterations is None:
        max_iterations = min(num_steps + 1, MAX_ITERATIONS)
    if max_iterations < 1:
        raise ConfigError(f"max_iterations must be at least 1; got {max_iterations}")
    form = fused_form(cell)
    if form is None:
        raise NotImplementedError(f"no Newton step for {type(cell).__name__}")
    if num_steps == 0:
        nothing = jnp.zeros((batch,), jax.tree.leaves(carry)[0].dtype)
        report = ParallelReport(jnp.zeros((), jnp.int32), nothing, jnp.ones((batch,), bool))
        return jnp.zeros((0, batch, cell.hidden_dim), nothing.dtype), carry, report
    folded = form.fold(cell)
    projected = affine(inputs, folded.input_weight, folded.bias)
    carries = carry if isinstance(carry, tuple) else (carry,)
    dtype = wide(projected, *carries)
    tolerance = TOLERANCE[dtype] if tolerance is None else tolerance
    settings = _Settings(form, reverse, jacobian, tolerance, max_iterations)
    # In float32 at least, whatever the dtype of the weights: rounded states would keep the residual from falling.
    weight = folded.recurrent_weight.astype(dtype)
    problem = _Problem(weight, folded.recurrent_bias, projected, carries, valid, resets)
    states, report = _solve(settings, problem)
    final = tuple(leaf[0 if reverse else -1] for leaf in states)
    outputs = states[0] if valid is None else jnp.where(valid[..., None], states[0], 0.0)
    return outputs, final if isinstance(carry, tuple) else final[0], report


def _shifted(settings: _Settings, problem: _Problem, states: Leaves) -> Leaves:
    """The carry that each step starts from."""

    pairs = zip(states, problem.carries, strict=True)
    previous = tuple(moved(sequence, initial, settings.reverse) for sequence, initial in pairs)
    if problem.resets is None:
        return previous
    return tuple(jnp.where(problem.resets[..., None], 0.0, leaf) for leaf in previous)


def _gates(
    form: FusedCell, previous: Leaves, projected: Array, recurrent: Array, valid: Array | None
) -> Leaves:
    """The elementwise part of a step of any number of rows; a row whose step does not exist keeps its carry."""
    return select(valid, form.forward(previous, projected, recurrent)[0], previous)


def _rows(array: Array | None) -> Any:
    """``[time, batch, ...]`` as rows."""
    return None if array is None else array.reshape(math.prod(array.shape[:2]), *array.shape[2:])


def _all_steps(settings: _Settings, problem: _Problem, states: Leaves) -> Leaves:
    """Each step from the state before it: the map whose fixed point the states are."""
    shape = states[0].shape
    previous = tuple(map(_rows, _shifted(settings, problem, states)))
    recurrent = recurrent_share(previous[0], problem.weight, problem.bias)
    new = _gates(settings.form, previous, _rows(problem.projected), recurrent, _rows(problem.valid))
    return tuple(leaf.reshape(shape) for leaf in new)


def _linearised(settings: _Settings, problem: _Problem, states: Leaves) -> tuple[Leaves, Any]:
    """``_all_steps`` and the Jacobians of each step by the state before it, zero where the carry is reset.

    Diagonal: ``rows[i][j]``, each ``[time, batch, hidden]``, of leaf ``i`` by leaf ``j``. Full:
    ``[time, batch, n, n]``, with all leaves side by side.
    """
    weight, shape = problem.weight, states[0].shape
    width, num_gates = weight.shape[0], weight.shape[1] // weight.shape[0]
    previous = tuple(map(_rows, _shifted(settings, problem, states)))
    recurrent = recurrent_share(previous[0], problem.weight, problem.bias)

    def gates(previous: Leaves, recurrent: Array) -> Leaves:
        return _gates(settings.form, previous, _rows(problem.projected), recurrent, _rows(problem.valid))

    new, derivative = jax.linearize(gates, previous, recurrent)
    zeros, no_gates = tuple(map(jnp.zeros_like, previous)), jnp.zeros_like(recurrent)

    def kept(leaf: Array) -> Array:
        leaf = leaf.reshape(shape)
        return leaf if problem.resets is None else jnp.where(problem.resets[..., None], 0.0, leaf)

    def by_leaf(index: int, to_recurrent: Array) -> list[Array]:
        ones = tuple(jnp.ones_like(leaf) if at == index else leaf for at, leaf in enumerate(zeros))
        return [kept(leaf) for leaf in derivative(ones, to_recurrent)]

    num_leaves = len(previous)
    new = tuple(leaf.reshape(shape) for leaf in new)
    if settings.jacobian == "diagonal":
        own = jnp.concatenate([jnp.diagonal(block) for block in jnp.split(weight, num_gates, axis=1)])
        through = jnp.broadcast_to(own[None], recurrent.shape)
        columns = [by_leaf(index, no_gates if index else through) for index in range(num_leaves)]
        return new, [[column[row] for column in columns] for row in range(num_leaves)]

    columns = [by_leaf(index, no_gates) for index in range(num_leaves)]
    eye = jnp.eye(width, dtype=weight.dtype)[None, None]
    blocks = [[column[row][..., None] * eye for column in columns] for row in range(num_leaves)]
    for gate in range(num_gates):
        span = slice(gate * width, (gate + 1) * width)
        for row, slope in enumerate(derivative(zeros, no_gates.at[..., span].set(1.0))):
            blocks[row][0] = blocks[row][0] + kept(slope)[..., None] * weight[:, span].T[None, None]
    return new, jnp.concatenate([jnp.concatenate(row, axis=-1) for row in blocks], axis=-2)


def _apply(jacobian: Any, leaves: Leaves) -> Leaves:
    """Jacobian times leaves, step by step."""
    if isinstance(jacobian, list):
        return tuple(sum(a * leaf for a, leaf in zip(row, leaves, strict=True)) for row in jacobian)
    joined = jnp.einsum("tbij,tbj->tbi", jacobian, jnp.concatenate(leaves, axis=-1))
    return tuple(jnp.split(joined, len(leaves), axis=-1))


def _joined(left: Any, right: Any) -> Any:
    """Two steps ``x -> J x + b`` as one."""
    (first, first_addend), (second, second_addend) = left, right
    moved = tuple(a + b for a, b in zip(_apply(second, first_addend), second_addend, strict=True))
    if not isinstance(first, list):
        return jnp.matmul(second, first), moved
    columns = list(zip(*first, strict=True))
    product = [[sum(a * b for a, b in zip(row, column, strict=True)) for column in columns] for row in second]
    return product, moved


def _solve_linear(jacobian: Any, addend: Leaves, reverse: bool) -> Leaves:
    """``x_t = J_t x_{t-1} + b_t`` from zero, by an associative scan."""
    if isinstance(jacobian, list):
        same: Any = [[float(row == column) for column in range(len(addend))] for row in range(len(addend))]
    else:
        same = jnp.eye(jacobian.shape[-1])
    return prefixes(_joined, (jacobian, addend), (same, (0.0,) * len(addend)), reverse=reverse)[1]


def _gap(new: Leaves, old: Leaves) -> tuple[Leaves, Array]:
    """The difference, and its largest of each row, relative where the value is larger than 1."""
    gap = tuple(n - o for n, o in zip(new, old, strict=True))
    sizes = [jnp.abs(d) / jnp.maximum(1.0, jnp.abs(o)) for d, o in zip(gap, old, strict=True)]
    largest = jnp.stack([size.max(axis=(0, 2)) for size in sizes]).max(axis=0)
    return gap, jnp.where(jnp.isnan(largest), jnp.inf, largest)


def _iterated(
    settings: _Settings,
    start: Leaves,
    evaluate: Callable[[Leaves], tuple[Leaves, Any]],
    before: Callable[[Leaves], Leaves],
    reverse: bool,
) -> tuple[Leaves, ParallelReport]:
    """Newton steps towards the fixed point of a map in which each step sees the one before it.

    Args:
      settings: Tolerance and number of steps.
      start: The first guess.
      evaluate: The map at a guess, and its Jacobian of each step by the one before.
      before: What stands before each step, zero before the first.
      reverse: Whether the steps run from the last to the first.
    """

    def unfinished(loop: tuple[Leaves, Array, Array]) -> Array:
        _, iterations, residual = loop
        return (iterations < settings.max_iterations) & (residual > settings.tolerance).any()

    def newton(loop: tuple[Leaves, Array, Array]) -> tuple[Leaves, Array, Array]:
        leaves, iterations, _ = loop
        new, jacobian = evaluate(leaves)
        gap, residual = _gap(new, leaves)
        # The new value is the map's plus what the corrections before it make of it, so that a step does not depend
        # on its own old value, and is right as soon as all before it are.
        correction = _solve_linear(jacobian, _apply(jacobian, before(gap)), reverse)
        corrected = tuple(jnp.where(jnp.isfinite(c), n + c, n) for n, c in zip(new, correction, strict=True))
        return corrected, iterations + 1, residual

    unknown = jnp.full(start[0].shape[1], jnp.inf, start[0].dtype)
    loop = (start, jnp.zeros((), jnp.int32), unknown)
    leaves, iterations, residual = lax.while_loop(unfinished, newton, loop)
    return leaves, ParallelReport(iterations, residual, residual <= settings.tolerance)


def _mixed(converged: Array, leaves: Leaves, by_scan: Any) -> Leaves:
    """The rows that converged, and the others by a scan, which runs only if there is one."""

    def patched() -> Leaves:
        rows = converged[None, :, None]
        return tuple(jnp.where(rows, a, b) for a, b in zip(leaves, by_scan(), strict=True))

    return lax.cond(converged.all(), lambda: leaves, patched)


_Arguments = tuple[Array, Array | None, Array, Leaves]  # of a problem; its other parts have no gradient
_Constants = tuple[Array | None, Array | None]


def _solve(settings: _Settings, problem: _Problem) -> tuple[Leaves, ParallelReport]:
    return with_backward(_RULES, settings, tuple(problem[:4]), tuple(problem[4:]))


def _value(
    settings: _Settings, arguments: _Arguments, constants: _Constants
) -> tuple[Leaves, ParallelReport]:
    return _solved(settings, _Problem(*arguments, *constants))


def _plain(settings: _Settings, arguments: _Arguments, constants: _Constants) -> Leaves:
    return _states_by_scan(settings, _Problem(*arguments, *constants))


@partial(
    jax.jit, static_argnums=0
)  # called outside of a compiled program it is one, not hundreds of small ones
def _solved(settings: _Settings, problem: _Problem) -> tuple[Leaves, ParallelReport]:
    num_steps = problem.projected.shape[0]
    no_carries = problem._replace(carries=tuple(map(jnp.zeros_like, problem.carries)))
    still = tuple(jnp.broadcast_to(leaf[None], (num_steps, *leaf.shape)) for leaf in problem.carries)

    start = _all_steps(settings, problem, still)
    states, report = _iterated(
        settings,
        start,
        partial(_linearised, settings, problem),
        partial(_shifted, settings, no_carries),
        settings.reverse,
    )
    return _mixed(report.converged, states, lambda: _states_by_scan(settings, problem)), report


def _one_step(settings: _Settings, problem: _Problem, at_time: tuple, carries: Leaves) -> Leaves:
    projected, valid, resets = at_time
    previous = cleared(resets, carries)
    recurrent = recurrent_share(previous[0], problem.weight, problem.bias)
    return _gates(settings.form, previous, projected, recurrent, valid)


def _states_by_scan(settings: _Settings, problem: _Problem) -> Leaves:
    """All states, one after the other."""

    def body(carries: Leaves, at_time: tuple) -> tuple[Leaves, Leaves]:
        new = _one_step(settings, problem, at_time, carries)
        return new, new

    sequences = (problem.projected, problem.valid, problem.resets)
    return lax.scan(body, problem.carries, sequences, reverse=settings.reverse)[1]


def _adjoints_by_scan(settings: _Settings, problem: _Problem, states: Leaves, cotangents: Leaves) -> Leaves:
    """All cotangents of the states, one after the other."""
    shift = _shifted(settings, problem._replace(resets=None), states)

    def body(arriving: Leaves, inputs: tuple) -> tuple[Leaves, Leaves]:
        own, previous, at_time = inputs
        total = tuple(a + b for a, b in zip(arriving, own, strict=True))
        _, pull = jax.vjp(partial(_one_step, settings, problem, at_time), previous)
        return pull(total)[0], total

    sequences = (cotangents, shift, (problem.projected, problem.valid, problem.resets))
    zeros = tuple(jnp.zeros_like(leaf[0]) for leaf in states)
    return lax.scan(body, zeros, sequences, reverse=not settings.reverse)[1]


@partial(jax.jit, static_argnums=0)
def _backward(
    settings: _Settings, arguments: _Arguments, constants: _Constants, states: Leaves, wanted: Leaves
) -> _Arguments:
    problem = _Problem(*arguments, *constants)
    _, jacobian = _linearised(settings, problem, states)
    _, pull_states = jax.vjp(partial(_all_steps, settings, problem), states)

    def later(array: Array) -> Array:
        """Values of the next step in the order of the run, zero at its end."""
        return moved(array, jnp.zeros_like(array[0]), not settings.reverse)

    onward = jax.tree.map(later, _transposed(jacobian))  # from each step to the one after it
    # In units of the largest cotangent of each row: the tolerance is relative.
    size = jnp.stack([jnp.abs(leaf).max(axis=(0, 2)) for leaf in wanted]).max(axis=0)
    unit = jnp.where(size > 0.0, size, 1.0)[None, :, None]
    wanted = tuple(leaf / unit for leaf in wanted)

    def evaluated(adjoints: Leaves) -> tuple[Leaves, Any]:
        pulled = pull_states(adjoints)[0]
        return tuple(w + p for w, p in zip(wanted, pulled, strict=True)), onward

    adjoints, report = _iterated(
        settings, wanted, evaluated, partial(jax.tree.map, later), not settings.reverse
    )
    by_scan = partial(_adjoints_by_scan, settings, problem, states, wanted)
    adjoints = _mixed(report.converged, adjoints, by_scan)
    adjoints = tuple(leaf * unit for leaf in adjoints)

    def steps(differentiable: tuple) -> Leaves:
        weight, bias, projected, carries = differentiable
        free = problem._replace(weight=weight, bias=bias, projected=projected, carries=carries)
        return _all_steps(settings, free, states)

    return jax.vjp(steps, arguments)[1](adjoints)[0]


def _transposed(jacobian: Any) -> Any:
    if isinstance(jacobian, list):
        return [list(column) for column in zip(*jacobian, strict=True)]
    return jnp.swapaxes(jacobian, -1, -2)


_RULES = Rules(_value, _backward, _plain)
