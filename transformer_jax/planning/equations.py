"""Equations of traced programs: what they multiply, what they call, and how long their results are needed."""

import bisect
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from jax.extend.core import Literal

from transformer_jax.planning.layout import Layout
from transformer_jax.planning.rules import UNFUSED, VIEWS


@dataclasses.dataclass(kw_only=True)
class Frame:
    """Variables of one level of nesting.

    Attributes:
      layouts: Of every variable so far.
      last_use: The equation that reads a variable last; past the end for results.
      unfused: Places of equations that are not fused with their neighbours.
      made: The equation that made a variable.
      root: What a view is a view of.
      live: Bytes that are held.
      moved: Variables and layouts that they have been brought to, which their next reader finds.
    """

    layouts: dict[Any, Layout]
    last_use: dict[Any, int]
    unfused: list[int]
    made: dict[Any, int]
    root: dict[Any, Any]
    live: dict[Any, float]
    moved: set[tuple[Any, Layout]]

    @classmethod
    def of(cls, jaxpr: Any) -> "Frame":
        """Before its first equation."""
        last_use: dict[Any, int] = {}
        root: dict[Any, Any] = {}
        for equation in jaxpr.eqns:
            if equation.primitive.name in VIEWS and not isinstance(equation.invars[0], Literal):
                source = equation.invars[0]
                root[equation.outvars[0]] = root.get(source, source)
        uses = [(place, atom) for place, equation in enumerate(jaxpr.eqns) for atom in equation.invars]
        uses += [(len(jaxpr.eqns) + 1, atom) for atom in jaxpr.outvars]
        for place, atom in uses:
            if not isinstance(atom, Literal):
                last_use[atom] = place
                source = root.get(atom, atom)
                last_use[source] = max(place, last_use.get(source, -1))
        unfused = [place for place, equation in enumerate(jaxpr.eqns) if is_unfused(equation)]
        return cls(layouts={}, last_use=last_use, unfused=unfused, made={}, root=root, live={}, moved=set())

    def layout(self, atom: Any) -> Layout:
        """Of a variable; a number in the program's text lies everywhere."""
        if isinstance(atom, Literal):
            return Layout.whole(np.ndim(atom.val), free=True)
        return self.layouts[atom]

    def is_kept(self, variable: Any) -> bool:
        """Whether a variable is written to memory: something that is not fused makes it, reads it or lies between."""
        if self.root.get(variable, variable) is not variable:
            return False
        made, last = self.made.get(variable, -1), self.last_use.get(variable, -1)
        place = bisect.bisect_left(self.unfused, max(made, 0))
        return place < len(self.unfused) and self.unfused[place] <= last


def product_flops(equation: Any) -> float:
    """Floating-point operations of a whole ``dot_general``: a multiplication and an addition for each of its terms."""
    (contract, _), _ = equation.params["dimension_numbers"]
    terms = math.prod(equation.invars[0].aval.shape[place] for place in contract)
    return 2.0 * terms * math.prod(equation.outvars[0].aval.shape)


def inner_jaxpr(equation: Any) -> Any | None:
    """The jaxpr that an equation merely calls (``jit``, ``custom_vjp_call``, ``checkpoint``), or None."""
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        inner = equation.params.get(name)
        inner = getattr(inner, "jaxpr", inner)
        if hasattr(inner, "eqns") and len(inner.invars) == len(equation.invars):
            return inner
    return None


def num_shards(equation: Any) -> int:
    """Devices that each run the body of a ``shard_map`` on a part of their own."""
    sizes = equation.params["mesh"].shape
    return math.prod(sizes[axis] for axis in equation.params["newly_manual_axes"])


def equations_within(jaxpr: Any) -> Iterator[Any]:
    """All equations of a jaxpr and of what it calls and loops over."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for one in value if isinstance(value, tuple | list) else [value]:
                one = getattr(one, "jaxpr", one)
                if hasattr(one, "eqns"):
                    yield from equations_within(one)


def flops_within(jaxpr: Any) -> float:
    """Floating-point operations of all products of a jaxpr, its loops multiplied out.

    Example:
      >>> def powers(matrix):
      ...   return jax.lax.scan(lambda power, _: (power @ matrix, None), matrix, None, length=5)[0]
      >>> flops_within(jax.make_jaxpr(powers)(jnp.ones((4, 4))))
      640.0
    """
    total = 0.0
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        name, params = equation.primitive.name, equation.params
        inner = inner_jaxpr(equation)
        if name == "dot_general":
            total += product_flops(equation)
        elif name == "scan":
            total += params["length"] * flops_within(params["jaxpr"])
        elif name == "while":
            total += flops_within(params["body_jaxpr"])
        elif name == "cond":
            total += max(flops_within(one) for one in params["branches"])
        elif name == "shard_map":  # written for one device
            total += num_shards(equation) * flops_within(params["jaxpr"])
        elif inner is not None:
            total += flops_within(inner)
    return total


def is_unfused(equation: Any) -> bool:
    """Whether an equation, or one that it calls, reads from memory and writes to it."""
    inner = inner_jaxpr(equation)
    if inner is None:
        return equation.primitive.name in UNFUSED
    return any(one.primitive.name in UNFUSED for one in equations_within(inner))
