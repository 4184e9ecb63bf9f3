"""Which parameters loops over time read: declared by the modules, and found in the traced gradient.

A module whose parameters a loop over time reads at each step says so by the class attribute ``loops_over_time = True``,
which holds for every parameter below it. What no module declares is found by following the parameters through the
program, so that a new recurrent model trains right on a mesh before anybody has thought of it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import Literal

LOOPS = ("scan", "while")

# Parameters that a value depends on; None where it depends on the batch as well.
_Origin = frozenset[str] | None


def declared_in_loops(model: nnx.Module) -> frozenset[str]:
    """Dotted paths of the parameters below the modules that say ``loops_over_time``.

    Example:
      >>> class Cell(nnx.Linear):
      ...   loops_over_time = True
      >>> class Model(nnx.Module):
      ...   def __init__(self, rngs):
      ...     self.cell, self.out = Cell(2, 2, rngs=rngs), nnx.Linear(2, 2, rngs=rngs)
      >>> sorted(declared_in_loops(Model(nnx.Rngs(0))))
      ['cell.bias', 'cell.kernel']
    """
    looped = {
        id(variable)
        for _, module in nnx.iter_graph(model)
        if getattr(module, "loops_over_time", False)
        for _, variable in nnx.iter_graph(module)
        if isinstance(variable, nnx.Param)
    }
    return frozenset(".".join(map(str, path)) for path, node in nnx.iter_graph(model) if id(node) in looped)


def found_in_loops(
    jaxpr: Any,
    params: Mapping[str, Any],
    model_state: Mapping[str, Any],
    batch: Any,
    *,
    carried: Collection[str] = (),
) -> frozenset[str]:
    """Parameters whose value reaches a ``scan`` or ``while`` loop through operations that the batch has no part in.

    Loops that only add up over blocks do not count themselves, but the loops inside of them do; those inside of a
    ``shard_map`` over all devices do not, as nothing is left to partition there.

    Args:
      jaxpr: Of ``(params, model_state, batch, *others)``, a loss or its gradient.
      params: Parameters by name; only the names are read.
      model_state: The model's other variables by name.
      batch: The batch, or its shapes.
      carried: Names of the variables that have the rows of a batch.

    Example:
      >>> def loss(params, model_state, inputs, key):
      ...   def body(h, x):
      ...     return jnp.tanh(x + h @ (0.5 * params["recurrent"])), None
      ...   return jax.lax.scan(body, inputs[0], inputs @ params["input"])[0].sum()
      >>> params, inputs = {"input": jnp.ones((3, 3)), "recurrent": jnp.ones((3, 3))}, jnp.ones((5, 2, 3))
      >>> found_in_loops(jax.make_jaxpr(loss)(params, {}, inputs, jax.random.key(0)), params, {}, inputs)
      frozenset({'recurrent'})
    """
    origins: list[_Origin] = [frozenset([name]) for name in sorted(params)]
    origins += [None if name in carried else frozenset() for name in sorted(model_state)]
    origins += [None] * len(jax.tree.leaves(batch))
    origins += [frozenset()] * (len(jaxpr.jaxpr.invars) - len(origins))
    found: set[str] = set()
    _follow(jaxpr.jaxpr, origins, found)
    return frozenset(found)


def _follow(jaxpr: Any, origins: Sequence[_Origin], found: set[str]) -> list[_Origin]:
    """Origins of a jaxpr's results; what its loops read is added to ``found``."""
    known: dict[Any, _Origin] = dict(zip(jaxpr.invars, origins, strict=True))

    def origin(atom: Any) -> _Origin:
        return frozenset() if isinstance(atom, Literal) else known.get(atom, frozenset())

    for equation in jaxpr.eqns:
        name, inputs = equation.primitive.name, [origin(atom) for atom in equation.invars]
        outputs = [_joined(inputs)] * len(equation.outvars)
        if name in LOOPS:
            if _keeps_state(equation):
                found.update(*(one for one in inputs if one is not None))
            else:
                outputs = _follow_loop(equation, inputs, found)
        elif name == "cond":
            branches = [_follow(one.jaxpr, inputs[1:], found) for one in equation.params["branches"]]
            outputs = [_joined([inputs[0], *results]) for results in zip(*branches)]
        elif not _is_local(equation):
            called = list(_jaxprs_of(equation))
            if len(called) == 1 and len(called[0].invars) == len(inputs):
                outputs = _follow(called[0], inputs, found)
            elif any(_has_loop(one) for one in called):  # how its arguments get there is not known
                found.update(*(one for one in inputs if one is not None))
        known |= zip(equation.outvars, outputs)
    return [origin(atom) for atom in jaxpr.outvars]


