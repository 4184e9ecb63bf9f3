"""Where the arrays of a run lie on a mesh of devices: one rule a kind of parameter, the same for every model.

The step itself is written for one device. Parameters, optimiser state and batches get a sharding each, and XLA
partitions the program and puts the collectives in (GSPMD, Xu et al. 2021, https://arxiv.org/abs/2105.04663). Four axes:

``data``
    Rows of a batch; every device has all parameters.
``fsdp``
    Rows of a batch too, and a share of every matrix, gathered where it is used (Rajbhandari et al. 2020,
    https://arxiv.org/abs/1910.02054, stage 3).
``tensor``
    Columns of what a layer spreads out to, rows of what brings it together (Shoeybi et al. 2019,
    https://arxiv.org/abs/1909.08053, section 3), and the vocabulary.
``sequence``
    Positions of a batch.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.row_shards import ROW_AXES
from transformer_jax.pytree import replace
from transformer_jax.training import hosts
from transformer_jax.training.config import MeshShape
from transformer_jax.training.state import ModelStructure, NamedArrays, TrainState, named_arrays
from transformer_jax.training.time_loops import found_in_loops
from transformer_jax.typing import PyTree

AXES = ("data", "fsdp", "tensor", "sequence")

# Path of a parameter: the mesh axis of each of its own axes. The first that fits is taken.
RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"embedding\.embedding$", ("tensor", "fsdp")),
    (r"(attention\.output|feed_forward\.outer)\.kernel$", ("tensor", "fsdp")),
    (
        r"(feed_forward\.inner|self_attention\.query)\.kernel$",
        ("fsdp", None, "tensor"),
    ),  # experts stand in front
    (r"(feed_forward\.outer|self_attention\.output)\.kernel$", ("fsdp", "tensor", None)),
    (r"\.(kernel|[a-z_]*weight)$|^[a-z_]+\.kernel$", ("fsdp", "tensor")),
)


def mesh_sizes(mesh: MeshShape) -> dict[str, int]:
    """Devices along each axis, by its name, outermost first.

    Example:
      >>> mesh_sizes(MeshShape(data=2, tensor=4))
      {'data': 2, 'fsdp': 1, 'tensor': 4, 'sequence': 1}
    """
    return {axis: getattr(mesh, axis) for axis in AXES}


def abstract_mesh(sizes: dict[str, int]) -> AbstractMesh:
    """Context in which functions that run by rows of a device are traced over a mesh."""
    return AbstractMesh(tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))


def parameter_spec(name: str, shape: Sequence[int], sizes: dict[str, int]) -> PartitionSpec:
    """How a parameter is cut.

    Args:
      name: Its dotted path; what stands before it (``optimizer.0.mu.``) does not matter.
      shape: Its shape.
      sizes: Devices along each axis of the mesh.

    Returns:
      The spec of its rule, without the axes that do not divide; vectors and what has no rule lie everywhere.

    Example:
      >>> sizes = {"data": 1, "fsdp": 2, "tensor": 2, "sequence": 1}
      >>> tuple(parameter_spec("encoder.layers.0.feed_forward.outer.kernel", (32, 16), sizes))
      ('tensor', 'fsdp')
      >>> tuple(parameter_spec("output_embedding.embedding", (25, 16), sizes))
      (None, 'fsdp')
    """
    for pattern, axes in RULES:
        if len(axes) == len(shape) and re.search(pattern, name):
            cut = (axis if axis and size % sizes[axis] == 0 else None for axis, size in zip(axes, shape))
            return PartitionSpec(*cut)
    return PartitionSpec()


class Placement:
    """Puts a run's arrays where they belong.

    Args:
      shape: Devices along each axis; None for the default device alone, where nothing needs to be put anywhere.
      carried: Names of the model's variables that have the rows of a batch, and lie as those do.

    Raises:
      ConfigError: If the mesh does not fit the devices.
    """

    def __init__(self, shape: MeshShape | None, *, carried: Collection[str] = ()) -> None:
        self._carried = frozenset(f"model_state.{name}" for name in carried)
        self._mesh: Mesh | None = None
        self._sizes = mesh_sizes(shape or MeshShape())
        if shape is None and hosts.are_several():
            raise ConfigError(
                f"{jax.process_count()} hosts train one run only over a mesh: set train.sharding to axes whose product "
                f"is {jax.device_count()}"
            )
        if shape is None:
            return
        wanted, have = math.prod(self._sizes.values()), jax.device_count()
        if wanted != have:
            text = " x ".join(f"{axis} {size}" for axis, size in self._sizes.items())
            raise ConfigError(
                f"train.sharding wants {wanted} device{'s' * (wanted != 1)} ({text}), there are {have}: choose axes "
                "whose product that is, or null for one device"
            )
        self._mesh = jax.make_mesh(tuple(self._sizes.values()), AXES, axis_types=(AxisType.Auto,) * len(AXES))

    def check_batch(self, batch: Any, *, accumulation: int = 1) -> None:
        """Raise ``ShapeError`` unless a batch (arrays or shapes) can be cut.

        Args:
          batch: Leaves ``[rows, ...]`` or ``[rows, length]``.
          accumulation: Micro-batches that it is cut into first.
        """
        num_rows = math.prod(self._sizes[axis] for axis in ROW_AXES)
        for leaf in jax.tree.leaves(batch):
            rows = leaf.shape[0]
            if rows % (num_rows * accumulation):
                micro = f" in {accumulation} micro-batches" if accumulation > 1 else ""
                raise ShapeError(
                    f"a batch of {rows} rows{micro} does not divide over {num_rows} devices (sharding.data x "
                    "sharding.fsdp): change data.batch_size, data.batch_tokens or the sharding"
                )
            if leaf.ndim > 1 and leaf.shape[1] % self._sizes["sequence"]:
                raise ShapeError(
                    f"a batch of length {leaf.shape[1]} does not divide over {self._sizes['sequence']} devices "
                    "(sharding.sequence): change the lengths (data.packing, data.buckets) or the sharding"
                )

    def _batch_sharding(self, leaf: Any) -> NamedSharding:
        """Of a batch's array: its rows over ``data`` and ``fsdp``, its positions over ``sequence``."""
        assert self._mesh is not None
        return NamedSharding(self._mesh, PartitionSpec(ROW_AXES, *(["sequence"] if leaf.ndim > 1 else [])))

    def abstract_batch(self, batch: Any) -> Any:
        """The shapes of a batch as they will come from `batch`."""
        if self._mesh is None:
            return batch
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._batch_sharding(leaf)),
            batch,
        )

    def batch(self, batch: Any) -> Any:
        """A batch of the host on the devices."""
        if self._mesh is None:
            return jax.device_put(batch)  # said, not left to the call, which a transfer guard would stop
        if hosts.are_several():  # each makes the whole batch, and puts the rows of its own devices there
            return jax.tree.map(lambda leaf: _spread(leaf, self._batch_sharding(leaf)), batch)
        return jax.device_put(batch, jax.tree.map(self._batch_sharding, batch))

    def _shardings(self, tree: PyTree) -> PyTree:
        assert self._mesh is not None
        named = named_arrays(tree)
        mesh = self._mesh
        specs = [
            NamedSharding(
                mesh,
                PartitionSpec(ROW_AXES)
                if name in self._carried
                else parameter_spec(name, leaf.shape, self._sizes),
            )
            for name, leaf in named.items()
        ]
        return jax.tree.unflatten(jax.tree.structure(tree), specs)

    def state(self, state: TrainState) -> TrainState:
        """A state on the devices: optimiser state and averages lie as their parameters do."""
        if self._mesh is None:
            return state
        return _put(state, self._shardings(state))

    def replicated(self, tree: PyTree) -> PyTree:
        """Arrays that every device has whole."""
        if self._mesh is None:
            return tree
        everywhere = NamedSharding(self._mesh, PartitionSpec())
        return _put(tree, jax.tree.map(lambda leaf: everywhere, tree))

    def gathered(self, tree: PyTree) -> PyTree:
        """Arrays whole on the default device, for what runs there alone."""
        if self._mesh is None:
            return tree
        if hosts.are_several():
            return jax.tree.map(
                lambda leaf: jax.device_put(hosts.to_host(leaf), jax.local_devices()[0]), tree
            )
        return jax.device_put(tree, jax.devices()[0])

    def structure(self, structure: ModelStructure) -> ModelStructure:
        """The structure, gathering what is cut over ``fsdp``, and what loops read, when a step merges it."""
        if self._mesh is None:
            return structure
        return _GatheringStructure(**vars(structure), everywhere=NamedSharding(self._mesh, PartitionSpec()))

    def step(self, step: Callable[..., TrainState]) -> Callable[..., TrainState]:
        """A step whose state comes out where it went in."""
        mesh = self._mesh
        if mesh is None:
            return step

        def kept_in_place(state: TrainState, batch: Any, *length: Any) -> TrainState:
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                after = step(state, batch, *length)
            shardings = self._shardings(after)
            kept = jax.lax.with_sharding_constraint(
                replace(after, rng_key=()), replace(shardings, rng_key=())
            )
            return replace(kept, rng_key=after.rng_key)

        return kept_in_place


