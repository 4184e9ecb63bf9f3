"""What a training step over a mesh of devices takes, by calculation: memory, operations, traffic, time."""

from transformer_jax.train.planning.devices import DEVICES, Device, find_device
from transformer_jax.train.planning.mesh import parse_mesh
from transformer_jax.train.planning.plan import plan_step
from transformer_jax.train.planning.result import Plan

__all__ = ["DEVICES", "Device", "Plan", "find_device", "parse_mesh", "plan_step"]
