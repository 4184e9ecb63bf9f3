r"""The LSTM of the native library: all steps of some rows in one kernel, the recurrent weight packed once.

The recurrence is that of ``scan``, with the projections of the inputs and the weights' gradients left to XLA as there.
A step of the kernel goes from the product of the state to gates, memory and state in registers. Rows do not know each
other, so that threads take rows and need not wait for each other at any step.

Source: Hochreiter & Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735; the folded gates are those of
``fused.py``.
"""

from typing import Any

import jax
import jax.numpy as jnp

from transformer_jax import native
from transformer_jax.functional.derivatives import varying_alike
from transformer_jax.functional.device_record import default_device
from transformer_jax.functional.recurrent.cells import Carry, Cell, LSTMCell
from transformer_jax.functional.recurrent.fused import FoldedWeights
from transformer_jax.functional.recurrent.scan import Steps, fused_scan
from transformer_jax.typing import Array, Bool, Float


def refusals(cell: Cell, inputs: Array, carry: Carry) -> list[str]:
    """Reasons not to do a case here."""
    reasons = []
    if type(cell) is not LSTMCell:
        reasons.append(f"it runs an LSTMCell alone, not {type(cell).__name__}")
    else:
        dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves((cell, inputs, carry))}
        if dtypes != {"float32"}:
            reasons.append(f"it runs in float32 alone, not with {' and '.join(sorted(dtypes - {'float32'}))}")
    platform = default_device().platform
    if platform != "cpu":
        reasons.append(f"it needs a CPU, and the default device is a {platform}")
    missing = native.why_missing()
    return reasons if missing is None else [*reasons, missing]


def run_native(
    cell: Cell,
    inputs: Float[Array, "time batch features"],
    carry: Carry,
    valid: Bool[Array, "time batch"] | None,
    resets: Bool[Array, "time batch"] | None,
    *,
    reverse: bool,
    unroll: int,
) -> tuple[Float[Array, "time batch hidden"], Carry]:
    """The recurrence by the native kernel.

    Raises:
      NotImplementedError: With every reason not to do the case.
    """
    reasons = refusals(cell, inputs, carry)
    if reasons:
        raise NotImplementedError("native_cpu cannot do this recurrence: " + "; ".join(reasons))
    steps = None if 0 in inputs.shape[:2] else Steps(_forward, _backward)  # there are none to make
    return fused_scan(cell, inputs, carry, valid, resets, reverse=reverse, unroll=unroll, steps=steps)


def _forward(
    folded: FoldedWeights, projected: Array, carries: tuple[Array, Array],
    valid: Array | None, resets: Array | None, *, keep: bool, reverse: bool,
) -> Any:  # fmt: skip
    num_steps, batch, gates = projected.shape
    hidden = gates // 4
    sequence, row = (num_steps, batch, hidden), (batch, hidden)
    kept = (sequence, projected.shape) if keep else ((0,), (0,))
    operands = (folded.recurrent_weight, projected, *carries, _flags(valid), _flags(resets))
    outputs, state, memory, memories, activated = _kernel(
        "lstm_forward", (sequence, row, row, *kept), operands, reverse=reverse
    )
    return (state, memory), ((outputs, (memories,), (activated, memories)) if keep else outputs)


def _backward(
    folded: FoldedWeights, final: tuple[Array, Array], outputs: Array,
    valid: Array | None, resets: Array | None, previous: tuple[Array, Array], saved: tuple[Array, Array],
    *, reverse: bool,
) -> Any:  # fmt: skip
    activated, memories = saved
    row = final[0].shape
    operands = (
        folded.recurrent_weight, outputs, *final, previous[1], memories, activated, _flags(valid), _flags(resets)
    )  # fmt: skip
    d_gates, d_state, d_memory = _kernel(
        "lstm_backward", (activated.shape, row, row), operands, reverse=reverse
    )
    return (d_state, d_memory), (d_gates,)


def _flags(steps: Array | None) -> Array:
    return jnp.zeros((0,), bool) if steps is None else steps


def _kernel(
    handler: str, shapes: tuple[tuple[int, ...], ...], operands: tuple[Array, ...], *, reverse: bool
) -> tuple[Array, ...]:
    library = native.library()
    if library is None:  # its users asked `refusals` before
        raise NotImplementedError(native.why_missing())
    results = tuple(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    kernel = jax.ffi.ffi_call(library.target(handler), results, vmap_method="broadcast_all")
    operands = varying_alike(*operands)
    # JAX does not know that results vary over the axes of a mesh that the operands do.
    return varying_alike(*kernel(*operands, reverse=reverse), operands[0])[:-1]
