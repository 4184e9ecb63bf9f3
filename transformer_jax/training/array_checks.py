"""Comparisons of stored arrays with those that are wanted, before anything is done with them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from transformer_jax.errors import RunError, shortened

_FAULTS_SHOWN = 6


def require_same(
    found: Mapping[str, Any], wanted: Mapping[str, Any], path: Path, *, same_dtype: bool = True
) -> None:
    """Raise ``RunError`` naming the arrays in which a checkpoint differs from what is wanted, the first of many."""
    faults = []
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            faults.append(f"has no array {name!r}")
        elif name not in wanted:
            faults.append(f"holds {shortened(repr(name))}, which the model does not have")
        elif (same_dtype and found[name].dtype != wanted[name].dtype) or (
            found[name].shape != wanted[name].shape
        ):
            faults.append(
                f"{name!r} is {found[name].dtype}{list(found[name].shape)}, "
                f"the model wants {wanted[name].dtype}{list(wanted[name].shape)}"
            )
    if faults:
        more = len(faults) - _FAULTS_SHOWN
        shown = "; ".join(faults[:_FAULTS_SHOWN]) + (f"; and {more} more arrays" if more > 0 else "")
        raise RunError(
            f"checkpoint {path}: {shown}: was the run trained with another configuration or version?"
        )


def require_finite(arrays: Mapping[str, Any], path: Path) -> None:
    """Raise ``RunError`` naming the first array that holds NaN or infinity."""
    for name, array in arrays.items():
        if jnp.issubdtype(array.dtype, jnp.floating) and not is_finite(array):
            raise RunError(
                f"{path}: {shortened(repr(name))} holds numbers that are not finite (NaN or infinity): take another "
                "file or checkpoint"
            )


def is_finite(array: np.ndarray) -> bool:
    """Whether no number of a floating-point array is NaN or infinite."""
    if array.dtype not in (np.float16, np.float32, np.float64):
        array = array.astype(np.float32)
    return bool(np.isfinite(array).all())
