"""How large the gradient of each layer is: what norms and their placement change with depth."""

import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from transformer_jax.typing import Array, Float

_LAYER = re.compile(r"^(?:(.+)\.)?layers\.(\d+)\.")


def layer_gradient_norms(gradient: Mapping[str, Any]) -> dict[str, Float[Array, " layers"]]:
    r"""Euclidean norm of the gradient of each layer, all its parameters together.

    .. math:: n_l = \Big( \sum_{\theta \in \text{layer } l} \|\nabla_\theta L\|^2 \Big)^{1/2}

    Args:
      gradient: By the dotted names of the parameters; those that belong to no layer are left out.

    Returns:
      For each stack by its name (``"encoder"``; ``""`` for layers at the top) a norm a layer, first layer first,
      float32.

    Example:
      >>> gradient = {"encoder.layers.0.kernel": jnp.array([3.0, 4.0]), "encoder.layers.1.bias": jnp.array([2.0])}
      >>> {name: norms.tolist() for name, norms in layer_gradient_norms(gradient).items()}
      {'encoder': [5.0, 2.0]}

    Source: Xiong et al. 2020, https://arxiv.org/abs/2002.04745, figure 3.
    """
    squares: dict[str, dict[int, Any]] = {}
    for name, array in gradient.items():
        found = _LAYER.match(name)
        if found is None:
            continue
        layers = squares.setdefault(found[1] or "", {})
        place = int(found[2])
        layers[place] = layers.get(place, 0.0) + jnp.sum(jnp.square(jnp.asarray(array, jnp.float32)))
    return {
        stack: jnp.sqrt(jnp.stack([layers[place] for place in sorted(layers)]))
        for stack, layers in squares.items()
    }
