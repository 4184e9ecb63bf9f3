"""Rules of what only gives an array another shape.

The order of entries inside a cut dimension is taken to be the one that suits: halves of a cut matrix of keys and values
are each cut the same way and nothing moves. (XLA keeps entries in order and does move them.)
"""

import math
from collections.abc import Sequence
from typing import Any

from transformer_jax.planning.layout import Axes, Layout, ways
from transformer_jax.planning.rule import Rule, Ruled, Sizes, divides, joined, settled


def _broadcast(equation: Any, avals: list[Any], layouts: list[Layout], sizes: Sizes) -> Ruled:
    shape, places = equation.params["shape"], equation.params["broadcast_dimensions"]
    cuts: list[Axes] = [()] * len(shape)
    for place, cut, size in zip(places, layouts[0].cuts, avals[0].shape):
        cuts[place] = cut if shape[place] == size else ()
    # What a number is spread out to can be made anywhere.
    free = layouts[0].free or (math.prod(avals[0].shape) == 1 and not layouts[0].partial)
    return Ruled(
        [settled(layouts[0])], [Layout(tuple(cuts) if not free else ((),) * len(shape), free=free)], []
    )


def _transpose(equation: Any, avals: list[Any], layouts: list[Layout], sizes: Sizes) -> Ruled:
    cuts = tuple(layouts[0].cuts[place] for place in equation.params["permutation"])
    return Ruled([layouts[0]], [Layout(cuts, layouts[0].partial, layouts[0].free)], [])


def _squeeze(equation: Any, avals: list[Any], layouts: list[Layout], sizes: Sizes) -> Ruled:
    gone = {place % len(avals[0].shape) for place in equation.params["dimensions"]}
    cuts = tuple(cut for place, cut in enumerate(layouts[0].cuts) if place not in gone)
    return Ruled([layouts[0]], [Layout(cuts, layouts[0].partial, layouts[0].free)], [])


def _expand_dims(equation: Any, avals: list[Any], layouts: list[Layout], sizes: Sizes) -> Ruled:
    rest, new = iter(layouts[0].cuts), set(equation.params["dimensions"])
    cuts = tuple(() if place in new else next(rest) for place in range(len(equation.outvars[0].aval.shape)))
    return Ruled([layouts[0]], [Layout(cuts, layouts[0].partial, layouts[0].free)], [])


