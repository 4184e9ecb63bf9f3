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

Activation = Literal["relu", "gelu", "silu", "tanh"]


def _exact_gelu(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=False)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "gelu": _exact_gelu,
    "silu": jax.nn.silu,
    "tanh": jax.numpy.tanh,
}


class FeedForward(nnx.Module):
    r"""Two linear maps with an activation between, at each position by itself.

    .. math:: \mathrm{FFN}(x) = f(x W_1 + b_1) W_2 + b_2

    Args:
      model_dim: Width of input and output.
      hidden_dim: Width between the maps.
      activation: ``"relu"``, ``"gelu"`` (exact), ``"silu"`` or ``"tanh"``.
      dropout_rate: Dropout after the activation.
      rngs: Source of the initial parameters.

    Raises:
      ConfigError: If the activation is unknown.

    Example:
      >>> layer = FeedForward(4, 8, activation="relu", dropout_rate=0.0, rngs=nnx.Rngs(0))
      >>> layer(jax.numpy.ones((2, 3, 4))).shape
      (2, 3, 4)

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 2.
    """

    def __init__(
        self, model_dim: int, hidden_dim: int, *, activation: Activation, dropout_rate: float, rngs: nnx.Rngs
    ) -> None:
        if activation not in ACTIVATIONS:
            raise ConfigError(
                f"activation must be one of {sorted(ACTIVATIONS)}, got {activation!r}"
                f"{nearest_hint(activation, ACTIVATIONS)}"
            )
        self.activation = activation
        self.dropout_rate = dropout_rate
        self.inner = Linear(model_dim, (hidden_dim,), use_bias=True, rngs=rngs)
        self.outer = Linear(hidden_dim, (model_dim,), use_bias=True, rngs=rngs)

    def __call__(
        self, x: Float[Array, "*batch model"], *, rng_key: jax.Array | None = None
    ) -> Float[Array, "*batch model"]:
        """Apply the network to the last axis; ``rng_key=None`` drops nothing."""
        inner = ACTIVATIONS[self.activation](self.inner(x))
        return self.outer(dropout(inner, self.dropout_rate, rng_key))
