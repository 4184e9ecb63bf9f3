"""A mesh of devices from a short text, and what it does to sizes."""

import math

from transformer_jax.errors import ConfigError, ShapeError, nearest_hint
from transformer_jax.functional.row_shards import ROW_AXES
from transformer_jax.training.config import MeshShape
from transformer_jax.training.sharding import AXES

POSITIONAL = {1: ("data",), 2: ("data", "tensor"), 3: ("data", "fsdp", "tensor"), 4: AXES}
"""Axes that the sizes of ``64x8`` name, by their number."""


def parse_mesh(text: str) -> MeshShape:
    """Devices along each axis.

    Args:
      text: Named sizes, ``"data=8,fsdp=4"``; or sizes alone: ``"8"`` is data, ``"64x8"`` data by tensor, ``"4x8x2"``
        data by fsdp by tensor, and four have sequence last.

    Raises:
      ConfigError: If it is neither.

    Example:
      >>> parse_mesh("64x8")
      MeshShape(data=64, fsdp=1, tensor=8, sequence=1)
      >>> parse_mesh("fsdp=4,tensor=2")
      MeshShape(data=1, fsdp=4, tensor=2, sequence=1)
    """
    wrong = f"`mesh={text!r}`: wanted sizes as in 64x8 (data x tensor), or names as in data=8,fsdp=4"
    if "=" in text:
        parts = [part.partition("=")[::2] for part in text.split(",")]
    else:
        sizes = text.lower().split("x")
        if len(sizes) not in POSITIONAL:
            raise ConfigError(wrong)
        parts = list(zip(POSITIONAL[len(sizes)], sizes))
    found: dict[str, int] = {}
    for name, size in parts:
        name = name.strip()
        if name not in AXES:
            raise ConfigError(
                f"`mesh={text!r}`: no axis '{name}'{nearest_hint(name, AXES) or '; known: ' + ', '.join(AXES)}"
            )
        if name in found:
            raise ConfigError(f"`mesh={text!r}`: '{name}' is given twice")
        if not (size.strip().isascii() and size.strip().isdecimal()) or int(size) < 1:
            raise ConfigError(wrong)
        found[name] = int(size)
    return MeshShape(**found)


def ring_span(axes: tuple[str, ...], sizes: dict[str, int]) -> int:
    """Of how many consecutive devices a ring over some axes is part; the last axis lies innermost.

    Example:
      >>> sizes = {"data": 4, "fsdp": 1, "tensor": 8, "sequence": 1}
      >>> ring_span(("tensor",), sizes), ring_span(("data",), sizes)
      (8, 32)
    """
    outermost = min(AXES.index(axis) for axis in axes)
    return math.prod(sizes[axis] for axis in AXES[outermost:])


def check_rows(rows: int, lengths: tuple[int, ...], sizes: dict[str, int], accumulation: int) -> None:
    """Raise unless a batch can be cut, as `Placement.check_batch` does where the devices are there.

    Args:
      rows: Of a whole batch.
      lengths: Its sequences' lengths.
      sizes: Of `sharding.mesh_sizes`.
      accumulation: Micro-batches that it is cut into first.

    Raises:
      ShapeError: If rows or lengths do not divide.

    Example:
      >>> check_rows(16, (8, 8), {"data": 4, "fsdp": 2, "sequence": 1}, 2)
    """
    num_rows = math.prod(sizes[axis] for axis in ROW_AXES)
    if rows % (num_rows * accumulation):
        micro = f" in {accumulation} micro-batches" if accumulation > 1 else ""
        raise ShapeError(
            f"a batch of {rows:,} rows{micro} does not divide over data x fsdp = {num_rows:,} devices: change `mesh`, "
            "`batch_rows`, data.batch_size or data.batch_tokens"
        )
    for length in lengths:
        if length % sizes["sequence"]:
            raise ShapeError(
                f"a batch of length {length} does not divide over sequence = {sizes['sequence']} devices: change "
                "`mesh` or `lengths`"
            )
