"""Recurrent cells: parameters as a pytree, work split in ``project`` (all time at once) and ``step``.

Carries and gate arithmetic are float32 for matrices and inputs of 16 or 32 bits, and float64 where one of them is
float64 (biases follow); outputs are as well, and
:func:`~transformer_jax.functional.recurrent.run_cells.recurrence` returns them to the dtype of its inputs.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.errors import ConfigError
from transformer_jax.functional.recurrent.gated_cell import (
    Carry,
    Cell,
    GatedCell,
    affine,
    operand_dtype,
    recur,
)
from transformer_jax.pytree import pytree_dataclass, static_field
from transformer_jax.typing import Array, Float

__all__ = ["Carry", "Cell", "GRUCell", "LSTMCell", "RNNCell", "affine", "operand_dtype", "recur"]

Activation = Literal["tanh", "relu"]


@pytree_dataclass
class RNNCell(GatedCell):
    r"""The plain recurrent cell.

    .. math:: h_t = \phi(x_t W + h_{t-1} U + b)

    Args:
      input_weight: :math:`W`.
      recurrent_weight: :math:`U`.
      bias: :math:`b`.
      activation: :math:`\phi`, ``"tanh"`` or ``"relu"``.

    Example:
      >>> cell = RNNCell(jnp.ones((3, 2)), jnp.zeros((2, 2)), jnp.zeros(2), "relu")
      >>> carry, output = cell.step(cell.initial_carry(1), cell.project(jnp.ones((1, 3))))
      >>> output.tolist()
      [[3.0, 3.0]]

    Source: Elman 1990, https://doi.org/10.1207/s15516709cog1402_1.
    """

    input_weight: Float[Array, "features hidden"]
    recurrent_weight: Float[Array, "hidden hidden"]
    bias: Float[Array, "hidden"]
    activation: Activation = static_field(default="tanh")

    kind = "rnn"
    num_gates = 1
    torch_layer = "RNN"

    def __post_init__(self) -> None:
        GatedCell.__post_init__(self)
        if self.activation not in ("tanh", "relu"):
            raise ConfigError(f"activation must be 'tanh' or 'relu'; got '{self.activation}'")

    def step(
        self, carry: Float[Array, "batch hidden"], projected: Float[Array, "batch hidden"]
    ) -> tuple[Float[Array, "batch hidden"], Float[Array, "batch hidden"]]:
        """The new carry, which is the output."""
        total = projected + recur(carry, self.recurrent_weight)
        state = jnp.tanh(total) if self.activation == "tanh" else jax.nn.relu(total)
        return state, state


@pytree_dataclass
class LSTMCell(GatedCell):
    r"""Long short-term memory, gates in the order input, forget, candidate, output.

    .. math::
      [i, f, g, o] &= x_t W + h_{t-1} U + b \\
      c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
      h_t &= \sigma(o) \odot \tanh(c_t)

    Args:
      input_weight: :math:`W`.
      recurrent_weight: :math:`U`.
      bias: :math:`b`.

    Example:
      >>> cell = LSTMCell(jnp.ones((3, 8)), jnp.ones((2, 8)), jnp.zeros(8))
      >>> (hidden, memory), output = cell.step(cell.initial_carry(1), cell.project(jnp.ones((1, 3))))
      >>> output.shape, memory.shape
      ((1, 2), (1, 2))

    Source: Hochreiter & Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735, with the forget gate of
    Gers et al. 2000, https://doi.org/10.1162/089976600300015015; no peepholes.
    """

    input_weight: Float[Array, "features gates"]
    recurrent_weight: Float[Array, "hidden 4*hidden"]
    bias: Float[Array, "4*hidden"]

    kind = "lstm"
    num_gates = 4
    carry_names = ("hidden", "memory")
    open_gate = 1
    torch_layer = "LSTM"

    def step(
        self,
        carry: tuple[Float[Array, "batch hidden"], Float[Array, "batch hidden"]],
        projected: Float[Array, "batch 4*hidden"],
    ) -> tuple[
        tuple[Float[Array, "batch hidden"], Float[Array, "batch hidden"]], Float[Array, "batch hidden"]
    ]:
        """The new carry ``(h, c)`` and the output ``h``."""
        hidden, memory = carry
        total = projected + recur(hidden, self.recurrent_weight)
        input_gate, forget_gate, candidate, output_gate = jnp.split(total, 4, axis=-1)
        memory = jax.nn.sigmoid(forget_gate) * memory + jax.nn.sigmoid(input_gate) * jnp.tanh(candidate)
        hidden = jax.nn.sigmoid(output_gate) * jnp.tanh(memory)
        return (hidden, memory), hidden


@pytree_dataclass
class GRUCell(GatedCell):
    r"""Gated recurrent unit, gates in the order reset, update, candidate; the reset acts after the matmul.

    .. math::
      r &= \sigma(x_t W_r + h_{t-1} U_r + b_r), \quad z = \sigma(x_t W_z + h_{t-1} U_z + b_z) \\
      n &= \tanh(x_t W_n + b_n + r \odot (h_{t-1} U_n + b_{hn})) \\
      h_t &= (1 - z) \odot n + z \odot h_{t-1}

    Args:
      input_weight: :math:`[W_r, W_z, W_n]`.
      recurrent_weight: :math:`[U_r, U_z, U_n]`.
      bias: :math:`[b_r, b_z, b_n]`.
      recurrent_bias: :math:`b_{hn}`.

    Example:
      >>> cell = GRUCell(jnp.ones((3, 6)), jnp.ones((2, 6)), jnp.zeros(6), jnp.zeros(2))
      >>> carry, output = cell.step(cell.initial_carry(1), cell.project(jnp.ones((1, 3))))
      >>> output.shape
      (1, 2)

    Source: Cho et al. 2014, https://arxiv.org/abs/1406.1078, equations 5 to 8, in version 1's variant with
    the reset after the matmul (as cuDNN and PyTorch have it) and PyTorch's direction of ``z``.
    """

    input_weight: Float[Array, "features gates"]
    recurrent_weight: Float[Array, "hidden 3*hidden"]
    bias: Float[Array, "3*hidden"]
    recurrent_bias: Float[Array, "hidden"]

    kind = "gru"
    num_gates = 3
    torch_layer = "GRU"

    @classmethod
    def parameter_shapes(cls, input_dim: int, hidden_dim: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters, by the names of the fields."""
        return {**super().parameter_shapes(input_dim, hidden_dim), "recurrent_bias": (hidden_dim,)}

    @classmethod
    def from_two_biases(
        cls, input_weight: Any, recurrent_weight: Any, input_bias: Any, recurrent_bias: Any, **more: Any
    ) -> "GRUCell":
        """A cell from a layout with two biases: the reset gate multiplies the candidate's second one, so it stays."""
        rows = 2 * recurrent_weight.shape[0]
        outer = np.concatenate([recurrent_bias[:rows], np.zeros_like(recurrent_bias[rows:])])
        return cls(
            input_weight,
            recurrent_weight,
            jnp.asarray(input_bias + outer),
            jnp.asarray(recurrent_bias[rows:]),
        )

    def step(
        self, carry: Float[Array, "batch hidden"], projected: Float[Array, "batch 3*hidden"]
    ) -> tuple[Float[Array, "batch hidden"], Float[Array, "batch hidden"]]:
        """The new carry, which is the output."""
        recurrent = recur(carry, self.recurrent_weight)
        input_reset, input_update, input_candidate = jnp.split(projected, 3, axis=-1)
        state_reset, state_update, state_candidate = jnp.split(recurrent, 3, axis=-1)
        reset = jax.nn.sigmoid(input_reset + state_reset)
        update = jax.nn.sigmoid(input_update + state_update)
        inner = state_candidate + self.recurrent_bias.astype(recurrent.dtype)[None, :]
        candidate = jnp.tanh(input_candidate + reset * inner)
        state = (1.0 - update) * candidate + update * carry
        return state, state
