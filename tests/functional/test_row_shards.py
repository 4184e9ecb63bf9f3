"""Functions run by the rows of one device: what they are traced with, and kernels over a mesh lowered for a TPU."""

import functools
import itertools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec
from tiers import tiered

from transformer_jax.functional import AttentionMask
from transformer_jax.functional.attention import attention
from transformer_jax.functional.recurrent import RNNCell, recurrence
from transformer_jax.functional.row_shards import RECURRENT_AXES, ROW_AXES, by_row_shards
from transformer_jax.testing.processes import cpu_environment
from transformer_jax.training.sharding import abstract_mesh


def over(**sizes: int) -> AbstractMesh:
    return abstract_mesh(sizes)


def shard_maps(function, *arguments):
    """Of each ``shard_map`` of a traced function, on the first level: its equation."""
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    found, open_ones = [], [jaxpr]
    while open_ones:
        for equation in open_ones.pop().eqns:
            if equation.primitive.name == "shard_map":
                found.append(equation)
            else:
                inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
                open_ones += [getattr(inner, "jaxpr", inner)] if inner is not None else []
    return found


@pytest.mark.parametrize(
    ("sizes", "rows", "axes", "wanted"),
    [
        ({"data": 2, "fsdp": 2}, 8, ROW_AXES, 2),
        ({"data": 2, "fsdp": 2, "tensor": 2}, 8, ROW_AXES, 2),
        ({"data": 2, "fsdp": 2, "tensor": 2}, 8, RECURRENT_AXES, 1),
        ({"data": 2, "fsdp": 2, "tensor": 2}, 4, RECURRENT_AXES, 1),  # over data and fsdp
        ({"data": 4, "tensor": 2}, 4, RECURRENT_AXES, 1),
        ({"data": 2, "fsdp": 3}, 4, ROW_AXES, 2),  # over data alone
        ({"data": 3, "fsdp": 2}, 4, ROW_AXES, 4),
        ({"sequence": 2}, 4, ROW_AXES, 4),
        ({"data": 1, "fsdp": 1}, 4, ROW_AXES, 4),
    ],
)
def test_a_device_sees_its_own_rows(sizes, rows, axes, wanted):
    seen = []

    def function(weight, inputs):
        seen.append((weight.shape, inputs.shape))
        return inputs * weight

    with jax.sharding.use_abstract_mesh(over(**sizes)):
        run = by_row_shards(function, (None, 1), 1, rows, over=axes)
        shape = jax.eval_shape(run, jnp.ones((3, 1)), jnp.ones((3, rows))).shape
    assert (seen, shape) == ([((3, 1), (3, wanted))], (3, rows))


def test_one_within_another_is_part_of_it():
    def inner(rows):
        return by_row_shards(jnp.sin, 0, 0, rows.shape[0])(rows)

    with jax.sharding.use_abstract_mesh(over(data=4)):
        (outer,) = shard_maps(by_row_shards(inner, 0, 0, 8), jnp.ones(8))
    assert "shard_map" not in str(outer.params["jaxpr"])
    assert outer.params["jaxpr"].invars[0].aval.shape == (2,)


def test_a_recurrence_and_blocks_of_attention_go_by_rows():
    cell = RNNCell(jnp.ones((3, 4)), jnp.ones((4, 4)), jnp.zeros(4))
    with jax.sharding.use_abstract_mesh(over(data=2, tensor=2)):
        (found,) = shard_maps(lambda x: recurrence(cell, x)[0], jnp.ones((8, 5, 3)))
        assert (5, 2, 3) in [one.aval.shape for one in found.params["jaxpr"].invars]
        mask = AttentionMask.from_lengths(jnp.full(8, 5), 5) & AttentionMask.dense(
            jnp.ones((1, 1, 5, 5), bool)
        )
        blocks = functools.partial(attention, implementation="blockwise", mask=mask)
        (found,) = shard_maps(lambda x: blocks(x, x, x), jnp.ones((8, 5, 2, 4)))
    shapes = [one.aval.shape for one in found.params["jaxpr"].invars]
    # Queries, keys and values, and where keys end, a row each; the dense part is one of all rows.
    assert shapes.count((4, 5, 2, 4)) == 3
    assert {(4,), (1, 1, 5, 5)} <= set(shapes)


@pytest.mark.parametrize(
    ("alike", "length"), tiered(itertools.product((True, False), (8, 600)), {(True, 8), (False, 600)})
)
def test_blocks_have_every_derivative_inside_a_shard_map_of_ones_own(length, alike):
    def loss(query, key, value):
        blocks = attention(query, key, value, implementation="blockwise", mask=AttentionMask.causal())
        return blocks.sum()

    def twice(query, key, value):
        return jax.grad(lambda query: jax.grad(loss)(query, key, value).sum())(query)

    def forward(*arrays):
        return jax.jvp(loss, arrays, arrays)[1][None]

    by_rows, whole = PartitionSpec("data"), PartitionSpec()
    arrays = [
        jax.ShapeDtypeStruct((rows, length, 2, 4), jnp.float32)
        for rows in ((4, 4, 4) if alike else (4, 2, 2))
    ]
    specs = (by_rows, *(2 * [by_rows if alike else whole]))
    with jax.sharding.use_abstract_mesh(over(data=2)):
        mesh = jax.sharding.get_abstract_mesh()

        def shapes(function, out_specs=by_rows):
            run = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=out_specs)
            return [one.shape for one in jax.tree.leaves(jax.eval_shape(run, *arrays))]

        # What is the same on all devices has a gradient that is.
        assert shapes(jax.grad(loss, (0, 1, 2)), specs) == [one.shape for one in arrays]
        assert shapes(twice) == [arrays[0].shape]
        assert shapes(forward) == [(2,)]


LOWERED = """
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from transformer_jax.functional import AttentionMask, ScaledDot
from transformer_jax.functional.attention import mosaic_tpu
from transformer_jax.functional.attention.contract import make_call
mesh = jax.make_mesh((2, 1), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
by_rows = NamedSharding(mesh, PartitionSpec("data"))
array = jax.ShapeDtypeStruct((4, 128, 2, 64), jnp.float32, sharding=by_rows)
lengths = jax.ShapeDtypeStruct((4,), jnp.int32, sharding=by_rows)
def loss(query, key, value, lengths):
    mask = AttentionMask.causal() & AttentionMask.from_lengths(lengths, 128)
    return mosaic_tpu.attend(make_call(query, key, value, ScaledDot(), mask, None, None)).sum()
def gradients(*arguments):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        return jax.grad(loss, (0, 1, 2))(*arguments)
lowered = jax.jit(gradients).trace(array, array, array, lengths).lower(lowering_platforms=("tpu",))
print(lowered.as_text().count("tpu_custom_call"))
"""


def test_kernels_of_a_tpu_are_lowered_over_a_mesh():
    program = [sys.executable, "-c", LOWERED]
    ran = subprocess.run(program, env=cpu_environment(2), capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.split() == ["3"]


def test_without_a_mesh_nothing_changes():
    double = by_row_shards(lambda rows: 2 * rows, 0, 0, 4)
    np.testing.assert_array_equal(double(jnp.arange(4)), [0, 2, 4, 6])
    assert not shard_maps(double, jnp.arange(4))
