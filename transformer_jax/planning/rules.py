"""Of every primitive: how its operands must lie on the mesh, and how its results then do."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from transformer_jax.planning.layout import Axes, Layout, Transfer, array_bytes, ways
from transformer_jax.planning.lookup_rules import LOOKUP_RULES
from transformer_jax.planning.rule import Rule, Ruled, Sizes, divides, joined, settled
from transformer_jax.planning.shape_rules import SHAPE_RULES

# A sum of terms that lie on several devices may stay one through these.
LINEAR = {
    "add", "add_any", "sub", "neg", "convert_element_type", "reshape", "transpose", "squeeze", "expand_dims", "copy",
    "reduce_sum", "psum",
}  # fmt: skip
SCALED = {"mul", "div"}
"""Linear in their first operand, or in either, where the other is a number."""

WHOLE = {
    "fft", "cholesky", "triangular_solve", "lu", "householder_product", "pallas_call", "custom_call", "ffi_call",
    "reduce_window", "reduce_window_sum", "reduce_window_max", "top_k", "approx_top_k", "dynamic_gather",
}  # fmt: skip
"""Without a rule, though some have results as large as their operands: no elementwise functions."""

VIEWS = {"reshape", "transpose", "squeeze", "expand_dims", "copy", "stop_gradient"}
REDUCTIONS = {
    "reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "argmax", "argmin",
}  # fmt: skip
PRODUCTS = {"dot_general", "conv_general_dilated"}
UNFUSED = PRODUCTS | {
    "gather", "scatter", "scatter-add", "sort", "top_k", "scan", "while", "cond", "cumsum", "cumlogsumexp", "cummax",
    "dynamic_update_slice", "pallas_call", "custom_call", "ffi_call",
}  # fmt: skip
"""Primitives that read their operands from memory and write their results there; others XLA fuses."""


def ruled(equation: Any, layouts: Sequence[Layout], sizes: Sizes) -> Ruled | None:
    """The rule of an equation's primitive applied to its operands' layouts; None for one that has no rule."""
    name = equation.primitive.name
    avals = [atom.aval for atom in equation.invars]
    outputs = [variable.aval for variable in equation.outvars]
    if name.startswith("random_") or not avals:
        return Ruled(list(layouts), [Layout.whole(len(one.shape), free=True) for one in outputs], [])
    rule = _RULES.get(name)
    if rule is not None:
        return rule(equation, avals, list(layouts), sizes)
    shape = outputs[0].shape
    if (
        name not in WHOLE
        and all(one.shape == shape for one in outputs)
        and all(_spreads(one.shape, shape) for one in avals)
    ):
        return _elementwise(equation, avals, list(layouts), sizes)
    return None


def _spreads(shape: tuple[int, ...], wide: tuple[int, ...]) -> bool:
    """Whether an operand is as wide as the result, or one wide where that is wider, or a number."""
    return not shape or (
        len(shape) == len(wide) and all(one in (1, other) for one, other in zip(shape, wide))
    )


def _kept_partial(name: str, avals: Sequence[Any], layouts: Sequence[Layout]) -> frozenset[str]:
    """Axes over which a linear primitive's result is a sum of terms, as its operands are; none unless they agree."""
    partials = {one.partial for one in layouts if not one.free}
    if name in SCALED:
        wide, number = (0, 1) if avals[0].shape else (1, 0)
        linear = not avals[number].shape and not layouts[number].partial and (name == "mul" or wide == 0)
        return layouts[wide].partial if linear else frozenset()
    if name == "add_any" and len(partials) == 2 and frozenset() in partials:
        # A sum of gradients: what is whole already is one device's to add.
        (found,) = partials - {frozenset()}
        return frozenset() if any(one.axes & found for one in layouts) else found
    return partials.pop() if name in LINEAR and len(partials) == 1 else frozenset()


def _elementwise(equation: Any, avals: list[Any], layouts: list[Layout], sizes: Sizes) -> Ruled:
    shape = equation.outvars[0].aval.shape
    if all(one.free for one in layouts):
        return Ruled(layouts, [Layout.whole(len(shape), free=True)] * len(equation.outvars), [])
    wide = [one for one, aval in zip(layouts, avals) if aval.shape and not one.free]
    partial = _kept_partial(equation.primitive.name, avals, layouts)
    out = Layout(joined(shape, wide, sizes), partial)
    operands = []
    for aval, layout in zip(avals, layouts):
        cuts = tuple(cut if size > 1 else () for size, cut in zip(aval.shape, out.cuts))
        terms = partial if layout.partial and not layout.free else frozenset()
        operands.append(Layout(cuts, terms, layout.free and not cuts))
    return Ruled(operands, [out] * len(equation.outvars), [])


