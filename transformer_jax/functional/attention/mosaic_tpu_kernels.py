"""The three kernels of attention on a TPU, and the derivative that they make together.

Grids are ``(batch, heads, block, ...)`` with the axis that is summed over innermost. A vector with one number a
query or key lies along the lanes as a row ``[1, length]``, which costs no padding in memory. The forward and the
query kernel hold scores as ``[queries, keys]`` and need the queries' vectors upright; the key kernel holds them as
``[keys, queries]`` and needs the keys' upright, so that no product has a transposed left side. Upright copies are
made once for each outer block.

Source: Dao et al. 2022, https://arxiv.org/abs/2205.14135, algorithms 1 and 4; Dao 2023,
https://arxiv.org/abs/2307.08691, sections 3.1 and 3.2.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from transformer_jax.functional.attention.mosaic_tpu_plan import LANES, Plan, Run
from transformer_jax.typing import Array


class Sides(NamedTuple):
    """Numbers of single queries and keys, as in ``Plan``: positions first, then segments, then validity.

    Attributes:
      query_rows: int32 ``[batch|1, 1, padded q_len]``.
      key_rows: int32 ``[batch|1, 1, padded kv_len]``.
      key_lengths: int32 ``[batch|1, 1, 1]``; ``None`` = all slots are there.
    """

    query_rows: tuple[Any, ...]
    key_rows: tuple[Any, ...]
    key_lengths: Any


class _Saved(NamedTuple):
    """Residuals that the backward kernels read besides the inputs; ``delta`` is the product of output and its gradient.

    Attributes:
      d_output: ``[batch, heads, padded q_len, value width]``.
      logsumexp: float32 ``[batch, heads, 1, padded q_len]``; 0 in empty rows.
      delta: float32 ``[batch, heads, 1, padded q_len]``.
    """

    d_output: Any
    logsumexp: Any
    delta: Any


class _Inputs(NamedTuple):
    """Arrays in the chip's large memory, or their blocks inside a kernel."""

    query: Any
    key: Any
    value: Any
    slopes: Any
    sides: Sides
    saved: _Saved | None


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def flash_attention(
    plan: Plan, query: Array, key: Array, value: Array, slopes: Array | None, sides: Sides
) -> Array:
    """Attention of padded arrays.

    Args:
      plan: Blocks, mask and precision.
      query: ``[batch, heads, padded q_len, width]``.
      key: ``[batch, kv_heads, padded kv_len, width]``.
      value: ``[batch, kv_heads, padded kv_len, value width]``.
      slopes: Of ALiBi, ``[heads, 1, 1]``.
      sides: Positions, segments, validity and lengths.

    Returns:
      ``[batch, heads, padded q_len, value width]``.
    """
    return _forward(plan, query, key, value, slopes, sides)[0]


# Compiled once for a plan and shapes, also where a caller compiles nothing.
@functools.partial(jax.jit, static_argnums=0)
def _forward(
    plan: Plan, query: Array, key: Array, value: Array, slopes: Array | None, sides: Sides
) -> tuple[Array, tuple]:
    batch, heads, q_len, _ = query.shape
    inputs = _Inputs(query, key, value, slopes, sides, None)
    grid = (batch, heads, plan.num_query_blocks, plan.key_steps)
    group = heads // key.shape[1]

    def place(b: Any, h: Any, i: Any, step: Any) -> tuple[Any, ...]:
        return b, h, lax.div(h, jnp.int32(group)), i, _stay(plan.keys_of(i), step)

    shapes = (
        jax.ShapeDtypeStruct((batch, heads, q_len, value.shape[3]), value.dtype),
        jax.ShapeDtypeStruct((batch, heads, 1, q_len), jnp.float32),
    )
    scratch = {
        "maximum": pltpu.VMEM((plan.query_block, LANES), jnp.float32),
        "total": pltpu.VMEM((plan.query_block, LANES), jnp.float32),
        "accumulator": pltpu.VMEM((plan.query_block, value.shape[3]), jnp.float32),
        "columns": _columns_scratch(len(sides.query_rows), plan.query_block, jnp.int32),
    }
    output, logsumexp = _call(
        _forward_kernel, plan, inputs, grid, place, shapes, ("query", "query row"), scratch
    )
    return output, (query, key, value, slopes, sides, output, logsumexp)


