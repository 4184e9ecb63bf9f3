"""One recurrence for every cell, with lengths, direction and initial carry."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.errors import ConfigError, ShapeError, nearest_hint
from transformer_jax.functional import device_record
from transformer_jax.functional.dtypes import as_array, wide
from transformer_jax.functional.recurrent import cudnn_recurrence as cudnn
from transformer_jax.functional.recurrent.cells import Carry, Cell
from transformer_jax.functional.recurrent.linear_recurrence import LinearCell, run_linear
from transformer_jax.functional.recurrent.native_lstm import run_native
from transformer_jax.functional.recurrent.parallel import Jacobian, ParallelReport, run_parallel
from transformer_jax.functional.recurrent.scan import fused_scan, plain_scan
from transformer_jax.functional.row_shards import RECURRENT_AXES, by_row_shards
from transformer_jax.typing import Array, Float, Int


def _scan(cell: Cell, *arguments: Any, **options: Any) -> tuple[Array, Carry]:
    if isinstance(cell, LinearCell):
        return run_linear(cell, *arguments, **options, method="sequential")
    return fused_scan(cell, *arguments, **options)


def _parallel(*arguments: Any, **options: Any) -> tuple[Array, Carry]:
    outputs, carry, _ = run_parallel(*arguments, **options)
    return outputs, carry


IMPLEMENTATIONS: dict[str, Callable] = {
    "scan": _scan,
    "associative": partial(run_linear, method="associative"),
    "reference": plain_scan,
    "parallel": _parallel,
    "cudnn": cudnn.run_cudnn,
    "native_cpu": run_native,
}
"""By name."""

BY_DEFAULT = ("scan", "associative", "reference")
"""Implementations that ``implementation=None`` tries, in this order; the others are used by name only.

