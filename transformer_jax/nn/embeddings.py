"""Token embeddings: the look-up, its padding row, and tied output logits."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.errors import ConfigError
from transformer_jax.functional.dtypes import ComputeDtype, check_compute_dtype, in_compute_dtype, wide
from transformer_jax.functional.initializers import embedding_normal
from transformer_jax.typing import Array, Bool, Float, Int

__all__ = ["Embedding", "freeze_row", "rows_of_table"]

_FEW_ROWS = 32
"""Up to so many rows of states, as in a step of decoding, the logits are the table times the states turned: XLA's CPU
product of few rows and a turned table takes 1.4 (32 rows) to 1.7 times as long (50,257 tokens, width 768, one core)."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def freeze_row(table: Float[Array, "vocab model"], row: int) -> Float[Array, "vocab model"]:
    """The table itself, but the gradient of one row is zero.

    Args:
      table: Any table.
      row: The row whose gradient is cut, static.

    Returns:
      ``table``; going forward nothing is copied.

    Example:
      >>> jax.grad(lambda table: freeze_row(table, 0).sum())(jnp.ones((2, 2))).tolist()
      [[0.0, 0.0], [1.0, 1.0]]
    """
    return table


def _freeze_row_forward(table: Array, row: int) -> tuple[Array, None]:
    return table, None


def _freeze_row_backward(row: int, residual: None, gradient: Array) -> tuple[Array]:
    return (gradient.at[row].set(0.0),)


freeze_row.defvjp(_freeze_row_forward, _freeze_row_backward)


def rows_of_table(
    table: Float[Array, "rows model"], index: Int[Array, "*batch"]
) -> Float[Array, "*batch model"]:
    """The rows at ``index``; NaN where it is below 0 or past the end (no counting from the end).

    As fast as clipping, and so is its gradient, a scatter-add that leaves out what is not in the table.

    Example:
      >>> rows_of_table(jnp.eye(2), jnp.array([1, -1])).tolist()
      [[0.0, 1.0], [nan, nan]]
    """
    return table.at[index].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


class Embedding(nnx.Module):
    r"""Table of token vectors; the same table can give the output logits.

    .. math:: e_t = s\, E_{t}, \quad \mathrm{logits} = x E^\top

    The look-up is the product of a one-hot row and the table. The padding token's row starts as zeros and has
    no gradient, neither by the look-up nor by the logits, so it stays zero under any optimiser whose update
    of a zero with zero gradient is zero.

    Args:
      vocab_size: Number of tokens.
      model_dim: Width of a vector.
      padding_id: The token whose row is zero; ``None`` = every row is learned.
      scale: What looked-up vectors are multiplied by: ``"sqrt_dim"`` = :math:`\sqrt{d}`, ``"none"`` = 1.
      dtype: Of the vectors; the table is float32.
      rngs: Source of the initial parameters.

    Raises:
      ConfigError: If ``padding_id`` is no token, or ``scale`` or ``dtype`` is unknown.

    Example:
      >>> embedding = Embedding(5, 4, padding_id=0, scale="sqrt_dim", rngs=nnx.Rngs(0))
      >>> embedding(jnp.array([[0, 3]])).shape, embedding.attend(jnp.ones((2, 4))).shape
      ((1, 2, 4), (2, 5))

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.4; tying: Press and Wolf 2017,
    https://arxiv.org/abs/1608.05859.
    """

    def __init__(
        self,
        vocab_size: int,
        model_dim: int,
        *,
        padding_id: int | None,
        scale: str,
        dtype: ComputeDtype = "float32",
        rngs: nnx.Rngs,
    ) -> None:
        check_compute_dtype("dtype", dtype)
        if padding_id is not None and not 0 <= padding_id < vocab_size:
            raise ConfigError(f"padding_id must be in [0, vocab_size) = [0, {vocab_size}), got {padding_id}")
        if scale not in ("sqrt_dim", "none"):
            raise ConfigError(f"scale must be 'sqrt_dim' or 'none', got {scale!r}")
        self.padding_id = padding_id
        self.dtype = dtype
        self.scale = math.sqrt(model_dim) if scale == "sqrt_dim" else 1.0
        table = embedding_normal(rngs.params(), vocab_size, model_dim)
        self.embedding = nnx.Param(table if padding_id is None else table.at[padding_id].set(0.0))

    def table(self) -> Float[Array, "vocab model"]:
        """The table as losses and logits use it: the padding row passes no gradient."""
        table = self.embedding[...]
        return table if self.padding_id is None else freeze_row(table, self.padding_id)

    def __call__(
        self, tokens: Int[Array, "*batch"], *, valid: Bool[Array, "*batch"] | None = None
    ) -> Float[Array, "*batch model"]:
        """Look tokens up.

        Args:
          tokens: Ids. One outside of the vocabulary, below 0 too, gives a vector of NaN: an error that shows, where
            the nearest row would compute with another token.
          valid: False = padding, which may hold any number; ``None`` = all are tokens.

        Returns:
          ``[*batch, model]``.
        """
        tokens = jnp.asarray(tokens)
        if valid is not None:
            tokens = jnp.where(valid, tokens, self.padding_id or 0)
        # The gradient is a scatter-add: measured on the CPU it beats a one-hot product for every vocabulary.
        vectors = rows_of_table(self.table(), tokens)
        return in_compute_dtype(vectors if self.scale == 1.0 else vectors * self.scale, self.dtype)

    def attend(self, x: Float[Array, "*batch model"]) -> Float[Array, "*batch vocab"]:
        """Tied logits: the product with every token's vector, unscaled; float32 or wider, also for 16-bit states."""
        table, num_rows = self.table().astype(x.dtype), math.prod(x.shape[:-1])
        if not 1 < num_rows <= _FEW_ROWS or jax.default_backend() != "cpu":
            return jnp.matmul(x, table.T, preferred_element_type=wide(x))
        by_token = jnp.matmul(table, x.reshape(num_rows, -1).T, preferred_element_type=wide(x))
        # Without the barrier XLA turns the product round again.
        return jax.lax.optimization_barrier(by_token).T.reshape(*x.shape[:-1], table.shape[0])
