r"""The Mosaic GPU kernels themselves: one for the output, one for each side's gradient.

Each program of the grid has three warpgroups. Two multiply, each with 64 rows of its own; the third, with few
registers, brings blocks of the other side into a ring of buffers in shared memory and never multiplies. A buffer has
two barriers: *ready*, which the copy completes, and *free*, on which each multiplying warpgroup arrives when it has
read the buffer. All three warpgroups walk over the same blocks, so that arrivals and waits are in step.

Scores are kept in powers of two, :math:`\tilde s = s \log_2 e`, as the hardware's exponential is to base two. A row
that sees nothing has sum 0 and log-sum-exp :math:`+\infty`, so that :math:`2^{\tilde s - \infty} = 0` in the backward
kernels; the running maximum starts at a large negative *finite* number, so that no difference is
:math:`\infty - \infty`.

Arrays come padded: lengths to multiples of ``TILE``, widths to multiples of 64. This module needs Pallas; it is
imported when a kernel is built.

Source: Dao 2023, https://arxiv.org/abs/2307.08691, algorithms 1 and 2; Shah et al. 2024,
https://arxiv.org/abs/2407.08608, section 3.1 (warp specialisation).
"""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from transformer_jax.functional.attention.mosaic_gpu_plan import (
    COMPUTE_GROUPS,
    GROUP_ROWS,
    STAGES,
    TILE,
    KeySide,
    Problem,
    Reach,
    Span,
    key_blocks,
    query_blocks,
    stretches,
    visible_pairs,
)
from transformer_jax.typing import Array

_LOG2_E = math.log2(math.e)
_LOWEST = -1e30  # below every score that a finite 16-bit product gives, and far from the end of float32
_COMPUTE_REGISTERS, _MEMORY_REGISTERS = 232, 40  # 2 * 232 + 40 of the 512 that four warps' threads share
_ROW_LAYOUT, _COLUMN_LAYOUT = 1, 0  # the axis that a vector of one number a row, or a column, has lost
# JAX 0.10 wants an index between the reference and the layout; later versions warn of one, or know none.
_INDEX = inspect.signature(plgpu.load).parameters.get("idx")
_WHOLE = ((),) if _INDEX is not None and _INDEX.default is inspect.Parameter.empty else ()


