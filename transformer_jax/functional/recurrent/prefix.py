"""Prefixes of an associative operation over time, by a program whose size does not grow with time.

``jax.lax.associative_scan`` writes each level of its tree out: for an operation of many parts a compiler takes long
over it, and on a CPU what it fuses across levels is computed more than once. Here time is cut into chunks; a loop runs
inside all chunks at once, the chunks' totals are joined by doubling, and what stands before a chunk is joined to it.
"""

import math
from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from transformer_jax.typing import Array


def prefixes(
    join: Callable[[Any, Any], Any],
    elements: Any,
    identity: Any,
    *,
    reverse: bool = False,
    chunk_length: int | None = None,
) -> Any:
    r"""All prefixes :math:`x_1,\ x_1 \circ x_2,\ x_1 \circ x_2 \circ x_3, \dots` of an associative operation.

    With chunks of :math:`L` of :math:`T` steps: :math:`L + \log_2 (T / L)` steps one after the other, and
    :math:`2 T + (T / L) \log_2 (T / L)` joins.

    Args:
      join: The operation, the earlier operand first; of pytrees whose arrays have any number of elements along axis 0.
      elements: A pytree of arrays ``[time, ...]``.
      identity: A pytree of the same structure that joins to nothing; its arrays broadcast to one step's.
      reverse: From the last step to the first: the later step is the operation's first operand.
      chunk_length: :math:`L`; about the square root of time on a CPU, where few steps of much work are best, and 1
        elsewhere, for the least depth.

    Returns:
      A pytree like ``elements``.

    Example:
      >>> prefixes(jnp.add, jnp.arange(5), 0).tolist()
      [0, 1, 3, 6, 10]
      >>> prefixes(jnp.add, jnp.arange(5), 0, reverse=True, chunk_length=2).tolist()
      [10, 10, 9, 7, 4]

    Source: Hillis and Steele 1986, "Data parallel algorithms" (doubling); Blelloch 1990, "Prefix sums and their
    applications", section 1.2 (chunks).
    """
    num_steps = jax.tree.leaves(elements)[0].shape[0]
    if chunk_length is None:
        chunk_length = math.isqrt(num_steps) if jax.default_backend() == "cpu" else 1
    chunk_length = max(1, min(chunk_length, num_steps))
    if reverse:
        elements = jax.tree.map(partial(jnp.flip, axis=0), elements)
    if chunk_length == 1:
        totals = _doubled(join, elements, identity)
    else:
        totals = _chunked(join, elements, identity, chunk_length)
    return jax.tree.map(partial(jnp.flip, axis=0), totals) if reverse else totals


def _steps(neutral: Any, count: int, like: Array) -> Array:
    """``count`` steps of the identity, to stand beside an array ``[time, ...]``."""
    return jnp.broadcast_to(jnp.asarray(neutral, like.dtype), (count, *like.shape[1:]))


def _beside(of_steps: Array, array: Array) -> Array:
    return of_steps.reshape(of_steps.shape[0], *[1] * (array.ndim - 1))


def _doubled(join: Callable[[Any, Any], Any], elements: Any, identity: Any) -> Any:
    """Hillis and Steele: each step takes in what ends 1, 2, 4, ... steps before it."""
    count = jax.tree.leaves(elements)[0].shape[0]

    def level(index: Array, totals: Any) -> Any:
        def earlier(array: Array, neutral: Any) -> Array:
            padded = jnp.concatenate([_steps(neutral, count, array), array])
            return lax.dynamic_slice_in_dim(padded, count - lax.shift_left(1, index), count)

        joined = join(jax.tree.map(earlier, totals, identity), totals)
        # What is complete stays as it is: once more joined with the identity, infinity would make it NaN.
        has_earlier = jnp.arange(count) >= lax.shift_left(1, index)
        return jax.tree.map(lambda new, old: jnp.where(_beside(has_earlier, old), new, old), joined, totals)

    return lax.fori_loop(0, max(count - 1, 0).bit_length(), level, elements)


def _chunked(join: Callable[[Any, Any], Any], elements: Any, identity: Any, chunk_length: int) -> Any:
    num_steps = jax.tree.leaves(elements)[0].shape[0]
    num_chunks = -(-num_steps // chunk_length)
    missing = num_chunks * chunk_length - num_steps

    def cut(array: Array, neutral: Any) -> Array:
        padded = jnp.concatenate([array, _steps(neutral, missing, array)]) if missing else array
        return padded.reshape(num_chunks, chunk_length, *array.shape[1:]).swapaxes(0, 1)

    def whole(array: Array) -> Array:
        return array.swapaxes(0, 1).reshape(num_chunks * chunk_length, *array.shape[2:])[:num_steps]

    def step(total: Any, element: Any) -> tuple[Any, Any]:
        total = join(total, element)
        return total, total

    chunks = jax.tree.map(cut, elements, identity)
    first, rest = (jax.tree.map(itemgetter(at), chunks) for at in (0, slice(1, None)))
    totals, inside = lax.scan(step, first, rest)
    inside = jax.tree.map(lambda one, others: jnp.concatenate([one[None], others]), first, inside)
    through = _doubled(join, totals, identity)
    before = jax.tree.map(lambda x, one: jnp.concatenate([_steps(one, 1, x), x[:-1]]), through, identity)
    return jax.tree.map(whole, jax.vmap(join, in_axes=(None, 0))(before, inside))