def _follow_loop(equation: Any, inputs: Sequence[_Origin], found: set[str]) -> list[_Origin]:
    """The same for the body of a loop that keeps no state: a carry comes of its first value and of each step's."""
    if equation.primitive.name == "scan":
        body = equation.params["jaxpr"].jaxpr
        num_consts, num_carries = scan_counts(equation)
    else:
        body = equation.params["body_jaxpr"].jaxpr
        inputs = inputs[equation.params["cond_nconsts"] :]
        num_consts, num_carries = equation.params["body_nconsts"], len(body.outvars)
    first = num_consts + num_carries
    consts, carries, rows = inputs[:num_consts], list(inputs[num_consts:first]), inputs[first:]
    while True:  # origins only grow, and there are finitely many
        inside: set[str] = set()  # of a pass whose carries are not whole yet, nothing is taken
        outputs = _follow(body, [*consts, *carries, *rows], inside)
        grown = [_joined(pair) for pair in zip(carries, outputs[:num_carries], strict=True)]
        if grown == carries:
            found |= inside
            return [*grown, *outputs[num_carries:]]
        carries = grown


def scan_counts(equation: Any) -> tuple[int, int]:
    """Constants and carries of a scan, recognised by their use in the loop, as JAX's names change."""
    body = equation.params["jaxpr"].jaxpr
    taken, stacked = (
        sum(outer.aval.ndim > inner.aval.ndim for outer, inner in zip(outside, inside, strict=True))
        for outside, inside in ((equation.invars, body.invars), (equation.outvars, body.outvars))
    )
    carries = len(body.outvars) - stacked
    return len(body.invars) - carries - taken, carries


def _keeps_state(equation: Any) -> bool:
    """Whether a loop's next step depends on what its last one computed, other than by adding to it."""
    if equation.primitive.name == "scan":
        body = equation.params["jaxpr"].jaxpr
        first, carries = scan_counts(equation)
    else:
        body = equation.params["body_jaxpr"].jaxpr
        first, carries = equation.params["body_nconsts"], len(body.outvars)
    pairs = zip(body.invars[first : first + carries], body.outvars[:carries])
    return any(
        jnp.issubdtype(before.aval.dtype, jnp.floating) and not _only_adds(body, before, after)
        for before, after in pairs
    )


def _only_adds(body: Any, before: Any, after: Any) -> bool:
    """Whether a carry is handed on as it is, or with something added to it."""
    uses = [one for one in body.eqns if any(atom is before for atom in one.invars)]
    if not uses or after is before:
        return True
    use = uses[0]
    if len(uses) > 1 or before in body.outvars:
        return False
    if use.primitive.name == "convert_element_type":
        return _only_adds(body, use.outvars[0], after)
    return use.primitive.name in ("add", "add_any") and use.outvars[0] is after


def _is_local(equation: Any) -> bool:
    """Whether an equation is a program of one device, in which nothing is partitioned."""
    if equation.primitive.name == "pallas_call":
        return True
    if equation.primitive.name != "shard_map":
        return False
    mesh, own = equation.params["mesh"], equation.params["newly_manual_axes"]
    return all(size == 1 or axis in own for axis, size in mesh.shape.items())


def _joined(origins: Sequence[_Origin]) -> _Origin:
    names: set[str] = set()
    for one in origins:
        if one is None:
            return None
        names |= one
    return frozenset(names)


def _jaxprs_of(equation: Any) -> Iterator[Any]:
    """The jaxprs among an equation's parameters."""
    for value in equation.params.values():
        for one in value if isinstance(value, tuple | list) else [value]:
            inner = getattr(one, "jaxpr", one)
            if hasattr(inner, "eqns"):
                yield inner


def _has_loop(jaxpr: Any) -> bool:
    return any(
        equation.primitive.name in LOOPS or any(map(_has_loop, _jaxprs_of(equation)))
        for equation in jaxpr.eqns
    )