@functools.partial(jax.jit, static_argnums=0)
def _backward(plan: Plan, residuals: tuple, d_output: Array) -> tuple[Any, ...]:
    query, key, value, slopes, sides, output, logsumexp = residuals
    batch, heads, q_len, width = query.shape
    kv_heads, value_width = key.shape[1], value.shape[3]
    group = heads // kv_heads
    delta = (d_output.astype(jnp.float32) * output.astype(jnp.float32)).sum(axis=-1)[:, :, None, :]
    inputs = _Inputs(query, key, value, slopes, sides, _Saved(d_output, logsumexp, delta))

    def by_queries(b: Any, h: Any, i: Any, step: Any) -> tuple[Any, ...]:
        return b, h, lax.div(h, jnp.int32(group)), i, _stay(plan.keys_of(i), step)

    shapes = [jax.ShapeDtypeStruct(query.shape, query.dtype)]
    places = ["query"]
    scratch = {
        "accumulator": pltpu.VMEM((plan.query_block, width), jnp.float32),
        "columns": _columns_scratch(len(sides.query_rows), plan.query_block, jnp.int32),
        "logsumexp": pltpu.VMEM((plan.query_block, LANES), jnp.float32),
        "delta": pltpu.VMEM((plan.query_block, LANES), jnp.float32),
    }
    if slopes is not None:
        shapes.append(jax.ShapeDtypeStruct((batch, heads, 1, q_len), jnp.float32))
        places.append("query row")
        scratch["d_slope"] = pltpu.VMEM((plan.query_block, LANES), jnp.float32)
    grid: tuple[int, ...] = (batch, heads, plan.num_query_blocks, plan.key_steps)
    d_query, *rest = _call(
        _query_kernel, plan, inputs, grid, by_queries, tuple(shapes), tuple(places), scratch
    )
    d_slopes = None if slopes is None else -rest[0].sum(axis=(0, 2, 3))[:, None, None]

    def by_keys(b: Any, n: Any, j: Any, member: Any, step: Any) -> tuple[Any, ...]:
        return b, n * group + member, n, _stay(plan.queries_of(j), step), j

    scratch = {
        "d_key": pltpu.VMEM((plan.key_block, width), jnp.float32),
        "d_value": pltpu.VMEM((plan.key_block, value_width), jnp.float32),
        "columns": _columns_scratch(len(sides.key_rows), plan.key_block, jnp.int32),
    }
    grid = (batch, kv_heads, plan.num_key_blocks, group, plan.query_steps)
    shapes = [jax.ShapeDtypeStruct(key.shape, key.dtype), jax.ShapeDtypeStruct(value.shape, value.dtype)]
    d_key, d_value = _call(_key_kernel, plan, inputs, grid, by_keys, tuple(shapes), ("key", "key"), scratch)
    return d_query, d_key, d_value, d_slopes, None


flash_attention.defvjp(_forward, _backward)


def _forward_kernel(plan: Plan, inputs: _Inputs, outputs: tuple, scratch: dict[str, Any]) -> None:
    output, logsumexp = outputs
    maximum, total, accumulator = scratch["maximum"], scratch["total"], scratch["accumulator"]
    i, step = pl.program_id(2), pl.program_id(3)
    run = plan.keys_of(i)
    j = run.first + step

    @pl.when(step == 0)
    def _start() -> None:
        maximum[...] = jnp.full(maximum.shape, -jnp.inf, jnp.float32)
        total[...] = jnp.zeros(total.shape, jnp.float32)
        accumulator[...] = jnp.zeros(accumulator.shape, jnp.float32)
        _stand_up(inputs.sides.query_rows, scratch["columns"])

    @pl.when(_is_needed(plan, inputs, j <= run.last, j))
    def _visit() -> None:
        vectors = _stood_up(scratch["columns"], inputs.sides.query_rows), _rows(inputs.sides.key_rows)
        scores, _ = _scores(plan, inputs, vectors, (i, j), query_axis=0)  # [queries, keys]
        before = maximum[:, :1]
        after = jnp.maximum(before, scores.max(axis=1, keepdims=True))
        # A row that has seen nothing yet must not subtract infinity from itself.
        shift = jnp.where(after == -jnp.inf, 0.0, after)
        weights = jnp.exp(scores - shift)
        shrink = jnp.exp(before - shift)
        value = inputs.value[...]
        added = _product(plan, weights.astype(value.dtype), value, (1, 0))
        accumulator[...] = shrink * accumulator[...] + added
        total[...] = _broad(shrink * total[:, :1] + weights.sum(axis=1, keepdims=True))
        maximum[...] = _broad(after)

    @pl.when(step == plan.key_steps - 1)
    def _finish() -> None:
        is_empty = total[...] == 0.0
        divisor = jnp.where(is_empty, 1.0, total[...])
        output[...] = (accumulator[...] / divisor[:, :1]).astype(output.dtype)
        # Every score of an empty row is minus infinity: with any finite number here its weights are zero again.
        sums = jnp.where(is_empty, 0.0, maximum[...] + jnp.log(divisor))
        logsumexp[...] = sums.T[:1]


