"""Arguments as JAX arrays, and the dtype that sums of them are kept in."""

import dataclasses
from typing import Any, Literal, TypeVar, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.errors import ConfigError, nearest_hint
from transformer_jax.typing import Array

ComputeDtype = Literal["float32", "bfloat16"]
"""Dtype of a layer's matrix products; parameters, statistics, softmax and carries are float32 in both."""

_Tree = TypeVar("_Tree")


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


def check_compute_dtype(name: str, dtype: str) -> None:
    """Raise ``ConfigError`` unless it is one of ``ComputeDtype``.

    Args:
      name: Of the argument or field, for the message.
      dtype: What it holds.

    Example:
      >>> check_compute_dtype("dtype", "bfloat16")
    """
    known = get_args(ComputeDtype)
    if dtype not in known:
        raise ConfigError(f"{name} must be one of {known}; got {dtype!r}{nearest_hint(str(dtype), known)}")


def in_compute_dtype(array: Array, dtype: ComputeDtype) -> Array:
    """Activations in the compute dtype; ``"float32"`` leaves them as they come, so that nothing is rounded.

    Example:
      >>> in_compute_dtype(jnp.ones(2), "bfloat16").dtype, in_compute_dtype(jnp.ones(2), "float32").dtype
      (dtype(bfloat16), dtype('float32'))
    """
    return array if dtype == "float32" else array.astype(dtype)


def matrices_in_compute_dtype(tree: _Tree, dtype: ComputeDtype) -> _Tree:
    """The operands of matrix products, leaves of two axes and more, in the compute dtype; vectors stay as they are.

    Example:
      >>> cast = matrices_in_compute_dtype((jnp.ones((2, 2)), jnp.ones(2)), "bfloat16")
      >>> [str(leaf.dtype) for leaf in cast]
      ['bfloat16', 'float32']
    """
    if dtype == "float32":
        return tree
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.ndim > 1 else leaf, tree)
