r"""Functions with a reverse pass of their own that have every other derivative too.

``jax.custom_vjp`` gives a function one derivative, reverse mode, once: forward mode is refused, and what is written for
the reverse pass, such as loops of as many rounds as the data ask for, often has no derivative itself. Here the reverse
pass is the transposed of the function's tangent map, a primitive:

.. math:: \dot y = J(x)\, \dot x, \quad \bar x = J(x)^\top \bar y

Reverse mode calls the function's own ``backward``; forward mode, and every derivative of a derivative, goes through
``plain``, the same function in operations that JAX differentiates.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive, unmapped_aval
from jax.interpreters import ad, batching, mlir

from transformer_jax.typing import Array, PyTree


class Rules(NamedTuple):
    """A function of ``(static, arguments, constants)`` and its derivatives.

    ``static`` is hashable; ``arguments`` is a pytree of floating-point arrays; ``constants`` have no gradient.

    Attributes:
      value: ``(static, arguments, constants) -> (outputs, others)``: a tuple of floating-point arrays, and a pytree of
        what has no gradient.
      backward: ``(static, arguments, constants, outputs, cotangents) -> cotangents of arguments``.
      plain: ``(static, arguments, constants) -> outputs``, which JAX can differentiate in every way.
    """

    value: Callable[[Any, Any, Any], tuple[tuple[Array, ...], Any]]
    backward: Callable[[Any, Any, Any, Any, Any], Any]
    plain: Callable[[Any, Any, Any], tuple[Array, ...]]


def with_backward(rules: Rules, static: Any, arguments: PyTree, constants: PyTree) -> tuple[Any, Any]:
    """``rules.value(static, arguments, constants)``, which reverse mode differentiates by ``rules.backward``.

    Example:
      >>> def value(power, x, _):
      ...   return (x ** power,), None
      >>> rules = Rules(
      ...   value,
      ...   lambda power, x, _, outputs, cotangents: power * outputs[0] / x * cotangents[0],
      ...   lambda power, x, _: value(power, x, _)[0],
      ... )
      >>> cube = lambda x: with_backward(rules, 3, x, None)[0][0]
      >>> [float(one(cube)(2.0)) for one in (jax.grad, jax.jacfwd, lambda f: jax.grad(jax.grad(f)))]
      [12.0, 12.0, 12.0]
    """
    leaves, tree = jax.tree.flatten((arguments, constants))
    spec = _Spec(rules, static, tree, len(jax.tree.leaves(arguments)))
    return _call(spec, *varying_alike(*map(jnp.asarray, leaves)))


def varying_alike(*arrays: Array) -> tuple[Array, ...]:
    """Arrays inside ``jax.shard_map`` that vary over the same axes of the mesh: all over which any does.

    What is computed from all of them does, and JAX asks for the same of branches, cotangents and the like. The
    gradient of an array that was the same on all devices is summed over them.
    """
    axes = [jax.typeof(array).manual_axis_type.varying for array in arrays]
    every = frozenset().union(*axes)
    return tuple(
        array if own == every else jax.lax.pcast(array, tuple(every - own), to="varying")
        for array, own in zip(arrays, axes, strict=True)
    )


class _Spec(NamedTuple):
    rules: Rules
    static: Any
    tree: Any
    num_arguments: int  # leaves of the arguments, which come before those of the constants

    def unflatten(self, leaves: Sequence[Any]) -> tuple[Any, Any]:
        return jax.tree.unflatten(self.tree, leaves)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _call(spec: _Spec, *leaves: Array) -> tuple[Any, Any]:
    outputs, others = spec.rules.value(spec.static, *spec.unflatten(leaves))
    return _tied(outputs, leaves), others


def _tied(outputs: tuple[Array, ...], leaves: Sequence[Array]) -> tuple[Array, ...]:
    """The outputs, mapped by ``vmap`` as soon as any leaf is.

    The tangents are, whatever the outputs depend on, and ``custom_jvp`` asks for values and tangents to be mapped
    alike. The choice between an output and itself is none for XLA.
    """
    corners = [
        jax.lax.slice(leaf, (0,) * leaf.ndim, (1,) * leaf.ndim).ravel() for leaf in leaves if leaf.size
    ]
    which = functools.reduce(jnp.logical_or, (corner[0] != corner[0] for corner in corners), jnp.array(False))
    return tuple(jax.lax.select_n(which, output, output) for output in outputs)


@functools.partial(_call.defjvp, symbolic_zeros=True)
def _call_jvp(spec: _Spec, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    outputs, others = _call(spec, *primals)  # itself, so that a derivative of this one finds it whole again
    moving = tuple(at for at in range(spec.num_arguments) if not isinstance(tangents[at], SymbolicZero))
    out_tangents = _tangent_p.bind(
        *primals,
        *outputs,
        *(tangents[at] for at in moving),
        spec=spec,
        moving=moving,
        num_outputs=len(outputs),
        out_avals=tuple(jax.typeof(output) for output in outputs),
        mapped=(),
    )
    return (outputs, others), (tuple(out_tangents), jax.tree.map(_zero_tangent, others))


def _zero_tangent(array: Array) -> Any:
    if jnp.issubdtype(array.dtype, jnp.floating):
        return jnp.zeros_like(array)
    return np.zeros(array.shape, jax.dtypes.float0)


# The tangent map: operands are the leaves of arguments and constants, the outputs, and the tangents.


def _split(operands: Sequence[Any], spec: _Spec, num_outputs: int) -> tuple[Any, Any, Any]:
    first = spec.tree.num_leaves
    second = first + num_outputs
    return operands[:first], operands[first:second], operands[second:]


def _tangents(*operands: Any, spec: _Spec, moving: tuple[int, ...], num_outputs: int) -> tuple[Array, ...]:
    """``J(x) t``, by ``plain``."""
    leaves, _, tangents = _split(operands, spec, num_outputs)

    def of_moving(*moved: Array) -> tuple[Array, ...]:
        every = list(leaves)
        for at, leaf in zip(moving, moved, strict=True):
            every[at] = leaf
        return tuple(spec.rules.plain(spec.static, *spec.unflatten(every)))

    return jax.jvp(of_moving, tuple(leaves[at] for at in moving), tuple(tangents))[1]


def _cotangents(*operands: Any, spec: _Spec, moving: tuple[int, ...], num_outputs: int) -> tuple[Array, ...]:
    """``J(x)^T`` of the cotangents that stand in the place of the tangents, by ``backward``."""
    leaves, outputs, cotangents = _split(operands, spec, num_outputs)
    found = _backward(spec, tuple(leaves), tuple(outputs), tuple(cotangents))
    return tuple(found[at] for at in moving)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _backward(spec: _Spec, leaves: tuple, outputs: tuple, cotangents: tuple) -> tuple:
    """Cotangents of the leaves of the arguments."""
    found = spec.rules.backward(spec.static, *spec.unflatten(leaves), outputs, cotangents)
    return tuple(jax.tree.leaves(found))


@_backward.defjvp
def _backward_jvp(spec: _Spec, primals: tuple, tangents: tuple) -> tuple:
    leaves, _, cotangents = primals
    # The outputs are a function of the leaves, so that their own tangents are in those of the plain form already.
    of_leaves, _, of_cotangents = tangents

    def plain_backward(moved: tuple, cotangents: tuple) -> tuple:
        def plain(moved: tuple) -> tuple[Array, ...]:
            return tuple(
                spec.rules.plain(spec.static, *spec.unflatten((*moved, *leaves[spec.num_arguments :])))
            )

        return jax.vjp(plain, moved)[1](cotangents)[0]

    _, out_tangents = jax.jvp(
        plain_backward,
        (tuple(leaves[: spec.num_arguments]), cotangents),
        (tuple(of_leaves[: spec.num_arguments]), of_cotangents),
    )
    return _backward(spec, *primals), out_tangents


def _batched(function: Callable[..., Any], mapped: tuple[tuple, ...], **parts: Any) -> Callable[..., Any]:
    """The function under the ``vmap``s that the primitive went through: ``mapped`` has their axes, inmost first."""
    run: Callable[..., Any] = functools.partial(function, **parts)
    for axes in mapped:
        run = _vmapped(run, axes)
    return run


def _vmapped(run: Callable[..., Any], axes: tuple) -> Callable[..., Any]:
    """Mapped over the axes of the first operands; tangents, or the cotangents in their place, have theirs in front."""
    return lambda *operands: jax.vmap(run, in_axes=(*axes, *(0,) * (len(operands) - len(axes))))(*operands)


def _tangent_impl(*operands: Any, out_avals: Any, mapped: tuple, **parts: Any) -> tuple[Array, ...]:
    del out_avals
    return tuple(_batched(_tangents, mapped, **parts)(*operands))


def _tangent_jvp(operands: Sequence[Any], tangents: Sequence[Any], **parts: Any) -> tuple[Any, Any]:
    live = [at for at, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]
    first = _first_tangent(parts)
    if all(at >= first for at in live):  # linear in these
        moved = [ad.instantiate_zeros(tangent) for tangent in tangents[first:]]
        return _tangent_p.bind(*operands, **parts), _tangent_p.bind(*operands[:first], *moved, **parts)

    def of_live(*moved: Array) -> tuple[Array, ...]:
        every = list(operands)
        for at, operand in zip(live, moved, strict=True):
            every[at] = operand
        return _tangent_impl(*every, **parts)

    return jax.jvp(of_live, tuple(operands[at] for at in live), tuple(tangents[at] for at in live))


def _tangent_transpose(cotangents: Sequence[Any], *operands: Any, **parts: Any) -> list[Any]:
    first = _first_tangent(parts)
    wanted = [ad.is_undefined_primal(operand) for operand in operands[first:]]
    given = [
        ad.zeros_like_aval(aval) if isinstance(cotangent, ad.Zero) else cotangent
        for cotangent, aval in zip(cotangents, parts["out_avals"], strict=True)
    ]
    parts = {name: part for name, part in parts.items() if name != "out_avals"}
    found = _batched(_cotangents, parts.pop("mapped"), **parts)(*operands[:first], *given)
    # A tangent that is known is zero: a linear function has no other constants.
    return [None] * first + [one if want else None for one, want in zip(found, wanted, strict=True)]


def _tangent_batch(operands: Sequence[Any], axes: Sequence[Any], **parts: Any) -> tuple[Any, Any]:
    first = _first_tangent(parts)
    sizes = (operand.shape[axis] for operand, axis in zip(operands, axes) if axis is not None)
    size = next(sizes)
    tangents = [
        jnp.broadcast_to(operand[None], (size, *operand.shape))
        if axis is None
        else jnp.moveaxis(operand, axis, 0)
        for operand, axis in zip(operands[first:], axes[first:])
    ]
    parts |= {
        "mapped": (*parts["mapped"], tuple(axes[:first])),
        "out_avals": tuple(unmapped_aval(size, 0, one) for one in parts["out_avals"]),
    }
    return _tangent_p.bind(*operands[:first], *tangents, **parts), (0,) * len(parts["out_avals"])


def _first_tangent(parts: dict[str, Any]) -> int:
    return parts["spec"].tree.num_leaves + parts["num_outputs"]


_tangent_p = Primitive("tangent_map")
_tangent_p.multiple_results = True
_tangent_p.def_impl(_tangent_impl)
_tangent_p.def_abstract_eval(lambda *_, out_avals, **__: list(out_avals))
mlir.register_lowering(_tangent_p, mlir.lower_fun(_tangent_impl, multiple_results=True))
ad.primitive_jvps[_tangent_p] = _tangent_jvp
ad.primitive_transposes[_tangent_p] = _tangent_transpose
batching.primitive_batchers[_tangent_p] = _tangent_batch
