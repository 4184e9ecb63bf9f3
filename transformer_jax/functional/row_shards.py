"""Functions of a batch whose rows do not know each other, run by each device on the rows that it holds.

XLA partitions a program by itself where it sees what a loop does with its rows; where it does not (blocks of merged
rows, a sum in a loop's carry, a kernel) it gathers them, or adds up over the links at every step. A function that is
wrapped here is compiled for the rows of one device; weights come whole, and their gradients are summed once, behind it.

The mesh is the one that JAX knows of when the function is traced (``jax.sharding.use_abstract_mesh``), its axes of rows
those of :data:`ROW_AXES`; without one the function runs as it is.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, PartitionSpec

from transformer_jax.typing import Array, PyTree

ROW_AXES = ("data", "fsdp")
"""Names of the axes of a mesh that the rows of a batch are spread over."""

RECURRENT_AXES = (*ROW_AXES, "tensor")
"""Those of a recurrence, whose steps need all of the state and all weights: over ``tensor`` it shares the rows."""


def by_row_shards(
    function: Callable[..., Any],
    in_axes: PyTree,
    out_axes: PyTree,
    num_rows: int,
    *,
    over: tuple[str, ...] = ROW_AXES,
) -> Callable[..., Any]:
    """The function, run by each device of a mesh on its own rows.

    Args:
      function: Of arrays alone: it must not use traced values that are not among its arguments, and what it draws must
        come from :func:`of_own_rows`, as in ``dropout``: each device sees a batch of its own.
      in_axes: As ``jax.vmap``'s: for each argument, or part of it, the axis that its rows stand on; ``None`` for what
        belongs to no row.
      out_axes: Of its results, all of which must have rows.
      num_rows: Rows of the batch.
      over: Axes of the mesh that rows are spread over: as many of the first ones as divide the rows. What is left is
        XLA's to partition.

    Returns:
      A function of the same arguments.

    Example:
      >>> double = by_row_shards(lambda weight, rows: rows * weight, (None, 0), 0, 4)
      >>> double(2.0, jax.numpy.ones(4)).tolist()  # no mesh: as it is
      [2.0, 2.0, 2.0, 2.0]
    """
    mesh = jax.sharding.get_abstract_mesh()
    # Inside of such a function the axes are manual ones, and a second one within it has nothing left to do.
    axes = _spread_axes(over, AxisType.Auto)
    while axes and num_rows % math.prod(mesh.shape[axis] for axis in axes):
        axes.pop()
    if not axes:
        return function

    idle = {axis for axis in mesh.axis_names if mesh.shape[axis] == 1}  # kernels want all axes to be manual

    def spec(axis: int | None) -> PartitionSpec:
        return PartitionSpec() if axis is None else PartitionSpec(*(None,) * axis, tuple(axes))

    return jax.shard_map(
        function,
        in_specs=jax.tree.map(spec, in_axes, is_leaf=lambda axis: axis is None),
        out_specs=jax.tree.map(spec, out_axes),
        axis_names={*axes, *idle},
        check_vma=False,  # a carry that starts from zeros would have to be told that it differs between devices
    )


def of_own_rows(draw: Callable[[int], Array], num_rows: int) -> Array:
    """Random numbers of a device's rows, the same as if one device drew for all.

    Args:
      draw: Gives the numbers of so many rows, which stand on axis 0. XLA computes those alone that are taken.
      num_rows: Rows that the caller has: within a function :func:`by_row_shards`, those of one device.

    Example:
      >>> of_own_rows(jax.numpy.arange, 4).tolist()  # no mesh: all rows
      [0, 1, 2, 3]
    """
    mesh = jax.sharding.get_abstract_mesh()
    axes = tuple(_spread_axes(RECURRENT_AXES, AxisType.Manual))
    if not axes:
        return draw(num_rows)
    drawn = draw(num_rows * math.prod(mesh.shape[axis] for axis in axes))
    return jax.lax.dynamic_slice_in_dim(drawn, jax.lax.axis_index(axes) * num_rows, num_rows)


def _spread_axes(among: tuple[str, ...], kind: AxisType) -> list[str]:
    """Axes of the present mesh that are of a kind and have several devices, in the order of ``among``."""
    mesh = jax.sharding.get_abstract_mesh()
    kinds = dict(zip(mesh.axis_names, mesh.axis_types))
    return [axis for axis in among if kinds.get(axis) is kind and mesh.shape[axis] > 1]


def axes_of_rows(tree: PyTree, num_rows: int) -> PyTree:
    """Zero for each array with an entry for each row in front, ``None`` for one that all rows share.

    Example:
      >>> axes_of_rows({"own": jax.numpy.ones((4, 2)), "shared": jax.numpy.ones((1, 2))}, 4)
      {'own': 0, 'shared': None}
    """
    return jax.tree.map(lambda array: 0 if array.shape[0] == num_rows else None, tree)
