"""The compiled training step over a mesh, beside its plan: what tests and benchmarks of scaling compare."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx

from transformer_jax.planning import Device, Plan, plan_step
from transformer_jax.planning.program import ProgramCosts, program_costs
from transformer_jax.training.config import MeshShape, TrainConfig
from transformer_jax.training.contracts import Objective
from transformer_jax.training.sharding import Placement
from transformer_jax.training.state import set_remat
from transformer_jax.training.step import build_step, first_state

FAST_COMPILE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Compiler options for a CPU that change no product and no collective, only the code of the rest."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardedStep:
    """One update, compiled for a mesh.

    Attributes:
      executable: Takes a state and a batch, gives the next state; the state's buffers are given up.
      state: Before the first update, on the devices.
      placement: Puts batches there.
      compile_seconds: Tracing and compiling.
      argument_bytes: Of a device: state and batch.
      temporary_bytes: Of a device: all else that the program holds at one time.
      costs: Products and collectives of a device.
      plan: What was to be expected.
    """

    executable: Any
    state: Any
    placement: Placement
    compile_seconds: float
    argument_bytes: int
    temporary_bytes: int
    costs: ProgramCosts
    plan: Plan


def compile_sharded_step(
    make_model: Callable[[], nnx.Module],
    objective: Objective,
    config: TrainConfig,
    batch: Any,
    *,
    device: Device,
    compiler_options: Mapping[str, Any] | None = None,
) -> ShardedStep:
    """Compile the step that a trainer would run, as it would, and plan it.

    Args:
      make_model: Makes the module.
      objective: Its loss.
      config: Of the run; ``sharding`` is the mesh.
      batch: A whole batch, as shapes.
      device: What to plan for.
      compiler_options: For XLA.

    Raises:
      ConfigError: If the mesh does not fit the devices that are there.
      ShapeError: If the batch does not divide.
    """
    model = make_model()
    set_remat(model, config.remat)
    placement = Placement(config.sharding)
    placement.check_batch(batch, accumulation=config.accumulation)
    structure, state = first_state(model, objective, config, batch)
    state = placement.state(state)
    step = placement.step(build_step(placement.structure(structure), objective, config))
    start = time.perf_counter()
    lowered = jax.jit(step, donate_argnums=0).lower(state, placement.abstract_batch(batch))
    executable = lowered.compile(dict(compiler_options or {}))
    seconds = time.perf_counter() - start
    memory, text = executable.memory_analysis(), executable.as_text()
    assert memory is not None, "this backend tells nothing of its programs"
    assert text is not None, "this backend tells nothing of its programs"
    mesh = config.sharding or MeshShape()
    return ShardedStep(
        executable=executable,
        state=state,
        placement=placement,
        compile_seconds=seconds,
        argument_bytes=memory.argument_size_in_bytes,
        temporary_bytes=memory.temp_size_in_bytes,
        costs=program_costs(text),
        plan=plan_step(make_model, objective, config, batch, mesh=mesh, device=device),
    )
