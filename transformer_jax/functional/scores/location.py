"""The rule that scores places, whatever the keys hold."""

import dataclasses
from typing import Literal

import jax.numpy as jnp

from transformer_jax.errors import ShapeError
from transformer_jax.functional.dtypes import take_arrays, wide
from transformer_jax.functional.initializers import xavier_uniform
from transformer_jax.functional.score_products import add_bias, check_parameter, project, take_heads
from transformer_jax.functional.scores.score_rule import (
    KeyPositions,
    Keys,
    NextKey,
    Queries,
    QueryPositions,
    RuleConfig,
    Scores,
)
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Float

__all__ = ["Location", "LocationScore"]


@pytree_dataclass
class Location:
    r"""Scores from the query alone, one for each of a fixed number of key positions.

    .. math:: s_{ij} = (W q_i + b)_{k_j}

    Attributes:
      weight: ``[max_len, query_dim]`` or ``[heads, max_len, query_dim]``.
      bias: ``[max_len]``, ``[heads, max_len]`` or ``None``.

    A key at a position from ``max_len`` on cannot be attended to. Where positions are the default that is
    an error at once; otherwise its score is ``-inf``.

    Example:
      >>> rule = Location(jnp.eye(4))
      >>> query = rule.prepare_query(jnp.arange(4.0).reshape(1, 1, 1, 4))
      >>> rule.score(query, jnp.zeros((1, 3, 1, 0))).tolist()
      [[[[0.0, 1.0, 2.0]]]]

    Source: Luong et al. 2015, https://arxiv.org/abs/1508.04025, equation 8.
    """

    weight: Float[Array, "*heads max_len query_dim"]
    bias: Float[Array, "*bias_heads max_len"] | None = None

    def __post_init__(self) -> None:
        take_arrays(self)

    @property
    def max_len(self) -> int:
        """Number of key positions that have a score."""
        return self.weight.shape[-2]

    def check(self, query_dim: int, key_dim: int | None, num_heads: int, kv_len: int | None) -> None:
        """Raise ``ShapeError`` unless the weight fits and reaches to ``kv_len``."""
        check_parameter("Location.weight", self.weight, num_heads, (self.max_len, query_dim))
        if self.bias is not None:
            check_parameter("Location.bias", self.bias, num_heads, (self.max_len,))
        if kv_len is not None and kv_len > self.max_len:
            raise ShapeError(
                f"Location scores {self.max_len} key positions, got kv_len {kv_len}; "
                "raise max_len or shorten the keys"
            )

    def for_heads(self, start: int | Array, count: int) -> "Location":
        """The parameters of some heads; shared ones stay."""
        return take_heads(self, start, count, weight=2, bias=1)

    def prepare_query(self, query: Queries) -> Float[Array, "batch q_len heads max_len"]:
        """``W q + b``, the scores of all positions."""
        return add_bias(project(query, jnp.swapaxes(self.weight, -1, -2)), self.bias)

    def prepare_key(self, key: Keys) -> Float[Array, "batch kv_len prepared_heads 0"]:
        """Nothing of the key is used but its place: an array of width 0."""
        return key[..., :0]

    def score(
        self,
        prepared_query: Queries,
        prepared_key: Keys,
        query_positions: QueryPositions | None = None,
        key_positions: KeyPositions | None = None,
    ) -> Scores:
        """The prepared query's entries at the keys' positions."""
        kv_len = prepared_key.shape[1]
        by_position = jnp.swapaxes(prepared_query, 1, 2).astype(wide(prepared_query.dtype))
        if key_positions is None:
            return by_position[..., :kv_len]
        positions = key_positions[:, None, None, :]
        index = jnp.broadcast_to(jnp.clip(positions, 0, self.max_len - 1), (*by_position.shape[:3], kv_len))
        scores = jnp.take_along_axis(by_position, index, axis=-1)
        known = (positions >= 0) & (positions < self.max_len)
        return jnp.where(known, scores, -jnp.inf)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocationScore(RuleConfig):
    """Scores of ``max_len`` key positions from the query alone."""

    kind: Literal["location"] = "location"
    max_len: int

    def initialize(self, next_key: NextKey, query_dim: int, key_dim: int) -> Location:
        """The rule with random parameters."""
        return Location(xavier_uniform(next_key(), self.max_len, query_dim))
