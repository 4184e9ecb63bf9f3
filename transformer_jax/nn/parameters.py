"""Counting parameters."""

import math

import jax
from flax import nnx

__all__ = ["parameter_count"]


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
