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

from transformer_jax.functional.native_kernels import call_kernel, refusals_here
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
    return reasons + refusals_here()


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
    outputs, state, memory, memories, activated = call_kernel(
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
    d_gates, d_state, d_memory = call_kernel(
        "lstm_backward", (activated.shape, row, row), operands, reverse=reverse
    )
    return (d_state, d_memory), (d_gates,)


def _flags(steps: Array | None) -> Array:
    return jnp.zeros((0,), bool) if steps is None else steps
