"""Totals of a walk through a program: operations, collectives, and how often each is done."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from transformer_jax.planning.equations import product_flops
from transformer_jax.planning.layout import Layout, Transfer, local_bytes, ring_bytes, ways


@dataclasses.dataclass(frozen=True)
class Operation:
    """Cost of one equation on a device, each time.

    Attributes:
      flops: Floating-point operations of a product; 0 of all else.
      dtype: What is multiplied.
      memory_bytes: Read from and written to its memory.
      times: How often, loops included.
    """

    flops: float
    dtype: str
    memory_bytes: float
    times: float


class Ledger:
    """Operations and collectives of a device.

    Args:
      sizes: Devices along each axis.

    Attributes:
      operations: Of products, look-ups, reductions and what is kept.
      transfers: ``(kind, axes, whether in a loop)`` to how often, bytes of buffers and bytes sent.
      total_flops: Of products on all devices, each counted once though several may do the same one.
      loop_steps: Steps of loops that multiply, one after the other.
    """

    def __init__(self, sizes: dict[str, int]) -> None:
        self.sizes = dict(sizes)
        self.operations: list[Operation] = []
        self.transfers: dict[tuple[str, tuple[str, ...], bool], list[float]] = {}
        self.total_flops = 0.0
        self.loop_steps = 0.0
        self._dry = 0
        self._times, self._depth, self._result_times, self._shards = 1.0, 0, 1.0, 1

    def transfer(self, one: Transfer) -> None:
        """Count a collective."""
        if self._dry or not one.axes:
            return
        found = self.transfers.setdefault((one.kind, one.axes, self._depth > 0), [0.0, 0.0, 0.0])
        sent = ring_bytes(one.kind, one.buffer_bytes, ways(one.axes, self.sizes))
        for place, value in enumerate((1.0, one.buffer_bytes, sent)):
            found[place] += value * self._times

    def _operation(self, equation: Any, operands: Sequence[Layout], outputs: Sequence[Layout]) -> None:
        if self._dry:
            return
        flops, dtype = 0.0, "float32"
        if equation.primitive.name == "dot_general":
            flops = product_flops(equation)
            dtype = equation.invars[0].aval.dtype.name
            self.total_flops += flops * self._times * self._shards
            flops /= ways(operands[0].axes | operands[1].axes, self.sizes)
        atoms = [*equation.invars, *equation.outvars]
        size = sum(
            local_bytes(atom.aval, layout, self.sizes) for atom, layout in zip(atoms, (*operands, *outputs))
        )
        self.operations.append(Operation(flops, dtype, size, self._times))

    @contextlib.contextmanager
    def _without_recording(self) -> Iterator[None]:
        self._dry += 1
        try:
            yield
        finally:
            self._dry -= 1

    @contextlib.contextmanager
    def _scaled(self, times: float = 1.0, *, shards: int = 1) -> Iterator[None]:
        before = self._times, self._shards
        self._times, self._shards = self._times * times, self._shards * shards
        try:
            yield
        finally:
            self._times, self._shards = before

    @contextlib.contextmanager
    def repeated(self, times: int) -> Iterator[None]:
        """Count what is walked inside so many times, but for what brings results to their targets."""
        self._result_times = 1.0 / times
        try:
            with self._scaled(float(times)):
                yield
        finally:
            self._result_times = 1.0

    @contextlib.contextmanager
    def _loop(self, times: float) -> Iterator[None]:
        self._depth += 1
        try:
            with self._scaled(times):
                yield
        finally:
            self._depth -= 1