On an accelerator whose measurements are committed the fastest there of these and of ``cudnn`` comes first, on a CPU
``native_cpu`` where it can do the case."""

NATIVE_FROM_ROWS = 2
"""Rows of a batch from which on the native LSTM is taken: see ``benchmarks/results/recurrence-cpu.json``."""


def recurrence(
    cell: Cell,
    inputs: Float[Array, "batch time features"],
    *,
    lengths: Int[Array, "batch"] | None = None,
    segments: Int[Array, "batch time"] | None = None,
    initial_carry: Carry | None = None,
    reverse: bool = False,
    unroll: int = 1,
    implementation: str | None = None,
) -> tuple[Float[Array, "batch time hidden"], Carry]:
    r"""Run a cell over sequences.

    .. math:: (k_t, y_t) = \mathrm{step}(k_{t-1}, \mathrm{project}(x_t)), \quad t = 1 \dots \mathrm{length}

    Args:
      cell: The cell with its parameters.
      inputs: Sequences, padded at the end. What the padding holds (NaN too) reaches neither values nor
        gradients.
      lengths: Steps of each row, 0 to ``time``; all ``time`` when ``None``. Steps past the length freeze the
        carry and give zeros; a row of length 0 returns its initial carry.
      segments: A number for each step, as for :meth:`AttentionMask.segments`: where it changes from one step to
        the next, the carry starts again from zeros, so that sequences packed into one row do not see each other.
      initial_carry: The carry before the first step; zeros when ``None``.
      reverse: Run each row from its own last step to its first. Outputs stay in the order of the inputs.
      unroll: Steps per iteration of the compiled loop; 1 was best in most cases measured on CPUs. Without a
        loop it has no meaning.
      implementation: ``"scan"`` (gates folded, own backward pass; no forward-mode derivatives),
        ``"associative"`` (all steps at once in a tree; cells linear in their carry alone; likewise),
        ``"reference"`` (plain ``lax.scan``, any cell), ``"parallel"`` (all steps at once by Newton's method, see
        :func:`parallel_recurrence`), ``"cudnn"`` (LSTM in float32 on an NVIDIA GPU), ``"native_cpu"`` (LSTM in
        float32 by the native library, with the derivatives of ``scan``), or ``None`` for what the library's
        measurements say: the native kernel where it is there, or else the first of these that can.

    Returns:
      The outputs, in the dtype of the inputs, and the carry after each row's last step, in float32 (float64 where
      cell, inputs or carry are).

    Raises:
      ShapeError: If the shapes of lengths, segments or carry do not fit, or a length known at trace time is outside
        0 to ``time``.
      ConfigError: If the implementation is unknown or ``unroll`` is not positive.
      NotImplementedError: If the named implementation cannot do the case.

    Example:
      >>> from transformer_jax.functional.recurrent import RNNCell
      >>> cell = RNNCell(jnp.ones((1, 1)), jnp.ones((1, 1)), jnp.zeros(1), "relu")
      >>> outputs, carry = recurrence(cell, jnp.ones((2, 3, 1)), lengths=jnp.array([3, 2]))
      >>> outputs[..., 0].tolist(), carry[..., 0].tolist()
      ([[1.0, 2.0, 3.0], [1.0, 2.0, 0.0]], [3.0, 2.0])
    """
    if unroll < 1:
        raise ConfigError(f"unroll must be at least 1; got {unroll}")
    whole = partial(_implementation(implementation), reverse=reverse, unroll=unroll)
    inputs = as_array("inputs", inputs)
    arguments = _time_major(cell, inputs, lengths, segments, initial_carry, reverse)
    run = by_row_shards(whole, (None, 1, 0, 1, 1), (1, 0), inputs.shape[0], over=RECURRENT_AXES)
    outputs, carry = run(cell, *arguments)
    return outputs.astype(inputs.dtype).swapaxes(0, 1), carry


def parallel_recurrence(
    cell: Cell,
    inputs: Float[Array, "batch time features"],
    *,
    lengths: Int[Array, "batch"] | None = None,
    segments: Int[Array, "batch time"] | None = None,
    initial_carry: Carry | None = None,
    reverse: bool = False,
    jacobian: Jacobian = "diagonal",
    tolerance: float | None = None,
    max_iterations: int | None = None,
) -> tuple[Float[Array, "batch time hidden"], Carry, ParallelReport]:
    r"""Run an RNN, LSTM or GRU over all time steps at once by Newton's method; :func:`recurrence` with a report.

    Rows whose residual does not fall below the tolerance are done again by a scan, so that the result is that of
    ``recurrence`` in every row; so are their gradients. On a CPU a scan is faster in every case measured: see
    ``docs/recurrence.md``.

    Args:
      cell: An ``RNNCell``, ``LSTMCell`` or ``GRUCell``.
      inputs: Sequences, padded at the end.
      lengths: As in :func:`recurrence`, like the next three.
      segments: Where they change the carry starts again from zeros.
      initial_carry: The carry before the first step.
      reverse: From each row's last step to its first.
      jacobian: ``"diagonal"`` (of each unit by itself: many cheap steps) or ``"full"`` (few steps, each of ``time``
        products of matrices ``[n, n]``, and memory ``time * batch * n * n``, with ``n`` the width of the carry).
      tolerance: Of the residual, relative where the state is larger than 1; 1e-6 (float64: 2e-15) when ``None``.
      max_iterations: Newton steps, at most; ``time + 1``, but not more than 128, when ``None``.

    Returns:
      The outputs, the carry after each row's last step, and the report: steps made, residuals, and which rows
      converged.

    Raises:
      ShapeError: As :func:`recurrence`.
      ConfigError: If the Jacobian is unknown, the tolerance negative or ``max_iterations`` not positive.
      NotImplementedError: If the cell is of another type.

    Example:
      >>> from transformer_jax.functional.recurrent import RNNCell
      >>> cell = RNNCell(jnp.ones((1, 1)), 0.5 * jnp.ones((1, 1)), jnp.zeros(1))
      >>> outputs, _, report = parallel_recurrence(cell, jnp.ones((1, 8, 1)), jacobian="full")
      >>> same, _ = recurrence(cell, jnp.ones((1, 8, 1)))
      >>> bool(jnp.allclose(outputs, same, atol=1e-6)), report.converged.tolist()
      (True, [True])

    Source: see the module ``transformer_jax.functional.recurrent.parallel``.
    """
    inputs = as_array("inputs", inputs)
    outputs, carry, report = run_parallel(
        cell, *_time_major(cell, inputs, lengths, segments, initial_carry, reverse),
        reverse=reverse, unroll=1, jacobian=jacobian, tolerance=tolerance, max_iterations=max_iterations,
    )  # fmt: skip
    return outputs.astype(inputs.dtype).swapaxes(0, 1), carry, report


def step_once(
    cell: Cell, carry: Carry, inputs: Float[Array, "batch features"]
) -> tuple[Carry, Float[Array, "batch hidden"]]:
    """One step from inputs not yet projected: ``cell.step(carry, cell.project(inputs))``.

    Args:
      cell: The cell with its parameters.
      carry: The carry before the step.
      inputs: One time step's inputs.

    Returns:
      The new carry and the output, in the dtype of the inputs.

    Example:
      >>> from transformer_jax.functional.recurrent import RNNCell
      >>> cell = RNNCell(jnp.ones((1, 1)), jnp.ones((1, 1)), jnp.zeros(1), "relu")
      >>> step_once(cell, jnp.ones((1, 1)), jnp.ones((1, 1)))[1].tolist()
      [[2.0]]
    """
    _check_cell(cell)
    inputs = as_array("inputs", inputs)
    carry = _as_carry("carry", cell, carry, cell.initial_carry(inputs.shape[0]))
    carry, output = cell.step(carry, cell.project(inputs))
    return carry, output.astype(inputs.dtype)


def check_recurrence_implementation(name: str, implementation: str | None) -> None:
    """Raise ``ConfigError`` unless an implementation of the recurrence is known, or ``None``.

    Args:
      name: Of the argument or field, for the message.
      implementation: What it holds.

    Example:
      >>> check_recurrence_implementation("implementation", "scan")
    """
    if implementation is not None and implementation not in IMPLEMENTATIONS:
        known = ", ".join(f"'{known}'" for known in IMPLEMENTATIONS)
        hint = nearest_hint(implementation, IMPLEMENTATIONS)
        raise ConfigError(f"{name} must be one of {known} or None; got '{implementation}'{hint}")


def _implementation(name: str | None) -> Callable:
    check_recurrence_implementation("implementation", name)
    return _first_that_can if name is None else IMPLEMENTATIONS[name]


def _first_that_can(*arguments: object, **options: object) -> tuple[Array, Carry]:
    reasons = []
    for name in dict.fromkeys((*_measured_order(*arguments[:2]), *BY_DEFAULT)):
        run = IMPLEMENTATIONS[name]
        try:
            return run(*arguments, **options)
        except NotImplementedError as refusal:  # raised before anything is computed
            reasons.append(f"{name}: {refusal}")
    raise NotImplementedError("no implementation of the recurrence can do this case: " + "; ".join(reasons))


def _measured_order(cell: Any, inputs: Any) -> list[str]:
    """Implementations by their times in the nearest case measured on this device, ``cudnn`` if it passed there."""
    entry = device_record.entry_here()
    if entry is None:
        return ["native_cpu"] if 0 not in inputs.shape and inputs.shape[1] >= NATIVE_FROM_ROWS else []
    if 0 in inputs.shape:
        return []
    steps, batch, _ = inputs.shape
    near = {"time": float(steps), "batch": float(batch), "hidden_dim": float(cell.hidden_dim)}
    same = {"cell": type(cell).__name__, "dtype": str(inputs.dtype)}
    row = device_record.nearest(entry.times.get("recurrence", ()), same, near)
    if row is None:
        return []
    passed = entry.passed.get("recurrence", {})
    # Under vmap a refusal comes too late to choose another: what has no rule for it is taken by name alone.
    allowed = {*BY_DEFAULT, *(name for name, refused in passed.items() if "vmap" not in refused)}
    times = row["milliseconds"]
    return sorted((name for name in times if name in allowed), key=lambda name: times[name])


def _time_major(
    cell: Cell,
    inputs: Array,
    lengths: Array | None,
    segments: Array | None,
    carry: Carry | None,
    reverse: bool,
) -> tuple[Array, Carry, Array | None, Array | None]:
    """Checked arguments as implementations want them: inputs, carry, which steps exist, which start again."""
    _check_cell(cell)
    if inputs.ndim != 3 or not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise ShapeError(
            f"inputs must be [batch, time, features], floating point; got {inputs.shape} of {inputs.dtype}"
        )
    batch, num_steps, _ = inputs.shape
    if lengths is not None:
        lengths = as_array("lengths", lengths)
        _check_lengths(lengths, batch, num_steps)
    if segments is not None:
        segments = as_array("segments", segments)
        if segments.shape != (batch, num_steps):
            raise ShapeError(
                f"segments must have shape {(batch, num_steps)}, one number for each step; got {segments.shape}"
            )
    carry = _wide_carry(cell, carry, inputs)
    inputs = inputs.swapaxes(0, 1)  # [time, batch, features]
    valid = None
    if lengths is not None:
        valid = jnp.arange(num_steps, dtype=lengths.dtype)[:, None] < lengths[None, :]  # [time, batch]
        inputs = jnp.where(valid[..., None], inputs, jnp.zeros((), inputs.dtype))
    resets = None if segments is None else _resets(segments.swapaxes(0, 1), valid, reverse)
    return inputs, carry, valid, resets


def _resets(segments: Array, valid: Array | None, reverse: bool) -> Array:
    """Before which steps the carry starts again; never before the first one that exists. Time first."""
    changes = segments[1:] != segments[:-1]
    if valid is not None:
        changes = changes & valid[1:]  # the earlier of the two steps exists if the later one does
    edge = jnp.zeros_like(segments[:1], bool)
    return jnp.concatenate([changes, edge] if reverse else [edge, changes])


def _check_cell(cell: Any) -> None:
    if isinstance(cell, type) or not isinstance(cell, Cell):
        got = f"the class {cell.__name__}" if isinstance(cell, type) else type(cell).__name__
        raise ConfigError(f"cell must be a cell such as GRUCell(...), with its parameters; got {got}")


def _check_lengths(lengths: Array, batch: int, num_steps: int) -> None:
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ConfigError(f"lengths must hold integers, one for each row of inputs; got {lengths.dtype}")
    if lengths.shape != (batch,):
        raise ShapeError(
            f"lengths must have shape ({batch},), one for each row of inputs; got {lengths.shape}"
        )
    if isinstance(lengths, jax.core.Tracer):
        return  # values unknown: those above `time` act as `time`, those below 0 as 0
    values = np.asarray(lengths)
    wrong = np.flatnonzero((values < 0) | (values > num_steps))
    if wrong.size:
        row = int(wrong[0])
        raise ShapeError(
            f"lengths must be in 0..{num_steps}, the number of steps of inputs; row {row} has {values[row]}"
        )


def _wide_carry(cell: Cell, carry: Carry | None, inputs: Array) -> Carry:
    """The initial carry, float32, or float64 if any input of a step is."""
    zeros = cell.initial_carry(inputs.shape[0])
    given = zeros if carry is None else _as_carry("initial_carry", cell, carry, zeros)
    for want, have in zip(jax.tree.leaves(zeros), jax.tree.leaves(given), strict=True):
        if want.shape != have.shape:
            raise ShapeError(f"initial_carry must hold arrays of shape {want.shape}; got {have.shape}")
    matrices = [leaf for leaf in jax.tree.leaves(cell) if getattr(leaf, "ndim", 0) > 1]
    dtype = wide(inputs, *matrices, *jax.tree.leaves(zeros), *jax.tree.leaves(given))
    return jax.tree.map(lambda leaf: leaf.astype(dtype), given)


def _as_carry(name: str, cell: Cell, carry: Any, zeros: Carry) -> Carry:
    """A carry with arrays for leaves; a list of numbers is an array where the cell's carry has one."""
    structure: Any = jax.tree.structure(zeros)
    if isinstance(carry, list):
        parts = [carry] if jax.tree_util.treedef_is_leaf(structure) else carry
        if len(parts) == structure.num_leaves:
            carry = jax.tree.unflatten(structure, [as_array(name, part) for part in parts])
    got: Any = jax.tree.structure(carry)
    if structure != got:
        shown = type(carry).__name__ if carry is None or jax.tree_util.treedef_is_leaf(got) else got
        raise ShapeError(f"{name} of {type(cell).__name__} must be built like {structure}; got {shown}")
    return jax.tree.map(lambda leaf: as_array(name, leaf), carry)
