r"""The cells with their gates folded into one ``tanh``, and the backward pass of one step of each.

With :math:`\sigma(x) = (\tanh(x/2) + 1) / 2` every gate is a ``tanh``; the halves go into weights and bias
once, before the loop. Folding is ordinary JAX, so its derivative is JAX's; what is written by hand is one
step.
"""

from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np

from transformer_jax.functional.dtypes import wide
from transformer_jax.functional.recurrent.cells import GRUCell, LSTMCell, RNNCell
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Float

Carries = tuple[Array, ...]  # the hidden state first


@pytree_dataclass
class FoldedWeights:
    """A cell's parameters with the halves of its sigmoids in them; biases are float32 or wider."""

    input_weight: Float[Array, "features gates"]
    bias: Float[Array, "gates"]
    recurrent_weight: Float[Array, "hidden gates"]
    recurrent_bias: Float[Array, "gates"] | None


@runtime_checkable
class FusedCell(Protocol):
    """One cell's step and its derivative; ``recurrent`` is the state's share of the gates."""

    def fold(self, cell: Any) -> FoldedWeights:
        """The parameters that ``forward`` expects its two shares of the gates to come from."""

    def forward(self, carries: Carries, projected: Array, recurrent: Array) -> tuple[Carries, Any]:
        """The new carries, and what ``backward`` needs beside the old ones."""

    def backward(self, cotangents: Carries, previous: Carries, saved: Any) -> tuple[Carries, Array, Array]:
        """Cotangents of the old carries (but for the matmul), of ``projected`` and of ``recurrent``."""


def _fold(weight: Array, bias: Array, factors: tuple[float, ...], hidden_dim: int) -> tuple[Array, Array]:
    scale = np.repeat(np.asarray(factors, np.float32), hidden_dim)
    return weight * scale[None, :].astype(weight.dtype), bias.astype(wide(bias)) * scale


class FusedRNN:
    """``h = activation(projected + recurrent)``."""

    def __init__(self, activation: str) -> None:
        self.activation = activation

    def fold(self, cell: RNNCell) -> FoldedWeights:
        """Nothing to fold."""
        return FoldedWeights(
            cell.input_weight, cell.bias.astype(wide(cell.bias)), cell.recurrent_weight, None
        )

    def forward(self, carries: Carries, projected: Array, recurrent: Array) -> tuple[Carries, Any]:
        """See :class:`FusedCell`."""
        total = projected + recurrent
        state = jnp.tanh(total) if self.activation == "tanh" else jnp.maximum(total, 0.0)
        return (state,), state

    def backward(self, cotangents: Carries, previous: Carries, saved: Any) -> tuple[Carries, Array, Array]:
        """See :class:`FusedCell`."""
        slope = 1.0 - saved * saved if self.activation == "tanh" else (saved > 0.0).astype(saved.dtype)
        to_total = cotangents[0] * slope
        return (jnp.zeros_like(saved),), to_total, to_total


class FusedLSTM:
    """Gates in the order i, f, g, o, all of them in one ``tanh``."""

    def fold(self, cell: LSTMCell) -> FoldedWeights:
        """Halves for the three sigmoids."""
        factors, hidden_dim = (0.5, 0.5, 1.0, 0.5), cell.hidden_dim
        input_weight, bias = _fold(cell.input_weight, cell.bias, factors, hidden_dim)
        recurrent_weight, _ = _fold(cell.recurrent_weight, cell.bias, factors, hidden_dim)
        return FoldedWeights(input_weight, bias, recurrent_weight, None)

    def forward(self, carries: Carries, projected: Array, recurrent: Array) -> tuple[Carries, Any]:
        """See :class:`FusedCell`."""
        gates = jnp.tanh(projected + recurrent)
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        memory = 0.5 * ((f + 1.0) * carries[1] + (i + 1.0) * g)
        return (0.5 * (o + 1.0) * jnp.tanh(memory), memory), (gates, memory)

    def backward(self, cotangents: Carries, previous: Carries, saved: Any) -> tuple[Carries, Array, Array]:
        """See :class:`FusedCell`."""
        gates, memory = saved
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        squashed = jnp.tanh(memory)
        half_hidden = 0.5 * cotangents[0]
        to_memory = cotangents[1] + half_hidden * (o + 1.0) * (1.0 - squashed * squashed)
        half_memory = 0.5 * to_memory
        to_gates = jnp.concatenate(
            [half_memory * g, half_memory * previous[1], half_memory * (i + 1.0), half_hidden * squashed],
            axis=-1,
        )
        to_total = to_gates * (1.0 - gates * gates)
        return (jnp.zeros_like(memory), half_memory * (f + 1.0)), to_total, to_total


class FusedGRU:
    """Gates r, z, n. All of ``recurrent`` is halved: ``sigmoid * inner = (tanh + 1) * (inner / 2)``."""

    def fold(self, cell: GRUCell) -> FoldedWeights:
        """Halves for the two sigmoids, and for what the reset gate multiplies."""
        hidden_dim = cell.hidden_dim
        input_weight, bias = _fold(cell.input_weight, cell.bias, (0.5, 0.5, 1.0), hidden_dim)
        inner = 0.5 * cell.recurrent_bias.astype(wide(cell.recurrent_bias))
        recurrent_bias = jnp.concatenate([jnp.zeros(2 * hidden_dim, inner.dtype), inner])
        return FoldedWeights(input_weight, bias, 0.5 * cell.recurrent_weight, recurrent_bias)

    def forward(self, carries: Carries, projected: Array, recurrent: Array) -> tuple[Carries, Any]:
        """See :class:`FusedCell`."""
        hidden_dim = carries[0].shape[-1]
        gates = jnp.tanh(projected[:, : 2 * hidden_dim] + recurrent[:, : 2 * hidden_dim])
        r, z = jnp.split(gates, 2, axis=-1)
        inner = recurrent[:, 2 * hidden_dim :]
        candidate = jnp.tanh(projected[:, 2 * hidden_dim :] + (r + 1.0) * inner)
        state = candidate + 0.5 * (z + 1.0) * (carries[0] - candidate)
        return (state,), (gates, inner, candidate)

    def backward(self, cotangents: Carries, previous: Carries, saved: Any) -> tuple[Carries, Array, Array]:
        """See :class:`FusedCell`."""
        gates, inner, candidate = saved
        r, z = jnp.split(gates, 2, axis=-1)
        half = 0.5 * cotangents[0]
        to_candidate = half * (1.0 - z) * (1.0 - candidate * candidate)
        to_reset = to_candidate * inner * (1.0 - r * r)
        to_update = half * (previous[0] - candidate) * (1.0 - z * z)
        to_projected = jnp.concatenate([to_reset, to_update, to_candidate], axis=-1)
        to_recurrent = jnp.concatenate([to_reset, to_update, to_candidate * (r + 1.0)], axis=-1)
        return (half * (z + 1.0),), to_projected, to_recurrent


_LSTM, _GRU = FusedLSTM(), FusedGRU()
_RNN = {"tanh": FusedRNN("tanh"), "relu": FusedRNN("relu")}


def fused_form(cell: Any) -> FusedCell | None:
    """The fused form of exactly this type of cell (a subclass may step otherwise), or ``None``."""
    if type(cell) is RNNCell:
        return _RNN[cell.activation]
    if type(cell) is LSTMCell:
        return _LSTM
    return _GRU if type(cell) is GRUCell else None