def _put(tree: PyTree, shardings: PyTree) -> PyTree:
    """Arrays of the host (of every host, the same) on the devices."""
    if not hosts.are_several():
        return jax.device_put(tree, shardings)

    def put(leaf: Any, sharding: NamedSharding) -> Any:
        if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return _spread(np.asarray(leaf), sharding)
        data, impl = _spread(np.asarray(jax.random.key_data(leaf)), sharding), jax.random.key_impl(leaf)
        return jax.jit(lambda data: jax.random.wrap_key_data(data, impl=impl), out_shardings=sharding)(data)

    return jax.tree.map(put, tree, shardings)


def _spread(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """An array that every host has, on the devices of all; unlike ``device_put``, without asking the others."""
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


@dataclasses.dataclass(frozen=True, kw_only=True)
class _GatheringStructure(ModelStructure):
    """A structure that gathers parameters where they are used.

    Parameters that a loop over time reads at each step are cut where they are kept, and gathered once before the loop.
    A collective a step would cost more than they weigh; and inside of such loops JAX 0.10 to 0.12 (Shardy) partition
    cut matrices into gradients that are wrong by as much as their size. So those that no module declares are looked
    for in each program before it is compiled.
    """

    everywhere: NamedSharding

    def merge(self, params: NamedArrays, model_state: NamedArrays) -> nnx.Module:
        """The module, its looped parameters whole, the others gathered over ``fsdp``."""
        return super().merge({name: self._used(name, array) for name, array in params.items()}, model_state)

    def for_program(self, gradient_of: Callable[..., Any], *arguments: Any) -> ModelStructure:
        """The structure that gathers what is found in this program's loops as well."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(ModelStructure)}
        plain = ModelStructure(**fields)
        jaxpr = jax.make_jaxpr(gradient_of(plain))(*arguments)
        found = found_in_loops(jaxpr, *arguments[:3], carried=self.carried)
        return dataclasses.replace(self, looped=self.looped | found)

    def _used(self, name: str, array: jax.Array) -> jax.Array:
        mesh, spec = self.everywhere.mesh, PartitionSpec()
        if name not in self.looped:
            cut = parameter_spec(name, array.shape, dict(mesh.shape))
            # Otherwise XLA keeps the matrices cut and sums activations, which grow with the batch.
            spec = PartitionSpec(*(None if axis == "fsdp" else axis for axis in cut))
        return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, spec))
