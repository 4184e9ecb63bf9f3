"""Rules of look-ups in tables and of additions to their rows."""

from collections.abc import Sequence
from typing import Any

from transformer_jax.planning.layout import Axes, Layout
from transformer_jax.planning.rule import Rule, Ruled, Sizes, settled


def _gather(equation: Any, avals: list[Any], layouts: list[Layout], sizes: Sizes) -> Ruled:
    """A look-up; where the table's rows lie on several devices, each looks in its own and the answers are added."""
    numbers, slices = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    operand, indices, out = settled(layouts[0]), settled(layouts[1]), equation.outvars[0].aval
    hidden = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    table: list[Axes] = list(operand.cuts)
    partial: set[str] = set()
    taken = set(indices.axes)
    for place, cut in enumerate(table):
        if set(cut) & taken and place not in numbers.operand_batching_dims:
            table[place] = ()
        elif place in numbers.collapsed_slice_dims:
            partial |= set(cut)
        elif place not in hidden and slices[place] != avals[0].shape[place]:
            table[place] = ()
    for place, source in zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims):
        table[place] = indices.cuts[source]
    offsets = iter([table[place] for place in range(len(table)) if place not in hidden])
    rows = iter(indices.cuts[:-1])
    cuts = tuple(
        next(offsets) if place in numbers.offset_dims else next(rows) for place in range(len(out.shape))
    )
    if operand.free:
        table = list(operand.cuts)
    return Ruled(
        [Layout(tuple(table), frozenset(), operand.free), indices], [Layout(cuts, frozenset(partial))], []
    )


def _scatter(equation: Any, avals: list[Any], layouts: list[Layout], sizes: Sizes) -> Ruled:
    """Rows added to a table; rows that lie on several devices make terms of a sum there."""
    numbers = equation.params["dimension_numbers"]
    indices, updates = settled(layouts[1]), settled(layouts[2])
    inserted = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    window = iter(updates.cuts[place] for place in numbers.update_window_dims)
    cuts: list[Axes] = [() if place in inserted else next(window) for place in range(len(avals[0].shape))]
    rows = [cut for place, cut in enumerate(updates.cuts) if place not in numbers.update_window_dims]
    batching = dict(zip(numbers.scatter_indices_batching_dims, numbers.operand_batching_dims))
    partial: set[str] = set()
    for place, cut in enumerate(rows):
        if place in batching:
            cuts[batching[place]] = cut
        else:
            partial |= set(cut)
    for place, new in enumerate(_window_sizes(numbers, avals, inserted)):
        if avals[0].shape[place] != new and place not in inserted:
            cuts[place] = ()
    if not layouts[0].free:  # each device changes the rows that it has
        for place in inserted:
            own = layouts[0].cuts[place]
            if not cuts[place] and not set(own) & (updates.axes | partial):
                cuts[place] = own
    index_cuts = tuple(rows[place] if place < len(rows) else () for place in range(len(avals[1].shape)))
    # Rows that become constants, zeros say, are so in each term.
    terms = layouts[0].partial if layouts[2].free and not partial else frozenset()
    out = Layout(
        tuple(cuts), frozenset(partial) | terms if equation.primitive.name == "scatter-add" else terms
    )
    operand = Layout(tuple(cuts), terms, layouts[0].free)
    return Ruled([operand, Layout(index_cuts) if not indices.free else indices, updates], [out], [])


def _window_sizes(numbers: Any, avals: list[Any], inserted: Sequence[int]) -> list[int]:
    window = iter(avals[2].shape[place] for place in numbers.update_window_dims)
    return [1 if place in inserted else next(window) for place in range(len(avals[0].shape))]


LOOKUP_RULES: dict[str, Rule] = {"gather": _gather, "scatter": _scatter, "scatter-add": _scatter}
