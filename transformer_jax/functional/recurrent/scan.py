"""The recurrence as one ``lax.scan``: the plain form, and the form with folded gates and its own backward
pass.

Everything here is time-major. ``valid`` says which steps of which rows exist; a step that does not freezes
the carry and gives zeros. As the steps that exist are a prefix of each row, running the scan backwards over
the same mask starts each row at its own last step. ``resets`` says before which steps, in the order in which they
run, the carry goes back to zero; it is ``None`` where no row has segments.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from transformer_jax.functional.dtypes import wide
from transformer_jax.functional.recurrent.cells import Carry, Cell, affine, operand_dtype, recur
from transformer_jax.functional.recurrent.fused import FoldedWeights, FusedCell, FusedGRU, fused_form
from transformer_jax.typing import Array, Bool, Float


def select(valid: Bool[Array, "batch"] | None, new: Any, old: Any) -> Any:
    """``new`` in the rows that are valid, ``old`` in the others, leaf by leaf."""
    if valid is None:
        return new
    return jax.tree.map(lambda x, y: jnp.where(valid[:, None], x, y), new, old)


def moved(sequence: Array, edge: Array, earlier: bool) -> Array:
    """The sequence one step earlier, or one later, ``edge`` where nothing moves in."""
    if earlier:
        return jnp.concatenate([sequence, edge[None]])[1:]
    return jnp.concatenate([edge[None], sequence])[:-1]


def cleared(resets: Bool[Array, "batch"] | None, carry: Any) -> Any:
    """The carry with zeros in the rows that reset."""
    if resets is None:
        return carry
    return jax.tree.map(lambda leaf: jnp.where(resets[:, None], 0.0, leaf), carry)


class Steps(NamedTuple):
    """Loops over the steps of a fused cell, in place of ``lax.scan``.

    Attributes:
      forward: ``(folded, projected, carries, valid, resets, *, keep, reverse) -> (carries, outputs)``; with ``keep``
        there are ``(outputs, other carries, saved)`` of every step in the place of the outputs.
      backward: ``(folded, final cotangents, output cotangents, valid, resets, previous, saved, *, reverse)
        -> (cotangents of the first carries, (cotangents of the gates,))``; ``reverse`` is that of the forward pass.
    """

    forward: Callable[..., Any]
    backward: Callable[..., Any]


def plain_scan(
    cell: Cell,
    inputs: Float[Array, "time batch features"],
    carry: Carry,
    valid: Bool[Array, "time batch"] | None,
    resets: Bool[Array, "time batch"] | None,
    *,
    reverse: bool,
    unroll: int,
) -> tuple[Float[Array, "time batch hidden"], Carry]:
    """Project, then step, differentiated by JAX: the reference, and the form for any cell."""
    projected = cell.project(inputs)

    def body(carry: Carry, at_time: tuple[Array, Array | None, Array | None]) -> tuple[Carry, Array]:
        projected_t, valid_t, resets_t = at_time
        new_carry, output = cell.step(cleared(resets_t, carry), projected_t)
        return select(valid_t, new_carry, carry), select(valid_t, output, jnp.zeros_like(output))

    carry, outputs = lax.scan(body, carry, (projected, valid, resets), reverse=reverse, unroll=unroll)
    return outputs, carry


def fused_scan(
    cell: Cell,
    inputs: Float[Array, "time batch features"],
    carry: Carry,
    valid: Bool[Array, "time batch"] | None,
    resets: Bool[Array, "time batch"] | None,
    *,
    reverse: bool,
    unroll: int,
    steps: Steps | None = None,
) -> tuple[Float[Array, "time batch hidden"], Carry]:
    """The recurrence with one ``tanh`` a step and a backward pass that leaves all weight gradients to one
    matmul.

    Forward-mode derivatives are not defined for it (``plain_scan`` has them). ``steps`` are other loops than XLA's.

    Raises:
      NotImplementedError: If the cell's type has no fused form.
    """
    form = fused_form(cell)
    if form is None:
        raise NotImplementedError(f"no fused form of {type(cell).__name__}")
    folded = form.fold(cell)
    carries = carry if isinstance(carry, tuple) else (carry,)
    run = _Run(form, reverse, unroll, projects_inside=_projects_inside(form, inputs), steps=steps)
    outputs, carries = _fused(run, folded, inputs, carries, valid, resets)
    return outputs, carries if isinstance(carry, tuple) else carries[0]


def recurrent_share(state: Array, weight: Array, bias: Array | None) -> Array:
    """The state's share of the gates, in float32 or wider."""
    product = recur(state, weight)
    return product if bias is None else product + bias.astype(product.dtype)[None, :]


class _Run(NamedTuple):
    form: FusedCell
    reverse: bool
    unroll: int
    projects_inside: bool
    steps: Steps | None


def _projects_inside(form: FusedCell, inputs: Array) -> bool:
    """Whether each step multiplies its own input: on a CPU the GRU's steps gain by it from eight rows on."""
    return isinstance(form, FusedGRU) and inputs.shape[1] >= 8 and jax.default_backend() == "cpu"


