"""Recurrent cells: the protocol of :func:`recurrence`, and the base class that carries a cell's own facts."""

import math
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from transformer_jax.errors import ShapeError
from transformer_jax.functional.dtypes import take_arrays, wide
from transformer_jax.functional.initializers import fused_xavier_uniform
from transformer_jax.pytree import replace
from transformer_jax.typing import Array, Float

__all__ = ["Carry", "Cell", "GatedCell", "affine", "operand_dtype", "recur"]

Carry = Any  # one array [batch, hidden], or a tuple of them


@runtime_checkable
class Cell(Protocol):
    """Protocol of a cell for :func:`recurrence`; a cell must be a pytree of its parameters."""

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


class GatedCell:
    """Base of cells with a weight matrix and a bias for the gates of their inputs, side by side.

    A new cell is a subclass that is a pytree dataclass, names its facts and says how to step:

    Attributes:
      kind: Name in configs.
      num_gates: Blocks of ``hidden_dim`` columns in the weights.
      is_linear: Whether the gates see the input alone, so that the step is linear in the carry: such a cell has
        ``coefficients`` and no ``recurrent_weight``, and all its steps can be done at once.
      carry_names: Parts of the carry, the output first: one array of this name, or a tuple of several.
      open_gate: Block of the bias that starts at 1, such as a forget gate's; ``None`` = all start at 0.
      torch_layer: Name of PyTorch's layer with the same equations and order of gates; ``None`` = there is none.

    Example:
      >>> from transformer_jax.functional.recurrent import LSTMCell
      >>> LSTMCell.kind, LSTMCell.num_gates, LSTMCell.carry_names
      ('lstm', 4, ('hidden', 'memory'))
    """

    kind: ClassVar[str]
    num_gates: ClassVar[int]
    is_linear: ClassVar[bool] = False
    carry_names: ClassVar[tuple[str, ...]] = ("hidden",)
    open_gate: ClassVar[int | None] = None
    torch_layer: ClassVar[str | None] = None

    input_weight: Any
    bias: Any

    @classmethod
    def parameter_shapes(cls, input_dim: int, hidden_dim: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters, by the names of the fields."""
        gates = cls.num_gates * hidden_dim
        recurrent = {} if cls.is_linear else {"recurrent_weight": (hidden_dim, gates)}
        return {"input_weight": (input_dim, gates), **recurrent, "bias": (gates,)}

    @classmethod
    def num_parameters(cls, input_dim: int, hidden_dim: int) -> int:
        """How many numbers the parameters are.

        Example:
          >>> from transformer_jax.functional.recurrent import GRUCell
          >>> GRUCell.num_parameters(2, 3)  # 9 columns of 2 + 3 + 1 rows, and the inner bias
          57
        """
        return sum(math.prod(shape) for shape in cls.parameter_shapes(input_dim, hidden_dim).values())

    @classmethod
    def initialize(cls, next_key: Callable[[], jax.Array], input_dim: int, hidden_dim: int) -> "GatedCell":
        """A cell to start training from.

        Input weights are Glorot-uniform and recurrent weights orthogonal, gate by gate; all else is zero but for the
        bias of ``open_gate``, which starts at 1.

        Args:
          next_key: Gives a new random key at each call, as ``nnx.Rngs.params`` does.
          input_dim: Width of the inputs.
          hidden_dim: Width of the carry.

        Returns:
          The cell, its parameters float32.

        Source: Glorot and Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html; the forget gate: Jozefowicz
        et al. 2015, https://proceedings.mlr.press/v37/jozefowicz15.html, section 3.
        """
        shapes = cls.parameter_shapes(input_dim, hidden_dim)
        arrays = {name: jnp.zeros(shape, jnp.float32) for name, shape in shapes.items()}
        arrays["input_weight"] = fused_xavier_uniform(next_key(), input_dim, (hidden_dim,) * cls.num_gates)
        if "recurrent_weight" in shapes:
            orthogonal = jax.nn.initializers.orthogonal(dtype=jnp.float32)
            blocks = [orthogonal(next_key(), (hidden_dim, hidden_dim)) for _ in range(cls.num_gates)]
            arrays["recurrent_weight"] = jnp.concatenate(blocks, axis=1)
        if cls.open_gate is not None:
            start = cls.open_gate * hidden_dim
            arrays["bias"] = arrays["bias"].at[start : start + hidden_dim].set(1.0)
        return cls(**arrays)

    @classmethod
    def from_two_biases(
        cls, input_weight: Any, recurrent_weight: Any, input_bias: Any, recurrent_bias: Any, **more: Any
    ) -> "GatedCell":
        """A cell from a layout that has one bias for the inputs and one for the state, as PyTorch's has.

        Args:
          input_weight: ``[features, gates]``.
          recurrent_weight: ``[hidden, gates]``.
          input_bias: ``[gates]``.
          recurrent_bias: ``[gates]``.
          more: Static fields of the cell.
        """
        fields = {"recurrent_weight": recurrent_weight, "bias": jnp.asarray(input_bias + recurrent_bias)}
        return cls(input_weight=input_weight, **fields, **more)  # type: ignore[call-arg]  # each cell is a dataclass

    def __post_init__(self) -> None:
        take_arrays(self)
        owner, num_inputs = type(self).__name__, self.input_weight.shape[:1]
        if self.is_linear and self.bias.shape[0] % self.num_gates:
            raise ShapeError(
                f"bias of {owner} must hold {self.num_gates} gates of one width; got {self.bias.shape[0]}"
            )
        shapes = self.parameter_shapes(num_inputs[0] if num_inputs else 0, self.hidden_dim)
        # The recurrent weight gives the width, so it is the first that can be wrong by itself.
        for name in sorted(shapes, key=lambda name: name != "recurrent_weight"):
            got = getattr(self, name).shape
            if got != shapes[name]:
                raise ShapeError(
                    f"{name} of {owner} must have shape {shapes[name]} at hidden_dim {self.hidden_dim}; got {got}"
                )

    @property
    def hidden_dim(self) -> int:
        """Width of each part of the carry."""
        if self.is_linear:
            return self.bias.shape[0] // self.num_gates
        return self.recurrent_weight.shape[0]  # type: ignore[attr-defined]  # a linear cell has none

    def project(self, inputs: Float[Array, "*positions features"]) -> Float[Array, "*positions gates"]:
        """``inputs @ W + b`` in float32 or wider."""
        return affine(inputs, self.input_weight, self.bias)

    def step(self, carry: Any, projected: Any) -> tuple[Any, Any]:
        """One step in time: the new carry and the output; each cell has its own."""
        raise NotImplementedError(f"{type(self).__name__} must define step")

    def split_inputs(self, width: int) -> tuple["GatedCell", Float[Array, "features gates"]]:
        """The cell for the first ``width`` inputs, and the weight of the others.

        What is known before a loop over time is projected before it; only what is fed back is left inside.
        """
        return replace(self, input_weight=self.input_weight[:width]), self.input_weight[width:]

    def initial_carry(self, batch: int) -> Carry:
        """Zeros, float32 or wider: ``[batch, hidden]``, or a tuple of them where the carry has several parts."""
        zeros = jnp.zeros((batch, self.hidden_dim), wide(self.input_weight))
        return zeros if len(self.carry_names) == 1 else (zeros,) * len(self.carry_names)


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