def reshaped(
    shape: Sequence[int], layout: Layout, new_shape: Sequence[int], sizes: Sizes
) -> tuple[Layout, Layout]:
    """The layout of a reshaped array, and the one that the array before must have.

    Dimensions that are merged give the merged one all their axes, and get them back when it is split. Of one that was
    always one, an axis goes to the first of its parts that it divides.

    Example:
      >>> sizes, layout = {"data": 8, "tensor": 4}, Layout((("data",), (), ("tensor",)))
      >>> reshaped((8, 12, 32), layout, (96, 4, 8), sizes)[0].cuts
      (('data',), ('tensor',), ())
      >>> merged, _ = reshaped((12, 16), Layout(((), ("data",))), (192,), sizes)
      >>> reshaped((192,), merged, (24, 16), sizes)[0].cuts
      ((), ('data',))
    """
    new: list[Axes] = [()] * len(new_shape)
    kept: list[Axes] = [()] * len(shape)
    inner, inside = dict(layout.inner), {}
    for old_places, new_places in _groups(shape, new_shape):
        for place in old_places:
            right = math.prod(shape[one] for one in old_places if one > place)
            for number, axis in enumerate(layout.cuts[place]):
                known = axis in inner or len(old_places) > 1
                # Entries of the group that lie together on one device, as far as this axis goes.
                extent = right * inner.get(
                    axis, shape[place] // ways(layout.cuts[place][: number + 1], sizes)
                )
                for target in new_places:
                    further = math.prod(new_shape[one] for one in new_places if one > target)
                    cut = (*new[target], axis)
                    fits = new_shape[target] > 1 and divides(new_shape[target], cut, sizes)
                    if fits and (not known or further <= extent < further * new_shape[target]):
                        new[target], kept[place] = cut, (*kept[place], axis)
                        if known and extent != further * new_shape[target] // ways(cut, sizes):
                            inside[axis] = max(1, extent // further)
                        break
    found = Layout(tuple(new), layout.partial, False, tuple(inside.items()))
    return found, Layout(tuple(kept), layout.partial, False, layout.inner)


def _groups(shape: Sequence[int], new_shape: Sequence[int]) -> list[tuple[range, range]]:
    """The shortest runs of dimensions, before and after, that hold the same entries."""
    groups = []
    left = right = 0
    while left < len(shape) or right < len(new_shape):
        first, first_new = left, right
        size = size_new = 1
        while True:
            if left < len(shape) and (left == first or size < size_new):
                size *= shape[left]
                left += 1
            elif right < len(new_shape) and (right == first_new or size_new < size):
                size_new *= new_shape[right]
                right += 1
            else:
                break
        groups.append((range(first, left), range(first_new, right)))
    return groups


def _reshape(equation: Any, avals: list[Any], layouts: list[Layout], sizes: Sizes) -> Ruled:
    layout, out = layouts[0], equation.outvars[0].aval
    if layout.free:
        return Ruled([layout], [Layout.whole(len(out.shape), free=True)], [])
    new, kept = reshaped(avals[0].shape, layout, out.shape, sizes)
    return Ruled([kept], [new], [])


def _resized(equation: Any, avals: list[Any], layouts: list[Layout], sizes: Sizes) -> Ruled:
    """Slices, pads, splits: a dimension keeps its cut where the new sizes still divide."""
    layout = layouts[0]
    if layout.free:
        free = [Layout.whole(len(one.aval.shape), free=True) for one in equation.outvars]
        return Ruled([settled(one) for one in layouts], free, [])
    cuts = tuple(
        cut if all(divides(one.aval.shape[place], cut, sizes) for one in equation.outvars) else ()
        for place, cut in enumerate(layout.cuts)
    )
    others = [settled(one) for one in layouts[1:]]
    return Ruled([Layout(cuts), *others], [Layout(cuts)] * len(equation.outvars), [])


def _concatenate(equation: Any, avals: list[Any], layouts: list[Layout], sizes: Sizes) -> Ruled:
    if all(one.free for one in layouts):
        return Ruled(layouts, [Layout.whole(len(avals[0].shape), free=True)], [])
    along, solid = equation.params["dimension"], [one for one in layouts if not one.free]
    cuts = list(joined(equation.outvars[0].aval.shape, solid, sizes))
    if any(
        one.cuts[along] != cuts[along] or not divides(aval.shape[along], cuts[along], sizes)
        for one, aval in zip(layouts, avals)
        if not one.free
    ):
        cuts[along] = ()
    return Ruled([Layout(tuple(cuts))] * len(avals), [Layout(tuple(cuts))], [])


def _stack(equation: Any, avals: list[Any], layouts: list[Layout], sizes: Sizes) -> Ruled:
    if all(one.free for one in layouts):
        return Ruled(layouts, [Layout.whole(len(avals[0].shape) + 1, free=True)], [])
    cuts = joined(avals[0].shape, [one for one in layouts if not one.free], sizes)
    along = equation.params["axis"]
    return Ruled([Layout(cuts)] * len(avals), [Layout((*cuts[:along], (), *cuts[along:]))], [])


def _dynamic_update_slice(equation: Any, avals: list[Any], layouts: list[Layout], sizes: Sizes) -> Ruled:
    whole = [settled(one) for one in layouts[2:]]
    shape = avals[0].shape
    cuts = tuple(
        cut if avals[1].shape[place] == shape[place] else ()
        for place, cut in enumerate(joined(shape, [one for one in layouts[:2] if not one.free], sizes))
    )
    return Ruled([Layout(cuts), Layout(cuts), *whole], [Layout(cuts)], [])


SHAPE_RULES: dict[str, Rule] = {
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "expand_dims": _expand_dims,
    "reshape": _reshape,
    **dict.fromkeys(("slice", "pad", "split", "dynamic_slice", "rev"), _resized),
    "concatenate": _concatenate,
    "stack": _stack,
    "dynamic_update_slice": _dynamic_update_slice,
}