def _query_kernel(plan: Plan, inputs: _Inputs, outputs: tuple, scratch: dict[str, Any]) -> None:
    accumulator, d_slope = scratch["accumulator"], scratch.get("d_slope")
    saved: Any = inputs.saved
    i, step = pl.program_id(2), pl.program_id(3)
    run = plan.keys_of(i)
    j = run.first + step

    @pl.when(step == 0)
    def _start() -> None:
        accumulator[...] = jnp.zeros(accumulator.shape, jnp.float32)
        if d_slope is not None:
            d_slope[...] = jnp.zeros(d_slope.shape, jnp.float32)
        _stand_up(inputs.sides.query_rows, scratch["columns"])
        scratch["logsumexp"][...] = _upright(saved.logsumexp[...])
        scratch["delta"][...] = _upright(saved.delta[...])

    @pl.when(_is_needed(plan, inputs, j <= run.last, j))
    def _visit() -> None:
        vectors = _stood_up(scratch["columns"], inputs.sides.query_rows), _rows(inputs.sides.key_rows)
        scores, distance = _scores(plan, inputs, vectors, (i, j), query_axis=0)  # [queries, keys]
        weights = jnp.exp(scores - scratch["logsumexp"][:, :1])
        d_weights = _product(plan, saved.d_output[...], inputs.value[...], (1, 1))
        d_scores = weights * (d_weights - scratch["delta"][:, :1])
        key = inputs.key[...]
        accumulator[...] += _product(plan, d_scores.astype(key.dtype), key, (1, 0))
        if d_slope is not None:
            d_slope[...] += _broad((d_scores * distance).sum(axis=1, keepdims=True))

    @pl.when(step == plan.key_steps - 1)
    def _finish() -> None:
        outputs[0][...] = (accumulator[...] * plan.scale).astype(outputs[0].dtype)
        if d_slope is not None:
            outputs[1][...] = d_slope[...].T[:1]


def _key_kernel(plan: Plan, inputs: _Inputs, outputs: tuple, scratch: dict[str, Any]) -> None:
    d_key, d_value = scratch["d_key"], scratch["d_value"]
    saved: Any = inputs.saved
    j, member, step = pl.program_id(2), pl.program_id(3), pl.program_id(4)
    run = plan.queries_of(j)
    i = run.first + step

    @pl.when((member == 0) & (step == 0))
    def _start() -> None:
        d_key[...] = jnp.zeros(d_key.shape, jnp.float32)
        d_value[...] = jnp.zeros(d_value.shape, jnp.float32)
        _stand_up(inputs.sides.key_rows, scratch["columns"])

    @pl.when(_is_needed(plan, inputs, i <= run.last, j))
    def _visit() -> None:
        vectors = _rows(inputs.sides.query_rows), _stood_up(scratch["columns"], inputs.sides.key_rows)
        scores, _ = _scores(plan, inputs, vectors, (i, j), query_axis=1)  # [keys, queries]
        weights = jnp.exp(scores - saved.logsumexp[...])
        d_output, query = saved.d_output[...], inputs.query[...]
        d_value[...] += _product(plan, weights.astype(d_output.dtype), d_output, (1, 0))
        d_weights = _product(plan, inputs.value[...], d_output, (1, 1))
        d_scores = weights * (d_weights - saved.delta[...])
        d_key[...] += _product(plan, d_scores.astype(query.dtype), query, (1, 0))

    @pl.when((member == pl.num_programs(3) - 1) & (step == plan.query_steps - 1))
    def _finish() -> None:
        outputs[0][...] = (d_key[...] * plan.scale).astype(outputs[0].dtype)
        outputs[1][...] = d_value[...].astype(outputs[1].dtype)


