"""Results of a plan."""

import dataclasses
import math
from collections.abc import Mapping

from transformer_jax.planning.devices import Device
from transformer_jax.training.config import MeshShape
from transformer_jax.training.sharding import mesh_sizes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Traffic:
    """All collectives of one kind along the same axes in a step, of one device.

    Attributes:
      kind: Such as ``"all-reduce"``.
      axes: Of the mesh, joined by ``+``.
      in_loop: Whether they are inside a loop.
      count: How many, loops included.
      buffer_bytes: Of all their buffers, at their larger end.
      sent_bytes: What the device sends, round a ring.
      seconds: At the bandwidth of the links that the ring needs.
    """

    kind: str
    axes: str
    in_loop: bool
    count: float
    buffer_bytes: float
    sent_bytes: float
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """A step, calculated.

    Attributes:
      mesh: Devices along each axis.
      device: Of all of them.
      parameters: Trained numbers of the whole model.
      tokens: Of a whole batch, source and target, padding included.
      memory: Bytes of a device by what they are for; their sum is the most that is held at one time.
      state_bytes: Of these what is kept from step to step.
      argument_bytes: State and batch: what the step's program is called with.
      largest: What fills the memory most when it is fullest: bytes, dtype and whole shape.
      total_flops: Of the model's products, forward and backward, each counted once.
      device_flops: Of those that a device does; more than its share where several do the same ones, or where some are
        computed again.
      memory_traffic: Bytes that a device reads from and writes to its memory.
      traffic: What goes over the links.
      compute_seconds: Products at the device's peak.
      memory_seconds: Its memory's traffic at its bandwidth.
      device_seconds: Of each operation the longer of the two, added up.
      link_seconds: Of all traffic.
      loop_steps: Steps of loops that multiply, one after the other, whose latency is not counted.
      unknown: Primitives without a rule, counted as if their operands were needed whole; loops of unknown length.
    """

    mesh: MeshShape
    device: Device
    parameters: int
    tokens: int
    memory: Mapping[str, float]
    state_bytes: float
    argument_bytes: float
    largest: tuple[tuple[float, str], ...]
    total_flops: float
    device_flops: float
    memory_traffic: float
    traffic: tuple[Traffic, ...]
    compute_seconds: float
    memory_seconds: float
    device_seconds: float
    link_seconds: float
    loop_steps: float
    unknown: tuple[str, ...]

    @property
    def devices(self) -> int:
        """All of them."""
        return math.prod(mesh_sizes(self.mesh).values())

    @property
    def memory_bytes(self) -> float:
        """The most that a device holds."""
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        """Whether that is no more than it has."""
        return self.memory_bytes <= self.device.memory_bytes

    @property
    def step_seconds(self) -> tuple[float, float]:
        """With all traffic behind the computation, and with none."""
        return max(self.device_seconds, self.link_seconds), self.device_seconds + self.link_seconds

    @property
    def share_of_peak(self) -> tuple[float, float]:
        """Of the peak of all devices, what the model's products take: without and with all traffic behind them."""
        useful = self.compute_seconds * self.total_flops / max(1.0, self.device_flops * self.devices)
        best, worst = self.step_seconds
        return useful / worst, useful / best

    @property
    def bound(self) -> str:
        """The bottleneck: ``"compute"``, ``"memory"`` or ``"links"``."""
        found = {"compute": self.compute_seconds, "memory": self.memory_seconds, "links": self.link_seconds}
        return max(found, key=lambda name: found[name])
