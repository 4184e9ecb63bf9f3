"""Memory, operations, traffic and time of a training step over a mesh of devices, by calculation."""

from transformer_jax.planning.devices import DEVICES, Device, find_device
from transformer_jax.planning.mesh import parse_mesh
from transformer_jax.planning.result import Plan
from transformer_jax.planning.step_plan import plan_step

__all__ = ["DEVICES", "Device", "Plan", "find_device", "parse_mesh", "plan_step"]
