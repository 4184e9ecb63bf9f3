"""Rematerialization: less memory in the backward pass for computing some of the forward pass again."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import jax

Remat = Literal["nothing", "elementwise", "layers"]
"""Values that the backward pass recomputes."""

_T = TypeVar("_T", bound=Callable[..., Any])


def remat(layer: _T, recomputed: Remat) -> _T:
    r"""A layer of the same values and gradients whose backward pass computes a part of its forward pass again.

    Of :math:`L` layers that each keep :math:`k` arrays of activations, ``"layers"`` keeps :math:`L + k` instead of
    :math:`L k`, for one more forward pass: about a third more computing.

    Args:
      layer: From its input to its output; what else it reads may be closed over.
      recomputed: ``"nothing"``: the layer itself. ``"elementwise"``: everything but products with weights, that is
        norms, activations, dropout, the scores of attention. ``"layers"``: everything but the layer's input.

    Example:
      >>> def layer(x):
      ...   return jnp.tanh(x) ** 2
      >>> bool(jax.grad(remat(layer, "layers"))(jnp.float32(0.5)) == jax.grad(layer)(jnp.float32(0.5)))
      True

    Source: Chen et al. 2016, https://arxiv.org/abs/1604.06174, section 3.
    """
    if recomputed == "nothing":
        return layer
    keeps_products = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    policy = keeps_products if recomputed == "elementwise" else None
    return jax.checkpoint(layer, policy=policy)  # type: ignore[return-value]  # JAX does not type it
