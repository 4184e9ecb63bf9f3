"""Rules of primitives, and their shared parts."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from transformer_jax.planning.layout import Axes, Layout, Transfer, ways

Sizes = dict[str, int]


class Ruled(NamedTuple):
    """Requirements of a primitive.

    Attributes:
      operands: Layouts that its operands must have.
      outputs: Layouts of its results.
      transfers: Collectives that are part of it.
    """

    operands: list[Layout]
    outputs: list[Layout]
    transfers: list[Transfer]


Rule = Callable[[Any, list[Any], list[Layout], Sizes], Ruled]
"""From an equation, its operands' shapes, their layouts and the mesh to what the primitive asks for."""


def settled(layout: Layout) -> Layout:
    """The layout with its sums taken."""
    return Layout(layout.cuts, frozenset(), layout.free)


def divides(size: int, cut: Axes, sizes: Sizes) -> bool:
    """Whether a dimension can be cut over some axes."""
    return size % ways(cut, sizes) == 0


def joined(shape: tuple[int, ...], layouts: Sequence[Layout], sizes: Sizes) -> tuple[Axes, ...]:
    """Cuts that arrays of one shape can share: each dimension takes those of the most cut array that has some."""
    cuts: list[Axes] = [()] * len(shape)
    used: set[str] = set()
    for layout in sorted(layouts, key=lambda one: -ways(one.axes, sizes)):
        for place, cut in enumerate(layout.cuts):
            if cut and not cuts[place] and not used & set(cut) and divides(shape[place], cut, sizes):
                cuts[place] = cut
                used |= set(cut)
    return tuple(cuts)