def _forward(
    run: _Run, keep: bool,
    folded: FoldedWeights, inputs: Array, carries: tuple[Array, ...], valid: Array | None, resets: Array | None,
) -> Any:  # fmt: skip
    weight, bias = folded.recurrent_weight, folded.recurrent_bias
    sequence = inputs if run.projects_inside else affine(inputs, folded.input_weight, folded.bias)
    if run.steps is not None:
        return run.steps.forward(folded, sequence, carries, valid, resets, keep=keep, reverse=run.reverse)

    def body(carries: tuple[Array, ...], at_time: tuple[Array, Array | None, Array | None]) -> Any:
        projected_t, valid_t, resets_t = at_time
        if run.projects_inside:
            projected_t = affine(projected_t, folded.input_weight, folded.bias)
        previous = cleared(resets_t, carries)
        new, saved = run.form.forward(previous, projected_t, recurrent_share(previous[0], weight, bias))
        new = select(valid_t, new, carries)
        output = select(valid_t, new[0], jnp.zeros_like(new[0]))
        return new, (output, new[1:], saved) if keep else output

    return lax.scan(body, carries, (sequence, valid, resets), reverse=run.reverse, unroll=run.unroll)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _fused(
    run: _Run,
    folded: FoldedWeights, inputs: Array, carries: tuple[Array, ...], valid: Array | None, resets: Array | None,
) -> tuple[Array, tuple[Array, ...]]:  # fmt: skip
    carries, outputs = _forward(run, False, folded, inputs, carries, valid, resets)
    return outputs, carries


def _fused_forward(
    run: _Run,
    folded: FoldedWeights, inputs: Array, carries: tuple[Array, ...], valid: Array | None, resets: Array | None,
) -> Any:  # fmt: skip
    final, (outputs, memories, saved) = _forward(run, True, folded, inputs, carries, valid, resets)
    return (outputs, final), (folded, inputs, carries, outputs, memories, saved, valid, resets)


def _previous(
    sequence: Array, initial: Array, valid: Array | None, resets: Array | None, reverse: bool
) -> Array:
    """The carry that each step started from; zeros at the steps that do not exist."""
    previous = moved(sequence, initial, reverse)
    if reverse and valid is not None:  # a row's first step in this direction is its last in time
        is_first = valid & ~moved(valid, jnp.zeros(valid.shape[1:], bool), True)
        previous = jnp.where(is_first[..., None], initial[None], previous)
    if resets is not None:
        previous = jnp.where(resets[..., None], 0.0, previous)
    return previous if valid is None else jnp.where(valid[..., None], previous, 0.0)


def _backward_steps(
    run: _Run, folded: FoldedWeights, final_cotangents: Any, output_cotangents: Array,
    valid: Array | None, resets: Array | None, previous: Any, saved: Any,
) -> Any:  # fmt: skip
    if run.steps is not None:
        return run.steps.backward(
            folded, final_cotangents, output_cotangents, valid, resets, previous, saved, reverse=run.reverse
        )

    def body(cotangents: tuple[Array, ...], at_time: Any) -> Any:
        output_cotangent, valid_t, resets_t, previous_t, saved_t = at_time
        arriving = (cotangents[0] + output_cotangent, *cotangents[1:])
        # Zero cotangents where the step does not exist: then what is emitted is zero without another pass.
        arriving = select(valid_t, arriving, jax.tree.map(jnp.zeros_like, arriving))
        through_gates, to_projected, to_recurrent = run.form.backward(arriving, previous_t, saved_t)
        to_state = recur(to_recurrent, folded.recurrent_weight.T)
        leaving = cleared(resets_t, (through_gates[0] + to_state, *through_gates[1:]))
        # Most cells give both halves the same cotangent, and then it is stored once.
        emitted = (to_projected,) if to_recurrent is to_projected else (to_projected, to_recurrent)
        return select(valid_t, leaving, cotangents), emitted

    return lax.scan(
        body,
        final_cotangents,
        (output_cotangents, valid, resets, previous, saved),
        reverse=not run.reverse,
        unroll=run.unroll,
    )


def _fused_backward(run: _Run, residuals: Any, cotangents: Any) -> Any:
    folded, inputs, carries, outputs, memories, saved, valid, resets = residuals
    weight, bias = folded.recurrent_weight, folded.recurrent_bias
    output_cotangents, final_cotangents = cotangents
    previous = tuple(
        _previous(sequence, initial, valid, resets, run.reverse)
        for sequence, initial in zip((outputs, *memories), carries, strict=True)
    )

    initial_cotangents, emitted = _backward_steps(
        run, folded, final_cotangents, output_cotangents, valid, resets, previous, saved
    )
    to_projected, to_recurrent = emitted[0], emitted[-1]
    # One matmul for all steps, two-dimensional for the reason given in ``affine``.
    dtype, num_rows = operand_dtype(previous[0], weight), math.prod(previous[0].shape[:2])
    rows = previous[0].astype(dtype).reshape(num_rows, weight.shape[0])
    row_cotangents = to_recurrent.astype(dtype).reshape(num_rows, weight.shape[1])
    weight_cotangent = jnp.matmul(rows.T, row_cotangents, preferred_element_type=wide(dtype))
    weight_cotangent = weight_cotangent.astype(weight.dtype)
    bias_cotangent = None if bias is None else to_recurrent.sum(axis=(0, 1)).astype(bias.dtype)
    projected, pull = jax.vjp(affine, inputs, folded.input_weight, folded.bias)
    to_inputs, to_input_weight, to_bias = pull(to_projected.astype(projected.dtype))
    to_folded = FoldedWeights(to_input_weight, to_bias, weight_cotangent, bias_cotangent)
    return to_folded, to_inputs, initial_cotangents, None, None


_fused.defvjp(_fused_forward, _fused_backward)
