"""Recurrent cells: parameters as a pytree, work split in ``project`` (all time at once) and ``step``.

Carries and gate arithmetic are float32 for matrices and inputs of 16 or 32 bits, and float64 where one of them is
float64 (biases follow); outputs are as well, and
:func:`~transformer_jax.functional.recurrent.run_cells.recurrence` returns them to the dtype of its inputs.
"""

import math
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.dtypes import take_arrays, wide
from transformer_jax.pytree import pytree_dataclass, static_field
from transformer_jax.typing import Array, Float

Carry = Any  # one array [batch, hidden], or a tuple of them
Activation = Literal["tanh", "relu"]


@runtime_checkable
class Cell(Protocol):
    """What :func:`recurrence` needs of a cell; it must be a pytree of its parameters."""

    @property
    def hidden_dim(self) -> int:
        """Width of the carry and of the output."""

    def project(self, inputs: Float[Array, "*positions features"]) -> Float[Array, "*positions gates"]:
        """The inputs' share of the gates: one matmul for all positions."""

    def step(
        self, carry: Carry, projected: Float[Array, "batch gates"]
    ) -> tuple[Carry, Float[Array, "batch hidden"]]:
        """One step in time."""

    def initial_carry(self, batch: int) -> Carry:
        """Zeros."""


def affine(
    inputs: Float[Array, "*positions features"],
    weight: Float[Array, "features gates"],
    bias: Float[Array, "gates"],
) -> Float[Array, "*positions gates"]:
    """``inputs @ weight + bias``, accumulated and returned in float32 or wider."""
    # Two-dimensional, because XLA's CPU backend copies both operands of the weight's gradient, transposed, when
    # it contracts more than one axis: a tenth of the time of an LSTM's training pass.
    rows = inputs.reshape(math.prod(inputs.shape[:-1]), inputs.shape[-1])
    dtype = wide(inputs, weight)
    product = jnp.matmul(rows, weight, preferred_element_type=dtype)
    product = product.reshape(*inputs.shape[:-1], weight.shape[-1])
    return product + jnp.expand_dims(bias.astype(dtype), range(product.ndim - 1))


def recur(
    state: Float[Array, "batch hidden"], weight: Float[Array, "hidden gates"]
) -> Float[Array, "batch gates"]:
    """``state @ weight`` in the weight's dtype (float64 for a state of it), accumulated in float32 or wider."""
    operand = state.astype(operand_dtype(state, weight))
    return jnp.matmul(operand, weight, preferred_element_type=wide(operand))


def operand_dtype(state: Array, weight: Array) -> jnp.dtype:
    """The dtype in which a state is multiplied with a weight: the weight's, but float64 for a float64 state."""
    return wide(state) if wide(state) == jnp.float64 else weight.dtype


def _check_parameters(cell: Any, num_gates: int) -> None:
    take_arrays(cell)
    hidden_dim = cell.recurrent_weight.shape[0]
    wanted = {
        "recurrent_weight": (hidden_dim, num_gates * hidden_dim),
        "input_weight": (*cell.input_weight.shape[:1], num_gates * hidden_dim),
        "bias": (num_gates * hidden_dim,),
    }
    for name, shape in wanted.items():
        got = getattr(cell, name).shape
        if got != shape:
            owner = type(cell).__name__
            raise ShapeError(
                f"{name} of {owner} must have shape {shape} at hidden_dim {hidden_dim}; got {got}"
            )


@pytree_dataclass
class RNNCell:
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

    def __post_init__(self) -> None:
        _check_parameters(self, 1)
        if self.activation not in ("tanh", "relu"):
            raise ConfigError(f"activation must be 'tanh' or 'relu'; got '{self.activation}'")

    @property
    def hidden_dim(self) -> int:
        """Width of the carry."""
        return self.recurrent_weight.shape[0]

    def project(self, inputs: Float[Array, "*positions features"]) -> Float[Array, "*positions hidden"]:
        """``inputs @ W + b`` in float32 or wider."""
        return affine(inputs, self.input_weight, self.bias)

    def step(
        self, carry: Float[Array, "batch hidden"], projected: Float[Array, "batch hidden"]
    ) -> tuple[Float[Array, "batch hidden"], Float[Array, "batch hidden"]]:
        """The new carry, which is the output."""
        total = projected + recur(carry, self.recurrent_weight)
        state = jnp.tanh(total) if self.activation == "tanh" else jax.nn.relu(total)
        return state, state

    def initial_carry(self, batch: int) -> Float[Array, "{batch} hidden"]:
        """Zeros."""
        return jnp.zeros((batch, self.hidden_dim), wide(self.input_weight))


@pytree_dataclass
class LSTMCell:
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

    def __post_init__(self) -> None:
        _check_parameters(self, 4)

    @property
    def hidden_dim(self) -> int:
        """Width of each half of the carry."""
        return self.recurrent_weight.shape[0]

    def project(self, inputs: Float[Array, "*positions features"]) -> Float[Array, "*positions gates"]:
        """``inputs @ W + b`` in float32 or wider."""
        return affine(inputs, self.input_weight, self.bias)

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

    def initial_carry(
        self, batch: int
    ) -> tuple[Float[Array, "{batch} hidden"], Float[Array, "{batch} hidden"]]:
        """Zeros for ``h`` and ``c``."""
        zeros = jnp.zeros((batch, self.hidden_dim), wide(self.input_weight))
        return zeros, zeros


@pytree_dataclass
class GRUCell:
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

    def __post_init__(self) -> None:
        _check_parameters(self, 3)
        if self.recurrent_bias.shape != self.recurrent_weight.shape[:1]:
            raise ShapeError(
                f"recurrent_bias of GRUCell must have shape {self.recurrent_weight.shape[:1]}; "
                f"got {self.recurrent_bias.shape}"
            )

    @property
    def hidden_dim(self) -> int:
        """Width of the carry."""
        return self.recurrent_weight.shape[0]

    def project(self, inputs: Float[Array, "*positions features"]) -> Float[Array, "*positions gates"]:
        """``inputs @ W + b`` in float32 or wider."""
        return affine(inputs, self.input_weight, self.bias)

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

    def initial_carry(self, batch: int) -> Float[Array, "{batch} hidden"]:
        """Zeros."""
        return jnp.zeros((batch, self.hidden_dim), wide(self.input_weight))
