"""The plan of one training step: what it keeps, computes and moves on each device, and how long that takes at least."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from transformer_jax.functional.row_shards import ROW_AXES
from transformer_jax.planning.devices import Device
from transformer_jax.planning.equations import flops_within
from transformer_jax.planning.layout import Axes, Layout, Transfer, array_bytes, local_bytes, ways
from transformer_jax.planning.ledger import Operation
from transformer_jax.planning.mesh import check_rows, ring_span
from transformer_jax.planning.result import Plan, Traffic
from transformer_jax.planning.walk import Walk
from transformer_jax.training.config import MeshShape, TrainConfig
from transformer_jax.training.contracts import Objective
from transformer_jax.training.sharding import abstract_mesh, mesh_sizes, parameter_spec
from transformer_jax.training.state import (
    ModelStructure,
    TrainState,
    set_remat,
)
from transformer_jax.training.step import first_state, loss_gradient
from transformer_jax.training.time_loops import found_in_loops


def plan_step(
    make_model: Callable[[], nnx.Module],
    objective: Objective,
    config: TrainConfig,
    batch: Any,
    *,
    mesh: MeshShape,
    device: Device,
) -> Plan:
    """Plan one update; nothing is computed and nothing is allocated.

    The gradient is traced as it will run and its equations are walked, see `planning.walk`; parameters lie as
    `parameter_spec` says. A parameter that is cut over ``fsdp`` is gathered once, when it is first used, and kept to
    the backward pass; gradients are reduced, or scattered where their parameter is cut, as soon as they are whole, and
    once a step though there are several micro-batches.

    Args:
      make_model: Makes the module; only traced.
      objective: Its loss on a batch.
      config: Optimiser, moving average, accumulation and remat; its ``sharding`` is not read.
      batch: The whole batch; only its shapes are read.
      mesh: Devices along each axis.
      device: What they are.

    Raises:
      ShapeError: If the batch does not divide over the mesh.
      ConfigError: If the mesh is larger than such devices can be joined, or the model has no layers that know of
        ``config.remat``.

    Example:
      >>> from transformer_jax.testing.tiny_training import TinySeq2Seq
      >>> from transformer_jax.training import Adam, Constant, TrainConfig
      >>> from transformer_jax.data.batches import empty_batch
      >>> from transformer_jax.objectives import PairCrossEntropy
      >>> from transformer_jax.planning.devices import find_device
      >>> def make():
      ...   return TinySeq2Seq(vocab_size=16, model_dim=8, dropout_rate=0.0, rngs=nnx.Rngs(0))
      >>> config = TrainConfig(updates=1, optimizer=Adam(), schedule=Constant(peak_learning_rate=0.1))
      >>> plan = plan_step(make, PairCrossEntropy(), config, empty_batch(16, 4, 4),
      ...   mesh=MeshShape(data=8), device=find_device("h100"))
      >>> plan.total_flops == 8 * plan.device_flops, plan.fits
      (True, True)
    """
    sizes = mesh_sizes(mesh)
    leaves = jax.tree.leaves(batch)
    rows = leaves[0].shape[0]
    check_rows(rows, tuple(leaf.shape[1] for leaf in leaves if leaf.ndim > 1), sizes, config.accumulation)
    micro = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            (leaf.shape[0] // config.accumulation, *leaf.shape[1:]), leaf.dtype
        ),
        batch,
    )
    structure, state = _abstract_state(make_model, objective, config, micro)
    params, model_state = state.params, state.model_state
    inputs = (micro, jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct((), np.int32))
    with jax.sharding.use_abstract_mesh(abstract_mesh(sizes)):
        gradient = jax.make_jaxpr(loss_gradient(structure, objective), return_shape=True)
        jaxpr, shapes = gradient(params, model_state, *inputs)
    looped = structure.looped | found_in_loops(jaxpr, params, model_state, micro, carried=structure.carried)

    walk = Walk(sizes)
    kept = {name: spec_layout(name, array.shape, sizes) for name, array in params.items()}
    used = {name: _gather(walk, name in looped, array, kept[name]) for name, array in params.items()}
    copies = [
        local_bytes(array, used[name], sizes) if used[name] != kept[name] else 0.0
        for name, array in params.items()
    ]
    arguments = [
        *used.values(),
        *(Layout.whole(len(leaf.shape)) for leaf in jax.tree.leaves(model_state)),
        *(batch_layout(leaf.shape, sizes) for leaf in jax.tree.leaves(micro)),
        Layout.whole(0), Layout.whole(0),
    ]  # fmt: skip
    targets = [*kept.values(), *(Layout.whole(len(leaf.shape)) for leaf in jax.tree.leaves(shapes[1]))]
    with walk.repeated(config.accumulation):
        walk.run(jaxpr.jaxpr, arguments, copies=copies, targets=targets)

    total_flops = walk.total_flops
    if config.remat != "nothing":  # what is computed again is no use of the peak
        once, _ = _abstract_state(make_model, objective, dataclasses.replace(config, remat="nothing"), micro)
        total_flops = config.accumulation * flops_within(
            jax.make_jaxpr(loss_gradient(once, objective))(params, model_state, *inputs)
        )
    parts = _state_bytes(state, sizes)
    bytes_of_batch = math.fsum(local_bytes(leaf, batch_layout(leaf.shape, sizes), sizes) for leaf in leaves)
    # While micro-batches are summed there is the sum so far besides.
    gradients = parts["parameters"] * (2 if config.accumulation > 1 else 1)
    memory = parts | {
        "batch": bytes_of_batch,
        "gradients": gradients,
        "activations and work space": max(0.0, walk.peak_bytes - parts["parameters"]),
    }
    # The update reads the gradients, and reads and writes all that it changes.
    walk.operations.append(Operation(0.0, "float32", parts["parameters"] + 2 * sum(parts.values()), 1.0))
    traffic = tuple(_traffic(walk, device))
    products = [(one, one.flops / device.peak(one.dtype)) for one in walk.operations]
    return Plan(
        mesh=mesh,
        device=device,
        parameters=sum(math.prod(array.shape) for array in params.values()),
        tokens=batch.num_positions(),
        memory=memory,
        state_bytes=math.fsum(parts.values()),
        argument_bytes=math.fsum(parts.values()) + bytes_of_batch,
        largest=tuple(walk.largest),
        total_flops=total_flops,
        device_flops=math.fsum(one.flops * one.times for one in walk.operations),
        memory_traffic=math.fsum(one.memory_bytes * one.times for one in walk.operations),
        traffic=traffic,
        compute_seconds=math.fsum(seconds * one.times for one, seconds in products),
        memory_seconds=math.fsum(one.memory_bytes * one.times for one in walk.operations)
        / device.memory_bandwidth,
        device_seconds=math.fsum(
            max(seconds, one.memory_bytes / device.memory_bandwidth) * one.times for one, seconds in products
        ),
        link_seconds=math.fsum(one.seconds for one in traffic),
        loop_steps=walk.loop_steps,
        unknown=tuple(f"{name} x {count}" for name, count in sorted(walk.unknown.items())),
    )


def spec_layout(name: str, shape: tuple[int, ...], sizes: dict[str, int]) -> Layout:
    """`parameter_spec` without the axes of one device.

    Example:
      >>> sizes = {"data": 1, "fsdp": 2, "tensor": 1, "sequence": 1}
      >>> spec_layout("encoder.layers.0.feed_forward.outer.kernel", (32, 16), sizes).cuts
      ((), ('fsdp',))
    """
    spec = tuple(parameter_spec(name, shape, sizes))
    cuts: list[Axes] = [(axis,) if axis and sizes[axis] > 1 else () for axis in spec]
    return Layout((*cuts, *((),) * (len(shape) - len(cuts))))


def batch_layout(shape: tuple[int, ...], sizes: dict[str, int]) -> Layout:
    """Rows over ``data`` and ``fsdp``, positions over ``sequence``.

    Example:
      >>> batch_layout((16, 8), {"data": 4, "fsdp": 2, "tensor": 2, "sequence": 1}).cuts
      (('data', 'fsdp'), ())
    """
    rows = tuple(axis for axis in ROW_AXES if sizes[axis] > 1)
    positions: Axes = ("sequence",) if sizes["sequence"] > 1 else ()
    return Layout((rows, positions, *((),) * len(shape))[: len(shape)])


def _gather(walk: Walk, looped: bool, array: Any, kept: Layout) -> Layout:
    """Where a parameter lies while it is used, and the gathering that brings it there."""
    lost = tuple(axis for axis in walk.sizes if axis in kept.axes and (looped or axis == "fsdp"))
    if not lost:
        return kept
    walk.transfer(Transfer("all-gather", lost, array_bytes(array) / ways(kept.axes - set(lost), walk.sizes)))
    return Layout(tuple(tuple(axis for axis in cut if axis not in lost) for cut in kept.cuts))


def _abstract_state(
    make_model: Callable[[], nnx.Module], objective: Objective, config: TrainConfig, batch: Any
) -> tuple[ModelStructure, Any]:
    """The structure of the model and the shapes of its training state before the first update."""
    structures = []

    def initial() -> TrainState:
        model = make_model()
        set_remat(model, config.remat)
        structure, state = first_state(model, objective, config, batch)
        structures.append(structure)
        return state

    state = jax.eval_shape(initial)
    return structures[0], state


def _state_bytes(state: Any, sizes: dict[str, int]) -> dict[str, float]:
    """Bytes of a device's part of the training state, by what they are for."""
    found = dict.fromkeys(("parameters", "optimizer moments", "moving average", "other state"), 0.0)
    names = {"params": "parameters", "optimizer_state": "optimizer moments", "average": "moving average"}
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    for path, leaf in leaves:
        words = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", "")))) for key in path]
        layout = spec_layout(".".join(words), leaf.shape, sizes)
        found[names.get(words[0], "other state")] += local_bytes(leaf, layout, sizes)
    return found


def _traffic(walk: Walk, device: Device) -> list[Traffic]:
    found = []
    for (kind, axes, in_loop), (count, buffer_bytes, sent_bytes) in sorted(walk.transfers.items()):
        bandwidth = device.bandwidth(ring_span(axes, walk.sizes))
        found.append(
            Traffic(
                kind=kind,
                axes="+".join(axes),
                in_loop=in_loop,
                count=count,
                buffer_bytes=buffer_bytes,
                sent_bytes=sent_bytes,
                seconds=sent_bytes / bandwidth,
            )
        )
    return sorted(found, key=lambda one: -one.sent_bytes)
