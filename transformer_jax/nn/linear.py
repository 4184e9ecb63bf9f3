"""A linear map whose columns may be several maps fused into one matrix product."""

import jax.numpy as jnp
from flax import nnx

from transformer_jax.functional.dtypes import as_array
from transformer_jax.functional.initializers import fused_xavier_uniform
from transformer_jax.typing import Array, Float

__all__ = ["Linear"]


class Linear(nnx.Module):
    r"""Linear map of the last axis, Glorot-uniform at the start.

    .. math:: y = x W + b

    Unlike ``nnx.Linear`` it takes the widths of several maps that share one product, and each starts as if
    it stood alone.

    Args:
      input_dim: Width of the input.
      output_dims: Widths of the maps side by side; the output has their sum.
      use_bias: Whether a shift, zero at the start, is added.
      rngs: Source of the initial parameters.

    Example:
      >>> Linear(4, (4, 2), use_bias=False, rngs=nnx.Rngs(0))(jnp.ones((3, 4))).shape
      (3, 6)
    """

    def __init__(
        self, input_dim: int, output_dims: tuple[int, ...], *, use_bias: bool, rngs: nnx.Rngs
    ) -> None:
        self.kernel = nnx.Param(fused_xavier_uniform(rngs.params(), input_dim, output_dims))
        self.bias = nnx.Param(jnp.zeros(sum(output_dims), jnp.float32)) if use_bias else None

    def __call__(self, x: Float[Array, "*batch input"]) -> Float[Array, "*batch output"]:
        """Map the last axis; parameters take the dtype of the input."""
        # With one leading axis the kernel's gradient is a plain matrix product; over two axes XLA's CPU
        # backend transposes the larger operand first, which costs up to two thirds more in all.
        x = as_array("x", x)
        rows = x.reshape(-1, x.shape[-1]) @ self.kernel[...].astype(x.dtype)
        if self.bias is not None:
            rows = rows + jnp.broadcast_to(self.bias[...].astype(x.dtype), rows.shape)
        return rows.reshape(*x.shape[:-1], rows.shape[-1])
