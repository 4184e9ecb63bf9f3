"""A number that tells two sets of parameters apart: two runs that should be the same are compared by it."""

import jax
import jax.numpy as jnp

from transformer_jax.training.hosts import to_host
from transformer_jax.training.state import NamedArrays
from transformer_jax.typing import Array, Shaped

_ODD = (0x9E3779B1, 0x85EBCA77)
"""Of two sums, so that the digest has 64 bits."""


def digest_arrays(arrays: NamedArrays) -> Shaped[Array, " 2"]:
    r"""Two sums over the bits of all arrays, modulo :math:`2^{32}`.

    .. math:: h_{kj} = b_j \oplus m_k (j + 1), \quad d_k = \sum_j m_{1-k} (h_{kj} \oplus (h_{kj} \gg 15)) \bmod 2^{32}

    over the elements :math:`j`, their bits :math:`b_j` and two odd numbers :math:`m_k`. Sums of integers do not depend
    on their order, so neither device nor mesh changes them. Nobody is kept from making two arrays of one digest.

    Args:
      arrays: By name; taken in the order of their names.

    Example:
      >>> one, other = jnp.array([1.0, 2.0]), jnp.array([2.0, 1.0])
      >>> bool((digest_arrays({"w": one}) == digest_arrays({"w": other})).any())
      False
    """
    total = jnp.zeros(2, jnp.uint32)
    for name in sorted(arrays):
        bits = _bits(arrays[name]).ravel()
        index = jnp.arange(1, bits.size + 1, dtype=jnp.uint32)
        mixed = [bits ^ (index * jnp.uint32(odd)) for odd in _ODD]
        sums = [
            jnp.sum((one ^ (one >> 15)) * jnp.uint32(odd))
            for one, odd in zip(mixed, reversed(_ODD), strict=True)
        ]
        total = total * jnp.uint32(31) + jnp.stack(sums)
    return total


def digest_text(digest: jax.Array) -> str:
    """Sixteen hexadecimal digits; waits for the device.

    Example:
      >>> digest_text(jnp.array([1, 255], jnp.uint32))
      '00000001000000ff'
    """
    first, second = (int(half) for half in to_host(digest))
    return f"{first:08x}{second:08x}"


def _bits(array: Array) -> Array:
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    if array.dtype == jnp.bool_:
        return array.astype(jnp.uint32)
    unsigned = {1: jnp.uint8, 2: jnp.uint16}.get(array.dtype.itemsize, jnp.uint32)
    return jax.lax.bitcast_convert_type(array, unsigned).astype(jnp.uint32)