def _scores(
    plan: Plan, inputs: _Inputs, vectors: tuple[list, list], blocks: tuple[Any, Any], query_axis: int
) -> tuple[Array, Array | None]:
    """Scores of a block, minus infinity where the mask hides the key, and the distances that ALiBi needs.

    ``vectors`` are those of queries and keys, one of them upright, so that they broadcast to the scores' shape.
    """
    query_vectors, key_vectors = list(vectors[0]), list(vectors[1])
    sides = (inputs.query[...], inputs.key[...])
    scores = _product(plan, sides[query_axis], sides[1 - query_axis], (1, 1)) * plan.scale
    shape = scores.shape
    first_query, first_key = blocks[0] * plan.query_block, blocks[1] * plan.key_block
    slots = first_key + lax.broadcasted_iota(jnp.int32, shape, 1 - query_axis)
    if plan.has_positions:
        ahead = key_vectors.pop(0) - query_vectors.pop(0)
    else:
        ahead = slots - (first_query + lax.broadcasted_iota(jnp.int32, shape, query_axis))
    distance = None
    if inputs.slopes is not None:
        distance = jnp.abs(ahead).astype(jnp.float32)
        scores = scores - inputs.slopes[0, 0] * distance
    parts = []
    if plan.right is not None:
        parts.append(ahead <= plan.right)
    if plan.left is not None:
        parts.append(ahead >= -plan.left)
    segments = zip(query_vectors, key_vectors)  # where keys have a row more, it is their validity
    parts.extend(own == other for own, other in segments)
    if plan.has_valid:
        parts.append(jnp.broadcast_to(key_vectors[-1], shape) != 0)
    if plan.has_lengths:
        parts.append(slots < inputs.sides.key_lengths[0, 0])
    if parts:
        scores = jnp.where(functools.reduce(jnp.logical_and, parts), scores, -jnp.inf)
    return scores, distance


def _product(plan: Plan, left: Array, right: Array, axes: tuple[int, int]) -> Array:
    """Product of two matrices over the named axes, summed in float32."""
    numbers = (((axes[0],), (axes[1],)), ((), ()))
    return lax.dot_general(left, right, numbers, precision=plan.precision, preferred_element_type=jnp.float32)


def _is_needed(plan: Plan, inputs: _Inputs, is_in_run: Array, key_block: Array) -> Array:
    """Whether a block has something to see: it is in its run, and its keys are not all past the length."""
    if not plan.has_lengths:
        return is_in_run
    return is_in_run & (key_block * plan.key_block < inputs.sides.key_lengths[0, 0])


def _stay(run: Run, step: Array) -> Array:
    """The block that a step reads; the same block as in the last step is not fetched again."""
    return jnp.minimum(run.first + step, run.last)


def _broad(column: Array) -> Array:
    """``[length, 1]`` to ``[length, LANES]``."""
    return jnp.broadcast_to(column, (column.shape[0], LANES))


def _upright(row: Array) -> Array:
    """``[1, length]`` to ``[length, LANES]``, equal along the lanes."""
    return jnp.broadcast_to(row, (LANES, row.shape[1])).T


def _stand_up(rows: tuple[Any, ...], columns: Any) -> None:
    for number, row in enumerate(rows):
        columns[number] = _upright(row[...])


def _stood_up(columns: Any, rows: tuple[Any, ...]) -> list[Array]:
    return [columns[number][:, :1] for number in range(len(rows))]


def _rows(rows: tuple[Any, ...]) -> list[Array]:
    return [row[...] for row in rows]


def _columns_scratch(count: int, length: int, dtype: Any) -> Any:
    """Room for upright vectors; at least one register, as an array must not be empty."""
    return pltpu.VMEM((count, length, LANES) if count else (1, 8, LANES), dtype)


