"""Arguments as JAX arrays, and the dtype that sums of them are kept in."""

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.errors import ConfigError
from transformer_jax.typing import Array


def wide(*of: Any) -> jnp.dtype:
    """The dtype that sums are kept in: float64 where an operand is float64, else float32.

    Args:
      of: Arrays or dtypes; ``None`` and Python numbers say nothing.

    Example:
      >>> wide(jnp.bfloat16, None) == wide(jnp.ones(2)) == jnp.float32
      True
    """
    kinds = (one if isinstance(one, type | np.dtype) else getattr(one, "dtype", None) for one in of)
    dtypes = (jnp.dtype(kind) for kind in kinds if kind is not None)
    is_double = any(dtype == jnp.float64 for dtype in dtypes)
    return jax.dtypes.canonicalize_dtype(jnp.float64) if is_double else jnp.dtype(jnp.float32)


def as_array(name: str, value: Any) -> Array:
    """The argument as a JAX array: an array itself, or anything that ``jnp.asarray`` takes.

    Args:
      name: Of the argument, for the message.
      value: What came.

    Raises:
      ConfigError: If no array can be made of it.

    Example:
      >>> as_array("inputs", [[1.0, 2.0]]).shape
      (1, 2)
    """
    if isinstance(value, jax.Array | jax.ShapeDtypeStruct):
        return cast(Array, value)
    if not isinstance(value, type | str | bytes | None):
        try:
            return jnp.asarray(value)
        except (TypeError, ValueError, OverflowError):
            pass
    got = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
    raise ConfigError(f"{name} must be an array or something that jnp.asarray takes, got {got}")


def take_arrays(node: Any) -> None:
    """Make arrays of the fields of a pytree dataclass that are none yet; for its ``__post_init__``.

    Raises:
      ConfigError: If no array can be made of a field.
    """
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if value is not None and not field.metadata.get("static", False):
            object.__setattr__(node, field.name, as_array(f"{type(node).__name__}.{field.name}", value))