def _dot_general(equation: Any, avals: list[Any], layouts: list[Layout], sizes: Sizes) -> Ruled:
    (contract, batch), out = equation.params["dimension_numbers"], equation.outvars[0].aval
    shapes = [one.shape for one in avals]
    free = [
        [place for place in range(len(shape)) if place not in (*contract[side], *batch[side])]
        for side, shape in enumerate(shapes)
    ]
    wanted: list[list[Axes]] = [[()] * len(shape) for shape in shapes]
    used: set[str] = set()

    def claim(places: Sequence[tuple[int, int]], cut: Axes) -> bool:
        good = not used & set(cut) and all(divides(shapes[side][place], cut, sizes) for side, place in places)
        if cut and good:
            used.update(cut)
            for side, place in places:
                wanted[side][place] = cut
        return bool(cut) and good

    pairs = [((0, left), (1, right)) for left, right in zip(*batch)]
    summed = [((0, left), (1, right)) for left, right in zip(*contract)]
    cuts = [layouts[0].cuts, layouts[1].cuts]
    for left, right in pairs:
        if not claim((left, right), cuts[0][left[1]]):
            claim((left, right), cuts[1][right[1]])
    for left, right in summed:
        if cuts[0][left[1]] == cuts[1][right[1]]:
            claim((left, right), cuts[0][left[1]])
    for side in (0, 1):
        for place in free[side]:
            claim([(side, place)], cuts[side][place])
    for left, right in summed:
        if not wanted[0][left[1]] and not claim((left, right), cuts[0][left[1]]):
            claim((left, right), cuts[1][right[1]])
    partial = frozenset(axis for (_, place), _ in summed for axis in wanted[0][place])
    out_cuts = [wanted[0][place] for place in batch[0]]
    out_cuts += [wanted[side][place] for side in (0, 1) for place in free[side]]
    assert len(out_cuts) == len(out.shape)
    return Ruled([Layout(tuple(one)) for one in wanted], [Layout(tuple(out_cuts), partial)], [])


def _reduction(equation: Any, avals: list[Any], layouts: list[Layout], sizes: Sizes) -> Ruled:
    axes, name = equation.params["axes"], equation.primitive.name
    layout, out = layouts[0], equation.outvars[0].aval
    cuts = tuple(cut for place, cut in enumerate(layout.cuts) if place not in axes)
    across = frozenset(axis for place in axes for axis in layout.cuts[place])
    if layout.free:
        return Ruled(layouts, [Layout.whole(len(out.shape), free=True)], [])
    if name == "reduce_sum":
        return Ruled([layout], [Layout(cuts, layout.partial | across)], [])
    found = Layout(cuts)
    size = array_bytes(out) / ways(found.axes, sizes)
    ordered = tuple(axis for axis in sizes if axis in across)
    return Ruled([settled(layout)], [found], [Transfer("all-reduce", ordered, size)] if across else [])


def _psum(equation: Any, avals: list[Any], layouts: list[Layout], sizes: Sizes) -> Ruled:
    """A sum over devices inside of a program for one of them: taken where, outside, something needs it."""
    terms = frozenset(axis for axis in equation.params["axes"] if sizes[axis] > 1)
    found = [dataclasses.replace(one, partial=one.partial | terms, free=False) for one in layouts]
    return Ruled(list(layouts), found, [])


def _along(equation: Any, avals: list[Any], layouts: list[Layout], sizes: Sizes) -> Ruled:
    """Cumulative sums and sorts, which need a whole dimension."""
    along = equation.params.get("axis", equation.params.get("dimension", len(avals[0].shape) - 1))
    shared = joined(avals[0].shape, [one for one in layouts if not one.free], sizes)
    cuts = tuple(() if place == along else cut for place, cut in enumerate(shared))
    return Ruled([Layout(cuts)] * len(avals), [Layout(cuts)] * len(equation.outvars), [])


_RULES: dict[str, Rule] = {
    "dot_general": _dot_general,
    "psum": _psum,
    **dict.fromkeys(REDUCTIONS, _reduction),
    **dict.fromkeys(("cumsum", "cumlogsumexp", "cummax", "cummin", "cumprod", "sort"), _along),
    **SHAPE_RULES,
    **LOOKUP_RULES,
}