def _call(
    kernel: Callable[..., None],
    plan: Plan,
    inputs: _Inputs,
    grid: tuple[int, ...],
    place: Callable[..., tuple[Any, ...]],
    shapes: tuple[jax.ShapeDtypeStruct, ...],
    kinds: tuple[str, ...],
    scratch: dict[str, Any],
) -> Any:
    """Run a kernel over a grid.

    ``place`` says for a point of the grid which row of the batch, query head, key head, query block and key block
    it is at; ``kinds`` says how each output is cut, as one of the names in ``_spec``.
    """
    specs = _Inputs(
        query=_spec("query", inputs.query.shape, plan, place),
        key=_spec("key", inputs.key.shape, plan, place),
        value=_spec("key", inputs.value.shape, plan, place),
        slopes=None if inputs.slopes is None else _spec("slope", inputs.slopes.shape, plan, place),
        sides=Sides(
            tuple(_spec("query side", row.shape, plan, place) for row in inputs.sides.query_rows),
            tuple(_spec("key side", row.shape, plan, place) for row in inputs.sides.key_rows),
            None
            if inputs.sides.key_lengths is None
            else _spec("length", inputs.sides.key_lengths.shape, plan, place),
        ),
        saved=None
        if inputs.saved is None
        else _Saved(
            _spec("query", inputs.saved.d_output.shape, plan, place),
            _spec("query row", inputs.saved.logsumexp.shape, plan, place),
            _spec("query row", inputs.saved.delta.shape, plan, place),
        ),
    )
    parallel = 3  # what follows them comes back to the same block of the output
    semantics = (pltpu.PARALLEL,) * parallel + (pltpu.ARBITRARY,) * (len(grid) - parallel)

    def body(inputs: Any, *rest: Any) -> None:
        kernel(plan, inputs, rest[: len(shapes)], dict(zip(scratch, rest[len(shapes) :])))

    return pl.pallas_call(
        body,
        grid=grid,
        in_specs=(specs,),
        out_specs=tuple(_spec(kind, shape.shape, plan, place) for kind, shape in zip(kinds, shapes)),
        out_shape=shapes,
        scratch_shapes=list(scratch.values()),
        # The interpreters know no parallel axes, and one of them fails on the axis that vmap adds.
        compiler_params=None if plan.interpreter else pltpu.CompilerParams(dimension_semantics=semantics),
        interpret={None: False, "plain": True, "tpu": pltpu.InterpretParams()}[plan.interpreter],
        name=kernel.__name__.strip("_"),
    )(inputs)


def _spec(kind: str, shape: tuple[int, ...], plan: Plan, place: Callable[..., tuple[Any, ...]]) -> Any:
    """Block specification of a kind of array: its block, and the one that a point of the grid reads."""
    query_block, key_block = plan.query_block, plan.key_block
    blocks: dict[str, tuple[tuple[int | None, ...], Callable[..., tuple[Any, ...]]]] = {
        "query": ((None, None, query_block, shape[-1]), lambda b, h, n, i, j: (b, h, i, 0)),
        "query row": ((None, None, 1, query_block), lambda b, h, n, i, j: (b, h, 0, i)),
        "key": ((None, None, key_block, shape[-1]), lambda b, h, n, i, j: (b, n, j, 0)),
        "query side": ((None, 1, query_block), lambda b, h, n, i, j: (_row_of(shape, b), 0, i)),
        "key side": ((None, 1, key_block), lambda b, h, n, i, j: (_row_of(shape, b), 0, j)),
        "slope": ((None, 1, 1), lambda b, h, n, i, j: (h, 0, 0)),
        "length": ((None, 1, 1), lambda b, h, n, i, j: (_row_of(shape, b), 0, 0)),
    }
    block, index = blocks[kind]
    is_number = kind in ("slope", "length")
    return pl.BlockSpec(
        block, lambda *point: index(*place(*point)), memory_space=pltpu.SMEM if is_number else None
    )


def _row_of(shape: tuple[int, ...], row: Any) -> Any:
    """A part of the mask with one row serves the whole batch."""
    return row if shape[0] > 1 else 0
