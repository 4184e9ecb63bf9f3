"""Rules that are products of queries and keys."""

import dataclasses
from typing import Literal

import jax.numpy as jnp

from transformer_jax.errors import ShapeError
from transformer_jax.functional.dtypes import take_arrays
from transformer_jax.functional.initializers import xavier_uniform
from transformer_jax.functional.score_products import check_parameter, products, project, take_heads
from transformer_jax.functional.scores.score_rule import (
    KeyPositions,
    Keys,
    NextKey,
    Queries,
    QueryPositions,
    RuleConfig,
    Scores,
)
from transformer_jax.pytree import pytree_dataclass, static_field
from transformer_jax.typing import Array, Float

__all__ = ["Dot", "DotScore", "General", "GeneralScore", "ScaledDot", "ScaledDotScore"]


@pytree_dataclass
class Dot:
    r"""The plain product, Luong's ``dot``.

    .. math:: s_{ij} = q_i^\top k_j

    Example:
      >>> query, key = jnp.ones((1, 2, 1, 4)), jnp.ones((1, 3, 1, 4))
      >>> Dot().score(query, key).shape
      (1, 1, 2, 3)

    Source: Luong et al. 2015, https://arxiv.org/abs/1508.04025, section 3.1.
    """

    def check(self, query_dim: int, key_dim: int | None, num_heads: int, kv_len: int | None) -> None:
        """Raise ``ShapeError`` unless queries and keys have one width."""
        if key_dim not in (None, query_dim):
            raise ShapeError(
                f"{type(self).__name__} needs query and key of one width, got {query_dim} and {key_dim}"
            )

    def for_heads(self, start: int | Array, count: int) -> "Dot":
        """The rule itself: it has no parameters."""
        return self

    def prepare_query(self, query: Queries) -> Queries:
        """The query itself."""
        return query

    def prepare_key(self, key: Keys) -> Keys:
        """The key itself."""
        return key

    def score(
        self,
        prepared_query: Queries,
        prepared_key: Keys,
        query_positions: QueryPositions | None = None,
        key_positions: KeyPositions | None = None,
    ) -> Scores:
        """Products of all queries and keys."""
        return products(prepared_query, prepared_key)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DotScore(RuleConfig):
    """The plain product; query and key have one width."""

    kind: Literal["dot"] = "dot"
    needs_equal_widths = True

    def initialize(self, next_key: NextKey, query_dim: int, key_dim: int) -> Dot:
        """The rule, which has no parameters."""
        return Dot()


@pytree_dataclass
class ScaledDot(Dot):
    r"""The product over the root of the width, as in the Transformer.

    .. math:: s_{ij} = \frac{q_i^\top k_j}{\sqrt{d}}

    Attributes:
      scale: The factor; ``None`` = ``1 / sqrt(head_dim)``.

    Example:
      >>> query, key = jnp.ones((1, 1, 1, 4)), jnp.ones((1, 1, 1, 4))
      >>> ScaledDot().score(ScaledDot().prepare_query(query), key).item()
      2.0

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 1.
    """

    scale: float | None = static_field(default=None)

    def scale_for(self, head_dim: int) -> float:
        """The factor for the given width."""
        return head_dim**-0.5 if self.scale is None else self.scale

    def prepare_query(self, query: Queries) -> Queries:
        """The scaled query; a 16-bit query is left alone and its scores are scaled, which loses nothing."""
        return query * self.scale_for(query.shape[-1]) if query.dtype.itemsize >= 4 else query

    def score(
        self,
        prepared_query: Queries,
        prepared_key: Keys,
        query_positions: QueryPositions | None = None,
        key_positions: KeyPositions | None = None,
    ) -> Scores:
        """Scaled products of all queries and keys."""
        scores = products(prepared_query, prepared_key)
        is_scaled = prepared_query.dtype.itemsize >= 4
        return scores if is_scaled else scores * self.scale_for(prepared_query.shape[-1])


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaledDotScore(RuleConfig):
    """The product over the root of the width; query and key have one width."""

    kind: Literal["scaled_dot"] = "scaled_dot"
    needs_equal_widths = True

    def initialize(self, next_key: NextKey, query_dim: int, key_dim: int) -> ScaledDot:
        """The rule, which has no parameters."""
        return ScaledDot()


@pytree_dataclass
class General:
    r"""A bilinear form, Luong's ``general``.

    .. math:: s_{ij} = q_i^\top W k_j

    Attributes:
      weight: ``[query_dim, key_dim]`` or ``[heads, query_dim, key_dim]``.

    Example:
      >>> rule = General(jnp.ones((3, 5)))
      >>> key = rule.prepare_key(jnp.ones((1, 2, 1, 5)))
      >>> rule.score(jnp.ones((1, 4, 1, 3)), key).shape
      (1, 1, 4, 2)

    Source: Luong et al. 2015, https://arxiv.org/abs/1508.04025, section 3.1.
    """

    weight: Float[Array, "*heads query_dim key_dim"]

    def __post_init__(self) -> None:
        take_arrays(self)

    def check(self, query_dim: int, key_dim: int | None, num_heads: int, kv_len: int | None) -> None:
        """Raise ``ShapeError`` unless the weight is ``[heads?, query_dim, key_dim]``."""
        check_parameter("General.weight", self.weight, num_heads, (query_dim, key_dim))

    def for_heads(self, start: int | Array, count: int) -> "General":
        """The parameters of some heads; shared ones stay."""
        return take_heads(self, start, count, weight=2)

    def prepare_query(self, query: Queries) -> Queries:
        """The query itself."""
        return query

    def prepare_key(self, key: Keys) -> Float[Array, "batch kv_len prepared_heads query_dim"]:
        """``W k``, so that a decoder's step is a plain product."""
        return project(key, jnp.swapaxes(self.weight, -1, -2))

    def score(
        self,
        prepared_query: Queries,
        prepared_key: Keys,
        query_positions: QueryPositions | None = None,
        key_positions: KeyPositions | None = None,
    ) -> Scores:
        """Products of queries and prepared keys."""
        return products(prepared_query, prepared_key)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneralScore(RuleConfig):
    """A bilinear form (Luong's ``general``)."""

    kind: Literal["general"] = "general"

    def initialize(self, next_key: NextKey, query_dim: int, key_dim: int) -> General:
        """The rule with random parameters."""
        return General(xavier_uniform(next_key(), query_dim, key_dim))
