"""The position-wise feed-forward network."""

from collections.abc import Callable
from typing import Literal

import jax
from flax import nnx

from transformer_jax.errors import ConfigError, nearest_hint
from transformer_jax.functional import dropout
from transformer_jax.nn.linear import Linear
from transformer_jax.typing import Array, Float

__all__ = ["ACTIVATIONS", "Activation", "FeedForward"]

Activation = Literal["relu", "gelu", "gelu_tanh", "silu", "tanh", "swiglu", "geglu"]
"""Of a feed-forward network; ``"swiglu"`` and ``"geglu"`` are gates, with a third matrix."""


def _exact_gelu(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=False)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "gelu": _exact_gelu,
    "silu": jax.nn.silu,
    "tanh": jax.numpy.tanh,
    "gelu_tanh": jax.nn.gelu,
}
GATES: dict[str, Callable[[Array], Array]] = {"swiglu": jax.nn.silu, "geglu": _exact_gelu}
"""Activations of gated networks, by the network's name."""


class FeedForward(nnx.Module):
    r"""Two linear maps with an activation between, at each position by itself.

    .. math:: \mathrm{FFN}(x) = f(x W_1 + b_1) W_2 + b_2

    With a gate (``"swiglu"``: :math:`f` = SiLU, ``"geglu"``: GELU) the activation multiplies a second map; both maps
    are one product, the gate's columns first:

    .. math:: \mathrm{FFN}(x) = (f(x W_g + b_g) \odot (x W_1 + b_1)) W_2 + b_2

    Args:
      model_dim: Width of input and output.
      hidden_dim: Width between the maps.
      activation: ``"relu"``, ``"gelu"`` (exact), ``"gelu_tanh"`` (GPT-2's approximation), ``"silu"``, ``"tanh"``, or a
        gate, ``"swiglu"`` or ``"geglu"``.
      dropout_rate: Dropout after the activation.
      use_bias: Whether the maps have a bias.
      rngs: Source of the initial parameters.

    Raises:
      ConfigError: If the activation is unknown.

    Example:
      >>> layer = FeedForward(4, 8, activation="relu", dropout_rate=0.0, rngs=nnx.Rngs(0))
      >>> layer(jax.numpy.ones((2, 3, 4))).shape
      (2, 3, 4)

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 2; gates: Shazeer 2020,
    https://arxiv.org/abs/2002.05202, equation 6.
    """

    def __init__(
        self,
        model_dim: int,
        hidden_dim: int,
        *,
        activation: Activation,
        dropout_rate: float,
        use_bias: bool = True,
        rngs: nnx.Rngs,
    ) -> None:
        known = ACTIVATIONS | GATES
        if activation not in known:
            raise ConfigError(
                f"activation must be one of {sorted(known)}, got {activation!r}"
                f"{nearest_hint(activation, known)}"
            )
        self.activation = activation
        self.dropout_rate = dropout_rate
        inner_dims = (hidden_dim, hidden_dim) if activation in GATES else (hidden_dim,)
        self.inner = Linear(model_dim, inner_dims, use_bias=use_bias, rngs=rngs)
        self.outer = Linear(hidden_dim, (model_dim,), use_bias=use_bias, rngs=rngs)

    def __call__(
        self, x: Float[Array, "*batch model"], *, rng_key: jax.Array | None = None
    ) -> Float[Array, "*batch model"]:
        """Apply the network to the last axis; ``rng_key=None`` drops nothing."""
        inner = self.inner(x)
        if self.activation in GATES:
            gate, inner = jax.numpy.split(inner, 2, axis=-1)
            inner = GATES[self.activation](gate) * inner
        else:
            inner = ACTIVATIONS[self.activation](inner)
        return self.outer(dropout(inner, self.dropout_rate, rng_key))
