"""Parameters by name: counting, reading, loading."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.errors import ShapeError, nearest_hint
from transformer_jax.typing import Array, PyTree
from transformer_jax.variables import CarriedState

__all__ = [
    "CarriedState",
    "carries_state",
    "has_batch_statistics",
    "load_parameters",
    "named_parameters",
    "non_parameters",
    "parameter_count",
]


def parameter_count(module: nnx.Module) -> int:
    """Number of trainable numbers in a module; a shared array counts once, running statistics not at all.

    Args:
      module: Any NNX module.

    Returns:
      The number of elements of all ``nnx.Param``.

    Example:
      >>> parameter_count(nnx.Linear(3, 4, rngs=nnx.Rngs(0)))
      16
    """
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


def non_parameters(module: nnx.Module) -> PyTree:
    """The variables of a module that are no ``nnx.Param``; an objective returns these.

    Example:
      >>> list(non_parameters(nnx.BatchNorm(2, rngs=nnx.Rngs(0))))
      ['mean', 'var']
    """
    return nnx.state(module, nnx.Not(nnx.Param))


def carries_state(module: nnx.Module) -> bool:
    """Whether a module carries state from one training batch to the next, see `CarriedState`.

    Example:
      >>> carries_state(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
      False
    """
    return bool(jax.tree.leaves(nnx.state(module, CarriedState)))


def has_batch_statistics(module: nnx.Module) -> bool:
    """Whether a module has running statistics of batches, as batch norm has: it wants to know which tokens are real.

    Example:
      >>> has_batch_statistics(nnx.BatchNorm(2, rngs=nnx.Rngs(0)))
      True
    """
    return bool(jax.tree.leaves(nnx.state(module, nnx.BatchStat)))


def named_parameters(module: Any) -> dict[str, Array]:
    """All parameters, each under its path in dots.

    Args:
      module: Any NNX module, or a state of one (gradients, for example).

    Returns:
      Path to array.

    Example:
      >>> sorted(named_parameters(nnx.Linear(3, 4, rngs=nnx.Rngs(0))))
      ['bias', 'kernel']
    """
    state = module if isinstance(module, nnx.State) else nnx.state(module, nnx.Param)
    return {_name(path): variable[...] for path, variable in nnx.to_flat_state(state)}


def load_parameters(module: nnx.Module, arrays: Mapping[str, Any]) -> None:
    """Overwrite all parameters of a module, in their own dtypes.

    Args:
      module: The module, changed in place.
      arrays: Every parameter under its name in :func:`named_parameters`.

    Raises:
      ShapeError: If a name is missing or unknown, or a shape is another; nothing is changed then.

    Example:
      >>> layer = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
      >>> load_parameters(layer, {"kernel": [[2.0]], "bias": [1.0]})
      >>> layer(jnp.ones((1, 1))).tolist()
      [[3.0]]
    """
    flat = list(nnx.to_flat_state(nnx.state(module, nnx.Param)))
    variables = {_name(path): variable for path, variable in flat}
    for name in arrays:
        if name not in variables:
            raise ShapeError(f"the module has no parameter {name!r}{nearest_hint(name, variables)}")
    loaded = {}
    for name, variable in variables.items():
        if name not in arrays:
            raise ShapeError(f"parameter {name!r} is missing from the arrays")
        loaded[name] = jnp.asarray(arrays[name], variable.dtype)
        if loaded[name].shape != variable.shape:
            raise ShapeError(f"parameter {name!r} must have shape {variable.shape}, got {loaded[name].shape}")
    nnx.update(
        module,
        nnx.from_flat_state([(path, variable.replace(loaded[_name(path)])) for path, variable in flat]),
    )


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))
