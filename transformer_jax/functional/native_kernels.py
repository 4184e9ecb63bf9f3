"""Calls of the native library's kernels from functions of arrays, and why there are none here."""

from typing import Any

import jax
import jax.numpy as jnp

from transformer_jax import native
from transformer_jax.functional.derivatives import varying_alike
from transformer_jax.functional.device_record import default_device
from transformer_jax.typing import Array


def refusals_here() -> list[str]:
    """Why no kernel can be called on this machine."""
    platform = default_device().platform
    if platform != "cpu":
        return [f"needs a CPU, the default device is of the platform '{platform}'"]
    reason = native.why_missing()
    return [] if reason is None else [reason]


def call_kernel(
    handler: str, shapes: tuple[tuple[int, ...], ...], operands: tuple[Array, ...], **attributes: Any
) -> tuple[Array, ...]:
    """Float32 results of a kernel; ``vmap`` puts its axis in front of all operands and results.

    Args:
      handler: As `native.Library.target` takes it.
      shapes: Of the results.
      operands: Those of the kernel, in their order.
      attributes: Its numbers, by name.

    Raises:
      NotImplementedError: If there is no library: callers ask `refusals_here` before.
    """
    library = native.library()
    if library is None:
        raise NotImplementedError(native.why_missing())
    results = tuple(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    kernel = jax.ffi.ffi_call(library.target(handler), results, vmap_method="broadcast_all")
    operands = varying_alike(*operands)
    # JAX does not know that results vary over the axes of a mesh that the operands do.
    return varying_alike(*kernel(*operands, **attributes), operands[0])[:-1]