def forward(
    problem: Problem, query: Array, key: Array, value: Array, key_side: KeySide
) -> tuple[Array, Array]:
    """Output ``[batch, q_len, heads, value_dim]`` and log-sum-exp in powers of two ``[batch, heads, q_len]``."""
    batch, q_len, num_heads, head_dim = query.shape
    group = num_heads // key.shape[2]
    value_dim, dtype = value.shape[-1], query.dtype
    block = problem.blocks(head_dim, value_dim).forward_keys
    to_powers_of_two = problem.scale * _LOG2_E

    def body(*references: Any, **scratch: Any) -> None:
        names = iter(references)
        query_ref, key_ref, value_ref = next(names), next(names), next(names)
        side = key_side.of_references(names)
        output_ref, logsumexp_ref = next(names), next(names)
        query_buffer, ready = scratch["query"], scratch["query_ready"]
        row, head = lax.axis_index("batch"), lax.axis_index("heads")
        tile = _tile_of_queries(problem, q_len // TILE)
        warpgroup = lax.axis_index("warpgroup")
        key_stop = _key_stop(problem, side, row)
        span = key_blocks(tile * TILE, TILE, key_stop, problem.reach, block)
        ring = _Ring(scratch, span.first)

        @pl.when(warpgroup < COMPUTE_GROUPS)
        def compute() -> None:
            plgpu.set_max_registers(_COMPUTE_REGISTERS, action="increase")
            first_row = tile * TILE + warpgroup * GROUP_ROWS
            rows = pl.ds(first_row, GROUP_ROWS)
            own_query = query_buffer.at[warpgroup]
            plgpu.copy_gmem_to_smem(query_ref.at[row, rows, head], own_query, ready.at[warpgroup])
            plgpu.barrier_wait(ready.at[warpgroup])

            def visit(index: Any, carry: tuple, masked: bool) -> tuple:
                maximum, total, accumulator = carry
                slot = ring.slot(index)
                plgpu.barrier_wait(scratch["key_ready"].at[slot])
                scores = _products(own_query, scratch["key"].at[slot])
                valid = None if side.valid is None else _lent(scratch["valid"].at[slot])
                plgpu.barrier_arrive(scratch["key_free"].at[slot])
                if masked:
                    first_key = index * block
                    scores = _hidden(scores, (first_row, first_key), 0, key_stop, problem.reach, valid)
                new_maximum = jnp.maximum(maximum, scores.max(axis=1) * to_powers_of_two)
                weights = jnp.exp2(scores * to_powers_of_two - _spread(new_maximum, scores.shape, 0))
                shrink = jnp.exp2(maximum - new_maximum)
                total = total * shrink + weights.sum(axis=1)
                accumulator = accumulator * _spread(shrink, accumulator.shape, 0)
                plgpu.barrier_wait(scratch["value_ready"].at[slot])
                accumulator = _add_product(accumulator, weights.astype(dtype), scratch["value"].at[slot])
                plgpu.barrier_arrive(scratch["value_free"].at[slot])
                return new_maximum, total, accumulator

            start = (
                _filled((GROUP_ROWS,), _LOWEST),
                _filled((GROUP_ROWS,), 0.0),
                _filled((GROUP_ROWS, value_dim), 0.0),
            )
            maximum, total, accumulator = _over(span, side.valid is not None, visit, start)
            empty = total == 0.0
            divisor = jnp.where(empty, 1.0, total)
            own_output, own_sums = scratch["output"].at[warpgroup], scratch["logsumexp"].at[warpgroup]
            own_output[...] = (accumulator / _spread(divisor, accumulator.shape, 0)).astype(dtype)
            own_sums[...] = jnp.where(empty, jnp.inf, maximum + jnp.log(divisor) * _LOG2_E)
            plgpu.commit_smem()
            plgpu.copy_smem_to_gmem(own_output, output_ref.at[row, rows, head])
            plgpu.copy_smem_to_gmem(own_sums, logsumexp_ref.at[row, head, rows])
            plgpu.wait_smem_to_gmem(0)

        @pl.when(warpgroup == COMPUTE_GROUPS)
        def bring() -> None:
            plgpu.set_max_registers(_MEMORY_REGISTERS, action="decrease")
            _bring_keys(
                scratch, ring, span, block, (key_ref, value_ref, side.valid), row, lax.div(head, group)
            )

    return _kernel(
        body,
        grid=(num_heads, q_len // TILE, batch),
        out_type=(
            jax.ShapeDtypeStruct((batch, q_len, num_heads, value_dim), dtype),
            jax.ShapeDtypeStruct((batch, num_heads, q_len), jnp.float32),
        ),
        scratch={
            **_key_ring(block, head_dim, value_dim, dtype, key_side),
            "query": _tiled((COMPUTE_GROUPS, GROUP_ROWS, head_dim), dtype),
            "output": _tiled((COMPUTE_GROUPS, GROUP_ROWS, value_dim), dtype),
            "logsumexp": plgpu.SMEM((COMPUTE_GROUPS, GROUP_ROWS), jnp.float32),
            "query_ready": plgpu.Barrier(num_barriers=COMPUTE_GROUPS),
        },
        operands=[query, key, value, *key_side.operands()],
    )


def query_gradient(
    problem: Problem,
    query: Array,
    key: Array,
    value: Array,
    key_side: KeySide,
    d_output: Array,
    logsumexp: Array,
    delta: Array,
) -> Array:
    r"""Gradient of the queries: :math:`dq_i = \sum_j ds_{ij} k_j`, a tile of queries a program."""
    batch, q_len, num_heads, head_dim = query.shape
    group = num_heads // key.shape[2]
    value_dim, dtype = value.shape[-1], query.dtype
    block = problem.blocks(head_dim, value_dim).backward_keys

    def body(*references: Any, **scratch: Any) -> None:
        names = iter(references)
        query_ref, key_ref, value_ref = next(names), next(names), next(names)
        side = key_side.of_references(names)
        d_output_ref, logsumexp_ref, delta_ref, d_query_ref = names
        row, head = lax.axis_index("batch"), lax.axis_index("heads")
        tile = _tile_of_queries(problem, q_len // TILE)
        warpgroup = lax.axis_index("warpgroup")
        key_stop = _key_stop(problem, side, row)
        span = key_blocks(tile * TILE, TILE, key_stop, problem.reach, block)
        ring = _Ring(scratch, span.first)

        @pl.when(warpgroup < COMPUTE_GROUPS)
        def compute() -> None:
            plgpu.set_max_registers(_COMPUTE_REGISTERS, action="increase")
            first_row = tile * TILE + warpgroup * GROUP_ROWS
            rows = pl.ds(first_row, GROUP_ROWS)
            ready = scratch["tile_ready"].at[warpgroup]
            own_query, own_d_output = scratch["query"].at[warpgroup], scratch["d_output"].at[warpgroup]
            own_sums, own_delta = scratch["logsumexp"].at[warpgroup], scratch["delta"].at[warpgroup]
            plgpu.copy_gmem_to_smem(query_ref.at[row, rows, head], own_query, ready)
            plgpu.copy_gmem_to_smem(d_output_ref.at[row, rows, head], own_d_output, ready)
            plgpu.copy_gmem_to_smem(logsumexp_ref.at[row, head, rows], own_sums, ready)
            plgpu.copy_gmem_to_smem(delta_ref.at[row, head, rows], own_delta, ready)
            plgpu.barrier_wait(ready)
            sums, deltas = _loaded(own_sums, _ROW_LAYOUT), _loaded(own_delta, _ROW_LAYOUT)

            def visit(index: Any, carry: tuple, masked: bool) -> tuple:
                sums, deltas, d_query = carry
                slot = ring.slot(index)
                own_key, own_value = scratch["key"].at[slot], scratch["value"].at[slot]
                plgpu.barrier_wait(scratch["key_ready"].at[slot])
                scores = _products(own_query, own_key)
                if masked:
                    valid = None if side.valid is None else _lent(scratch["valid"].at[slot])
                    first_key = index * block
                    scores = _hidden(scores, (first_row, first_key), 0, key_stop, problem.reach, valid)
                weights = jnp.exp2(scores * (problem.scale * _LOG2_E) - _spread(sums, scores.shape, 0))
                plgpu.barrier_wait(scratch["value_ready"].at[slot])
                d_weights = _products(own_d_output, own_value)
                plgpu.barrier_arrive(scratch["value_free"].at[slot])
                d_scores = weights * (d_weights - _spread(deltas, scores.shape, 0))
                d_query = _add_product(d_query, d_scores.astype(dtype), own_key)
                plgpu.barrier_arrive(scratch["key_free"].at[slot])
                return sums, deltas, d_query

            start = (sums, deltas, _filled((GROUP_ROWS, head_dim), 0.0))
            _, _, d_query = _over(span, side.valid is not None, visit, start)
            own_d_query = scratch["d_query"].at[warpgroup]
            own_d_query[...] = (d_query * problem.scale).astype(dtype)
            plgpu.commit_smem()
            plgpu.copy_smem_to_gmem(own_d_query, d_query_ref.at[row, rows, head])
            plgpu.wait_smem_to_gmem(0)

        @pl.when(warpgroup == COMPUTE_GROUPS)
        def bring() -> None:
            plgpu.set_max_registers(_MEMORY_REGISTERS, action="decrease")
            _bring_keys(
                scratch, ring, span, block, (key_ref, value_ref, side.valid), row, lax.div(head, group)
            )

    tile_of_queries = _tiled((COMPUTE_GROUPS, GROUP_ROWS, head_dim), dtype)
    numbers = plgpu.SMEM((COMPUTE_GROUPS, GROUP_ROWS), jnp.float32)
    (d_query,) = _kernel(
        body,
        grid=(num_heads, q_len // TILE, batch),
        out_type=(jax.ShapeDtypeStruct(query.shape, dtype),),
        scratch={
            **_key_ring(block, head_dim, value_dim, dtype, key_side),
            "query": tile_of_queries,
            "d_output": _tiled((COMPUTE_GROUPS, GROUP_ROWS, value_dim), dtype),
            "d_query": tile_of_queries,
            "logsumexp": numbers,
            "delta": numbers,
            "tile_ready": plgpu.Barrier(num_arrivals=4, num_barriers=COMPUTE_GROUPS),
        },
        operands=[query, key, value, *key_side.operands(), d_output, logsumexp, delta],
    )
    return d_query


def key_gradients(
    problem: Problem,
    query: Array,
    key: Array,
    value: Array,
    key_side: KeySide,
    d_output: Array,
    logsumexp: Array,
    delta: Array,
) -> tuple[Array, Array]:
    r"""Gradients of keys and values: :math:`dk_j = \sum_i ds_{ij} q_i`, :math:`dv_j = \sum_i p_{ij} do_i`.

    A tile of keys a program, for all the query heads that share it: nothing is summed outside. Scores stand
    transposed, a row a key, so what a hidden key gathers stays in its own row; the caller empties it.
    """
    batch, _, num_heads, head_dim = query.shape
    kv_len, kv_heads, value_dim = value.shape[1:]
    group, dtype = num_heads // kv_heads, query.dtype
    block = problem.blocks(head_dim, value_dim).backward_queries
    key_side = key_side._replace(valid=None)

    def body(*references: Any, **scratch: Any) -> None:
        names = iter(references)
        query_ref, key_ref, value_ref = next(names), next(names), next(names)
        side = key_side.of_references(names)
        d_output_ref, logsumexp_ref, delta_ref, d_key_ref, d_value_ref = names
        row, kv_head, tile = lax.axis_index("batch"), lax.axis_index("heads"), lax.axis_index("tile")
        warpgroup = lax.axis_index("warpgroup")
        key_stop = _key_stop(problem, side, row)
        span = query_blocks(tile * TILE, TILE, problem.q_len, key_stop, problem.reach, block)

        def ring_of(member: Any) -> "_Ring":
            # The heads of the group follow each other in one ring.
            return _Ring(scratch, span.first - member * (span.stop - span.first))

        @pl.when(warpgroup < COMPUTE_GROUPS)
        def compute() -> None:
            plgpu.set_max_registers(_COMPUTE_REGISTERS, action="increase")
            first_key = tile * TILE + warpgroup * GROUP_ROWS
            keys = pl.ds(first_key, GROUP_ROWS)
            ready = scratch["tile_ready"].at[warpgroup]
            own_key, own_value = scratch["key"].at[warpgroup], scratch["value"].at[warpgroup]
            plgpu.copy_gmem_to_smem(key_ref.at[row, keys, kv_head], own_key, ready)
            plgpu.copy_gmem_to_smem(value_ref.at[row, keys, kv_head], own_value, ready)
            plgpu.barrier_wait(ready)

            def visit(ring: "_Ring", index: Any, carry: tuple, masked: bool) -> tuple:
                d_key, d_value = carry
                slot = ring.slot(index)
                some_queries, some_d_output = scratch["query"].at[slot], scratch["d_output"].at[slot]
                plgpu.barrier_wait(scratch["query_ready"].at[slot])
                scores = _products(own_key, some_queries)  # [keys, queries]
                if masked:
                    first_row = index * block
                    scores = _hidden(scores, (first_row, first_key), 1, problem.kv_len, problem.reach, None)
                sums = _lent(scratch["logsumexp"].at[slot])
                weights = jnp.exp2(scores * (problem.scale * _LOG2_E) - _spread(sums, scores.shape, 1))
                plgpu.barrier_wait(scratch["d_output_ready"].at[slot])
                d_value = _add_product(d_value, weights.astype(dtype), some_d_output)
                d_weights = _products(own_value, some_d_output)
                deltas = _lent(scratch["delta"].at[slot])
                plgpu.barrier_arrive(scratch["d_output_free"].at[slot])
                d_scores = weights * (d_weights - _spread(deltas, scores.shape, 1))
                d_key = _add_product(d_key, d_scores.astype(dtype), some_queries)
                plgpu.barrier_arrive(scratch["query_free"].at[slot])
                return d_key, d_value

            def visit_member(member: Any, carry: tuple) -> tuple:
                return _over(span, False, functools.partial(visit, ring_of(member)), carry)

            start = (_filled((GROUP_ROWS, head_dim), 0.0), _filled((GROUP_ROWS, value_dim), 0.0))
            d_key, d_value = lax.fori_loop(0, group, visit_member, start)
            own_d_key, own_d_value = scratch["d_key"].at[warpgroup], scratch["d_value"].at[warpgroup]
            own_d_key[...] = (d_key * problem.scale).astype(dtype)
            own_d_value[...] = d_value.astype(dtype)
            plgpu.commit_smem()
            plgpu.copy_smem_to_gmem(own_d_key, d_key_ref.at[row, keys, kv_head])
            plgpu.copy_smem_to_gmem(own_d_value, d_value_ref.at[row, keys, kv_head])
            plgpu.wait_smem_to_gmem(0)

        @pl.when(warpgroup == COMPUTE_GROUPS)
        def bring() -> None:
            plgpu.set_max_registers(_MEMORY_REGISTERS, action="decrease")

            @pl.loop(0, group)
            def bring_member(member: Any) -> None:
                ring, head = ring_of(member), kv_head * group + member

                @pl.loop(span.first, span.stop)
                def bring_block(index: Any) -> None:
                    slot, rows = ring.slot(index), pl.ds(index * block, block)
                    ring.await_free(index, "query_free")
                    ready = scratch["query_ready"].at[slot]
                    plgpu.copy_gmem_to_smem(query_ref.at[row, rows, head], scratch["query"].at[slot], ready)
                    own_sums = logsumexp_ref.at[row, head, rows]
                    plgpu.copy_gmem_to_smem(own_sums, scratch["logsumexp"].at[slot], ready)
                    ring.await_free(index, "d_output_free")
                    ready = scratch["d_output_ready"].at[slot]
                    own_d_output = d_output_ref.at[row, rows, head]
                    plgpu.copy_gmem_to_smem(own_d_output, scratch["d_output"].at[slot], ready)
                    plgpu.copy_gmem_to_smem(delta_ref.at[row, head, rows], scratch["delta"].at[slot], ready)

    keys = _tiled((COMPUTE_GROUPS, GROUP_ROWS, head_dim), dtype)
    values = _tiled((COMPUTE_GROUPS, GROUP_ROWS, value_dim), dtype)
    numbers = plgpu.SMEM((STAGES, block), jnp.float32)
    return _kernel(
        body,
        grid=(kv_heads, kv_len // TILE, batch),
        out_type=(jax.ShapeDtypeStruct(key.shape, dtype), jax.ShapeDtypeStruct(value.shape, dtype)),
        scratch={
            "key": keys,
            "value": values,
            "d_key": keys,
            "d_value": values,
            "query": _tiled((STAGES, block, head_dim), dtype),
            "d_output": _tiled((STAGES, block, value_dim), dtype),
            "logsumexp": numbers,
            "delta": numbers,
            "tile_ready": plgpu.Barrier(num_arrivals=2, num_barriers=COMPUTE_GROUPS),
            "query_ready": plgpu.Barrier(num_arrivals=2, num_barriers=STAGES),
            "d_output_ready": plgpu.Barrier(num_arrivals=2, num_barriers=STAGES),
            "query_free": plgpu.Barrier(num_arrivals=COMPUTE_GROUPS, num_barriers=STAGES),
            "d_output_free": plgpu.Barrier(num_arrivals=COMPUTE_GROUPS, num_barriers=STAGES),
        },
        operands=[query, key, value, *key_side.operands(), d_output, logsumexp, delta],
    )


class _Ring:
    """Which buffer holds which block: block ``first`` the first one, and so on, round and round."""

    def __init__(self, scratch: dict[str, Any], first: Any) -> None:
        self._scratch, self._first = scratch, first

    def slot(self, index: Any) -> Any:
        return lax.rem(index - self._first, jnp.asarray(STAGES, jnp.int32))

    def await_free(self, index: Any, barrier: str) -> None:
        """Wait until the block that had the buffer before is read; the first ones find it empty."""

        @pl.when(index - self._first >= STAGES)
        def wait() -> None:
            plgpu.barrier_wait(self._scratch[barrier].at[self.slot(index)])


def _bring_keys(
    scratch: dict[str, Any], ring: _Ring, span: Span, block: int, sources: tuple, row: Any, kv_head: Any
) -> None:
    """Copy the blocks of keys and values of a span, in order, each as soon as its buffer is free."""
    key_ref, value_ref, valid_ref = sources

    @pl.loop(span.first, span.stop)
    def bring_block(index: Any) -> None:
        slot, keys = ring.slot(index), pl.ds(index * block, block)
        ring.await_free(index, "key_free")
        ready = scratch["key_ready"].at[slot]
        plgpu.copy_gmem_to_smem(key_ref.at[row, keys, kv_head], scratch["key"].at[slot], ready)
        if valid_ref is not None:
            plgpu.copy_gmem_to_smem(valid_ref.at[row, keys], scratch["valid"].at[slot], ready)
        ring.await_free(index, "value_free")
        ready = scratch["value_ready"].at[slot]
        plgpu.copy_gmem_to_smem(value_ref.at[row, keys, kv_head], scratch["value"].at[slot], ready)


def _key_ring(block: int, head_dim: int, value_dim: int, dtype: Any, key_side: KeySide) -> dict[str, Any]:
    """Buffers for blocks of keys, values and the row that says which keys are valid, with their barriers."""
    has_valid = key_side.valid is not None
    free = plgpu.Barrier(num_arrivals=COMPUTE_GROUPS, num_barriers=STAGES)
    ring = {
        "key": _tiled((STAGES, block, head_dim), dtype),
        "value": _tiled((STAGES, block, value_dim), dtype),
        "key_ready": plgpu.Barrier(num_arrivals=1 + has_valid, num_barriers=STAGES),
        "value_ready": plgpu.Barrier(num_barriers=STAGES),
        "key_free": free,
        "value_free": free,
    }
    return {**ring, "valid": plgpu.SMEM((STAGES, block), jnp.float32)} if has_valid else ring


def _kernel(
    body: Callable[..., None],
    *,
    grid: tuple[int, int, int],
    out_type: tuple[jax.ShapeDtypeStruct, ...],
    scratch: dict[str, Any],
    operands: list[Array],
) -> Any:
    return plgpu.kernel(
        body,
        out_type=out_type,
        scratch_types=scratch,
        grid=grid,
        grid_names=("heads", "tile", "batch"),
        num_threads=COMPUTE_GROUPS + 1,
        thread_name="warpgroup",
        compiler_params=plgpu.CompilerParams(approx_math=True),
    )(*operands)


def _key_stop(problem: Problem, side: KeySide, row: Any) -> Any:
    return problem.kv_len if side.stops is None else side.stops[row]


def _tile_of_queries(problem: Problem, num_tiles: int) -> Any:
    """This program's tile. Under a causal mask the last one has the most keys to visit: the longest start first."""
    tile = lax.axis_index("tile")
    grows = problem.reach.ahead is not None and problem.reach.back is None
    return num_tiles - 1 - tile if grows else tile


def _over(span: Span, always_masked: bool, visit: Callable[..., Any], carry: Any) -> Any:
    """Fold over the blocks of a span."""
    for start, stop, masked in stretches(span, always_masked):
        carry = lax.fori_loop(start, stop, functools.partial(visit, masked=masked), carry)
    return carry


def _hidden(
    scores: Array, first: tuple[Any, Any], row_axis: int, key_stop: Any, reach: Reach, valid: Array | None
) -> Array:
    """Scores with minus infinity where the mask hides the pair; ``first`` are the block's first row and key."""

    def places(start: Any, axis: int) -> Array:
        return start + plgpu.broadcasted_iota(jnp.int32, scores.shape, axis, layout=plgpu.Layout.WGMMA)

    rows, keys = places(first[0], row_axis), places(first[1], 1 - row_axis)
    scores = jnp.where(visible_pairs(rows, keys, key_stop, reach), scores, -jnp.inf)
    if valid is None:
        return scores
    return jnp.where(_spread(valid, scores.shape, 1 - row_axis) > 0.0, scores, -jnp.inf)


def _products(left: Any, right: Any) -> Array:
    """``left @ right.T`` of two buffers, float32, when it is done."""

    def multiply(accumulator: Any) -> Array:
        plgpu.wgmma(accumulator, left, right.transpose((1, 0)))
        return accumulator[...]

    return pl.run_scoped(multiply, plgpu.ACC((left.shape[0], right.shape[0]), jnp.float32))


def _add_product(total: Array, left: Array, right: Any) -> Array:
    """``total + left @ right`` of an array in registers and a buffer, when it is done."""

    def multiply(accumulator: Any) -> None:
        plgpu.wgmma(accumulator, left, right)

    return pl.run_state(multiply)(plgpu.ACC.init(total))


def _loaded(buffer: Any, lost_axis: int) -> Array:
    """A vector of shared memory, laid out as a reduction of scores over an axis leaves one."""
    return plgpu.load(buffer, *_WHOLE, layout=plgpu.Layout.WGMMA.reduce(lost_axis))


def _lent(buffer: Any) -> Array:
    """A vector of one number a column from a buffer of the ring, which the next copy may overwrite.

    wgmma reads shared memory in the same way as copies write it, and an arrival is enough between the two; what
    an ordinary load has read must be committed before a copy may write there.
    """
    vector = _loaded(buffer, _COLUMN_LAYOUT)
    plgpu.commit_smem()
    return vector


def _filled(shape: tuple[int, ...], number: float) -> Array:
    """A constant in the registers, laid out as an accumulator, or as one number a row of it."""
    layout = plgpu.Layout.WGMMA if len(shape) == 2 else plgpu.Layout.WGMMA.reduce(_ROW_LAYOUT)
    return plgpu.layout_cast(jnp.full(shape, number, jnp.float32), layout)


def _spread(vector: Array, shape: tuple[int, ...], axis: int) -> Array:
    """A vector along an axis of scores, the same along the other."""
    return lax.broadcast_in_dim(vector, shape, [axis])


def _tiled(shape: tuple[int, ...], dtype: Any) -> Any:
    """A buffer that wgmma can read and TMA can fill without bank conflicts."""
    return plgpu.SMEM(shape, dtype, transforms=(plgpu.TilingTransform((8, 64)), plgpu.SwizzleTransform(128)))
