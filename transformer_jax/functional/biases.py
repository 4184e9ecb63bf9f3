"""Position biases added to attention scores, evaluated by block like masks."""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from transformer_jax.functional.dtypes import take_arrays
from transformer_jax.functional.positions import check_buckets, relative_bucket
from transformer_jax.pytree import pytree_dataclass, replace, static_field
from transformer_jax.typing import Array, Float, Int


@runtime_checkable
class PositionBias(Protocol):
    """A bias that depends on the positions alone."""

    @property
    def num_heads(self) -> int:
        """Number of query heads that the bias was made for."""
        ...

    def for_heads(self, start: int | Array, count: int) -> "PositionBias":
        """The bias of ``count`` heads from ``start`` on, which may be traced."""
        ...

    def block(
        self,
        query_positions: Int[Array, "one_or_batch q_len"],
        key_positions: Int[Array, "one_or_batch2 kv_len"],
    ) -> Float[Array, "one_or_batch3 heads q_len kv_len"]:
        """The bias of one block of queries and keys."""
        ...


@pytree_dataclass
class Alibi:
    r"""Attention with linear biases: a head's penalty grows with the distance.

    .. math:: B_{hij} = -m_h |q_i - k_j|

    The paper's form for causal attention; the distance is taken on both sides, so it serves encoders too.

    Attributes:
      slopes: One slope a head, :func:`~transformer_jax.functional.alibi_slopes`.

    Example:
      >>> positions = jnp.arange(2)[None]
      >>> Alibi(jnp.array([0.5])).block(positions, positions).tolist()
      [[[[-0.0, -0.5], [-0.5, -0.0]]]]

    Source: Press et al. 2022, https://arxiv.org/abs/2108.12409, section 3.
    """

    slopes: Float[Array, " heads"]

    def __post_init__(self) -> None:
        take_arrays(self)

    @property
    def num_heads(self) -> int:
        """Number of query heads."""
        return self.slopes.shape[0]

    def for_heads(self, start: int | Array, count: int) -> "Alibi":
        """The slopes of some heads."""
        return Alibi(jax.lax.dynamic_slice_in_dim(self.slopes, start, count, 0))

    def block(
        self,
        query_positions: Int[Array, "one_or_batch q_len"],
        key_positions: Int[Array, "one_or_batch2 kv_len"],
    ) -> Float[Array, "one_or_batch3 heads q_len kv_len"]:
        """The bias of one block, ``[batch|1, heads, q_len, kv_len]``."""
        distance = jnp.abs(_ahead(query_positions, key_positions)).astype(self.slopes.dtype)
        return -self.slopes[None, :, None, None] * distance[:, None]


@pytree_dataclass
class RelativeBuckets:
    r"""A learned bias for each bucket of relative positions.

    .. math:: B_{hij} = T_{b(k_j - q_i), h}

    Attributes:
      table: One row a bucket.
      bidirectional: Whether keys after the query have buckets of their own.
      max_distance: Distances from here on share the last bucket.

    Example:
      >>> positions = jnp.arange(3)[None]
      >>> bias = RelativeBuckets(jnp.ones((8, 2)), bidirectional=True, max_distance=16)
      >>> bias.block(positions, positions).shape
      (1, 2, 3, 3)

    Source: Raffel et al. 2020, https://arxiv.org/abs/1910.10683, section 2.1.
    """

    table: Float[Array, "buckets heads"]
    bidirectional: bool = static_field()
    max_distance: int = static_field()

    def __post_init__(self) -> None:
        take_arrays(self)
        check_buckets(
            bidirectional=self.bidirectional,
            num_buckets=self.table.shape[0],
            max_distance=self.max_distance,
        )

    @property
    def num_heads(self) -> int:
        """Number of query heads."""
        return self.table.shape[1]

    def for_heads(self, start: int | Array, count: int) -> "RelativeBuckets":
        """The columns of some heads."""
        return replace(self, table=jax.lax.dynamic_slice_in_dim(self.table, start, count, 1))

    def block(
        self,
        query_positions: Int[Array, "one_or_batch q_len"],
        key_positions: Int[Array, "one_or_batch2 kv_len"],
    ) -> Float[Array, "one_or_batch3 heads q_len kv_len"]:
        """The bias of one block, ``[batch|1, heads, q_len, kv_len]``."""
        buckets = relative_bucket(
            _ahead(query_positions, key_positions),
            bidirectional=self.bidirectional,
            num_buckets=self.table.shape[0],
            max_distance=self.max_distance,
        )
        return jnp.moveaxis(self.table[buckets], -1, 1)


def _ahead(query_positions: Array, key_positions: Array) -> Array:
    return key_positions[:, None, :] - query_positions[:, :, None]  # [batch|1, q_len, kv_len]
