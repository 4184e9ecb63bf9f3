"""How an array lies on the mesh, and what must go over the links to have it otherwise."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

Axes = tuple[str, ...]
Kind = Literal["all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where an array's parts are.

    Attributes:
      cuts: Of each dimension the mesh axes that it is cut over.
      partial: Axes whose devices hold terms of a sum that is still to be taken.
      free: Whether it can be made in any cut at no cost (zeros, random bits, what is computed of those).
      inner: Of axes that cut a dimension which was merged with others, how many entries of it lie together on a device:
        where they go when it is split again.

    Example:
      >>> Layout.whole(2)
      Layout(cuts=((), ()), partial=frozenset(), free=False, inner=())
    """

    cuts: tuple[Axes, ...]
    partial: frozenset[str] = frozenset()
    free: bool = False
    inner: tuple[tuple[str, int], ...] = dataclasses.field(default=(), compare=False)

    @classmethod
    def whole(cls, ndim: int, *, free: bool = False) -> "Layout":
        """On every device."""
        return cls(((),) * ndim, frozenset(), free)

    @property
    def axes(self) -> frozenset[str]:
        """All axes that some dimension is cut over."""
        return frozenset(axis for cut in self.cuts for axis in cut)


def ways(axes: Sequence[str] | frozenset[str], sizes: dict[str, int]) -> int:
    """Devices along some axes together.

    Example:
      >>> ways(("data", "fsdp"), {"data": 4, "fsdp": 2})
      8
    """
    return math.prod(sizes[axis] for axis in axes)


def array_bytes(aval: Any) -> float:
    """Bytes of a whole array; a random key's are those of its data."""
    return float(math.prod(aval.shape)) * getattr(aval.dtype, "itemsize", 8)


def local_bytes(aval: Any, layout: Layout, sizes: dict[str, int]) -> float:
    """Bytes of a device's part of an array; what is free takes none until it is used.

    Example:
      >>> array = jax.ShapeDtypeStruct((16, 4), np.float32)
      >>> local_bytes(array, Layout((("data",), ())), {"data": 8})
      32.0
    """
    return 0.0 if layout.free else array_bytes(aval) / ways(layout.axes, sizes)


def ring_bytes(kind: str, buffer_bytes: float, devices: int) -> float:
    r"""Bytes that each device sends in a collective round a ring of :math:`n` devices.

    .. math:: \text{all-reduce } 2\tfrac{n-1}{n} S, \quad
      \text{all-gather, reduce-scatter, all-to-all } \tfrac{n-1}{n} S, \quad \text{permute } S

    Args:
      kind: Of the collective.
      buffer_bytes: :math:`S`: of a device's buffer at its larger end, so of what is gathered, or what is reduced.
      devices: :math:`n`.

    Example:
      >>> ring_bytes("all-reduce", 800.0, 8), ring_bytes("all-gather", 800.0, 8), ring_bytes("all-gather", 800.0, 1)
      (1400.0, 700.0, 0.0)

    Source: Thakur et al. 2005, https://doi.org/10.1177/1094342005051521, sections 4.1 to 4.5.
    """
    share = (devices - 1) / devices
    if kind == "collective-permute":
        return buffer_bytes if devices > 1 else 0.0
    return buffer_bytes * share * (2.0 if kind == "all-reduce" else 1.0)


@dataclasses.dataclass(frozen=True)
class Transfer:
    """One collective.

    Attributes:
      kind: Which.
      axes: Mesh axes that it runs along.
      buffer_bytes: As in `ring_bytes`.
    """

    kind: Kind
    axes: Axes
    buffer_bytes: float


def moved(aval: Any, layout: Layout, target: Layout, sizes: dict[str, int]) -> list[Transfer]:
    """The collectives that bring an array from one layout to another, in order.

    A sum is scattered where the target is cut over its axis, and reduced to all elsewhere; an axis that cuts another
    dimension than before is an all-to-all; one that cuts nothing any more is gathered; a new cut costs nothing.

    Args:
      aval: The array's shape and dtype.
      layout: Where it is.
      target: Where it shall be; its ``partial`` axes stay partial.
      sizes: Devices along each axis.

    Example:
      >>> matrix, sizes = jax.ShapeDtypeStruct((16, 8), np.float32), {"data": 2, "fsdp": 4}
      >>> gradient = Layout(((), ()), frozenset({"data", "fsdp"}))
      >>> for one in moved(matrix, gradient, Layout((("fsdp",), ())), sizes):
      ...   print(one)
      Transfer(kind='reduce-scatter', axes=('fsdp',), buffer_bytes=512.0)
      Transfer(kind='all-reduce', axes=('data',), buffer_bytes=128.0)
    """
    if layout.free:
        return []
    transfers: list[Transfer] = []
    size = array_bytes(aval) / ways(layout.axes, sizes)
    pending = layout.partial - target.partial
    scattered = tuple(axis for axis in sizes if axis in pending and axis in target.axes - layout.axes)
    reduced = tuple(axis for axis in sizes if axis in pending and axis not in scattered)
    if scattered:
        transfers.append(Transfer("reduce-scatter", scattered, size))
        size /= ways(scattered, sizes)
    if reduced:
        transfers.append(Transfer("all-reduce", reduced, size))
    lost: list[str] = []
    for cut, wanted in zip(layout.cuts, target.cuts):
        for axis in cut:
            if axis not in wanted:
                if axis in target.axes:
                    transfers.append(Transfer("all-to-all", (axis,), size))
                else:
                    lost.append(axis)
    if lost:
        gathered = tuple(axis for axis in sizes if axis in lost)
        transfers.append(Transfer("all-gather", gathered, size * ways(gathered, sizes)))
    return transfers
