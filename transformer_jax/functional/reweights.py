"""Factors of attention weights after the softmax, evaluated by block like masks and biases."""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.dtypes import take_arrays, wide
from transformer_jax.functional.masks import pick
from transformer_jax.pytree import pytree_dataclass, replace, static_field
from transformer_jax.typing import Array, Float, Int


@runtime_checkable
class Reweight(Protocol):
    """A factor of each weight; its arrays are ``[batch|1, heads|1, q_len]``, one entry a query."""

    def check(self, batch: int, num_heads: int, q_len: int) -> None:
        """Raise ``ShapeError`` or ``ConfigError`` unless the factor fits the call."""
        ...

    def for_heads(self, row: int | Array, head: int | Array, num_heads: int) -> "Reweight":
        """The factor of one sequence of the batch and some of its heads; both starts may be traced."""
        ...

    def for_queries(self, start: int | Array, size: int) -> "Reweight":
        """The factor of some queries; the start may be traced."""
        ...

    def block(self, key_positions: Int[Array, "one_or_batch kv_len"]) -> Float[Array, "b h q_len kv_len"]:
        """The factors of all its queries and some keys, ``[batch|1, heads|1, q_len, kv_len]``."""
        ...


@pytree_dataclass
class GaussianReweight:
    r"""Luong's preference for keys near a predicted position.

    .. math:: a_{ij} = p_{ij} \exp\left(-\frac{(k_j - c_i)^2}{2 \sigma^2}\right)

    The weights are not normalised again: their sum tells how near the softmax looked to the centre.

    Attributes:
      center: The positions :math:`c`, in tokens and with a gradient, ``[batch|1, heads|1, q_len]``.
      deviation: :math:`\sigma` in tokens; Luong takes half of the window's half width.

    Example:
      >>> factor = GaussianReweight(jnp.array([[[1.0]]]), 1.0).block(jnp.arange(3)[None])
      >>> [round(float(one), 3) for one in factor[0, 0, 0]]
      [0.607, 1.0, 0.607]

    Source: Luong et al. 2015, https://arxiv.org/abs/1508.04025, equation 10.
    """

    center: Float[Array, "one_or_batch one_or_heads q_len"]
    deviation: float = static_field()

    def __post_init__(self) -> None:
        take_arrays(self)

    def check(self, batch: int, num_heads: int, q_len: int) -> None:
        """Raise unless there is a centre for each query and the deviation is above zero."""
        if not self.deviation > 0:
            raise ConfigError(f"GaussianReweight.deviation must be above 0, got {self.deviation}")
        shape = self.center.shape
        if (
            len(shape) != 3
            or shape[2] != q_len
            or shape[0] not in (1, batch)
            or shape[1] not in (1, num_heads)
        ):
            raise ShapeError(
                f"GaussianReweight.center must be [batch|1, heads|1, q_len] = [{batch}|1, {num_heads}|1, {q_len}], "
                f"got {list(shape)}"
            )

    def for_heads(self, row: int | Array, head: int | Array, num_heads: int) -> "GaussianReweight":
        """The centres of one sequence and some heads."""
        return replace(self, center=pick(pick(self.center, 0, row, 1), 1, head, num_heads))

    def for_queries(self, start: int | Array, size: int) -> "GaussianReweight":
        """The centres of some queries."""
        return replace(self, center=jax.lax.dynamic_slice_in_dim(self.center, start, size, 2))

    def block(self, key_positions: Int[Array, "one_or_batch kv_len"]) -> Float[Array, "b h q_len kv_len"]:
        """The factors ``[batch|1, heads|1, q_len, kv_len]``, float32 or wider."""
        center = self.center.astype(wide(self.center))
        distance = key_positions[:, None, None, :].astype(center.dtype) - center[..., None]
        return jnp.exp(-0.5 * jnp.square(distance / self.deviation))
