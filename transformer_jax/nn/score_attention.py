"""One-head attention of a recurrent decoder (or of anything else) under any score rule."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.errors import ConfigError
from transformer_jax.functional import (
    Additive,
    AdditiveSum,
    AttentionMask,
    Concat,
    Dot,
    General,
    Linear,
    Location,
    PreparedKey,
    ScaledDot,
    ScoreRule,
    attention,
    attention_with_weights,
    prepare_key,
)
from transformer_jax.nn.initializers import xavier_uniform
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Float


@dataclasses.dataclass(frozen=True, kw_only=True)
class DotScore:
    """The plain product; query and key have one width."""

    kind: Literal["dot"] = "dot"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaledDotScore:
    """The product over the root of the width; query and key have one width."""

    kind: Literal["scaled_dot"] = "scaled_dot"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneralScore:
    """A bilinear form (Luong's ``general``)."""

    kind: Literal["general"] = "general"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdditiveScore:
    """``v . tanh(W_q q + W_k k)`` with ``attention_dim`` hidden units (Bahdanau)."""

    kind: Literal["additive"] = "additive"
    attention_dim: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdditiveSumScore:
    """The additive rule without the weighting ``v``."""

    kind: Literal["additive_sum"] = "additive_sum"
    attention_dim: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConcatScore:
    """``v . tanh(W [q; k])`` with ``attention_dim`` hidden units (Luong's ``concat``)."""

    kind: Literal["concat"] = "concat"
    attention_dim: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearScore:
    """``w . [q; k]``; the query cancels in the softmax (see ``functional.Linear``)."""

    kind: Literal["linear"] = "linear"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocationScore:
    """Scores of ``max_len`` key positions from the query alone."""

    kind: Literal["location"] = "location"
    max_len: int


ScoreConfig = (
    DotScore
    | ScaledDotScore
    | GeneralScore
    | AdditiveScore
    | AdditiveSumScore
    | ConcatScore
    | LinearScore
    | LocationScore
)


@pytree_dataclass
class ScoreMemory:
    """What attention asks: keys that the score rule has prepared, and values; the batch is axis 0.

    Attributes:
      key: ``[batch, kv_len, 1, prepared]``.
      value: ``[batch, kv_len, 1, value_dim]``.
    """

    key: PreparedKey
    value: Float[Array, "batch kv_len one value_dim"]

    def queries(
        self, query: Float[Array, "batch q_len query_dim"]
    ) -> Float[Array, "batch q_len 1 query_dim"]:
        """Queries of one head, in the memory's dtype: a recurrent carry is float32 whatever the parameters are."""
        return query.astype(self.value.dtype)[:, :, None, :]


class ScoreAttention(nnx.Module):
    r"""One-head attention under a score rule, whose parameters it owns; the memory is its own value.

    .. math:: c_i = \sum_j \mathrm{softmax}_j(s(q_i, m_j))\, m_j

    Args:
      rule: Which score rule, with its sizes.
      query_dim: Width of the queries.
      key_dim: Width of the memory.
      rngs: Source of the initial parameters.

    Raises:
      ConfigError: If a dot product is asked of two widths.

    Example:
      >>> attend = ScoreAttention(AdditiveScore(attention_dim=8), 4, 6, rngs=nnx.Rngs(0))
      >>> memory = attend.prepare(jnp.ones((2, 5, 6)))
      >>> attend(jnp.ones((2, 1, 4)), memory, AttentionMask.from_lengths(jnp.array([5, 0]), 5)).shape
      (2, 1, 6)

    Source: Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473, equations 5 and 6; Luong et al. 2015,
    https://arxiv.org/abs/1508.04025, equation 7.
    """

    def __init__(self, rule: ScoreConfig, query_dim: int, key_dim: int, *, rngs: nnx.Rngs):
        self.rule = rule
        if isinstance(rule, DotScore | ScaledDotScore):
            if query_dim != key_dim:
                raise ConfigError(
                    f"score '{rule.kind}' needs query and memory of one width; got {query_dim} and {key_dim} "
                    "(a bidirectional encoder is twice as wide as its cells): use 'general'"
                )
        elif isinstance(rule, GeneralScore):
            self.weight = nnx.Param(xavier_uniform(rngs.params(), query_dim, key_dim))
        elif isinstance(rule, AdditiveScore | AdditiveSumScore):
            self.query_weight = nnx.Param(xavier_uniform(rngs.params(), query_dim, rule.attention_dim))
            self.key_weight = nnx.Param(xavier_uniform(rngs.params(), key_dim, rule.attention_dim))
        elif isinstance(rule, ConcatScore):
            self.weight = nnx.Param(xavier_uniform(rngs.params(), query_dim + key_dim, rule.attention_dim))
        elif isinstance(rule, LinearScore):
            self.weight = nnx.Param(_vector(rngs, query_dim + key_dim))
        else:
            self.weight = nnx.Param(xavier_uniform(rngs.params(), rule.max_len, query_dim))
        if isinstance(rule, AdditiveScore | ConcatScore):
            self.vector = nnx.Param(_vector(rngs, rule.attention_dim))

    def score(self) -> ScoreRule:
        """The rule with its parameters, for ``functional.attention``."""
        match self.rule:
            case DotScore():
                return Dot()
            case ScaledDotScore():
                return ScaledDot()
            case GeneralScore():
                return General(self.weight[...])
            case AdditiveScore():
                return Additive(self.query_weight[...], self.key_weight[...], self.vector[...])
            case AdditiveSumScore():
                return AdditiveSum(self.query_weight[...], self.key_weight[...])
            case ConcatScore():
                return Concat(self.weight[...], self.vector[...])
            case LinearScore():
                return Linear(self.weight[...])
            case _:
                return Location(self.weight[...])

    def prepare(self, memory: Float[Array, "batch kv_len key_dim"]) -> ScoreMemory:
        """Do the keys' part of the scores, once for all queries.

        Args:
          memory: What may be attended to, such as an encoder's outputs.

        Returns:
          The memory that calls take.
        """
        with_head = memory[:, :, None, :]
        return ScoreMemory(prepare_key(self.score(), with_head), with_head)

    def __call__(
        self,
        query: Float[Array, "batch q_len query_dim"],
        memory: ScoreMemory,
        mask: AttentionMask | None = None,
    ) -> Float[Array, "batch q_len key_dim"]:
        """The context of each query; zeros for a query that may attend to nothing.

        Args:
          query: The queries; they take the memory's dtype.
          memory: As prepared.
          mask: Who may attend to what.

        Returns:
          The contexts, in the memory's dtype.
        """
        by_head = memory.queries(query)
        return attention(by_head, memory.key, memory.value, score=self.score(), mask=mask)[:, :, 0, :]

    def with_weights(
        self,
        query: Float[Array, "batch q_len query_dim"],
        memory: ScoreMemory,
        mask: AttentionMask | None = None,
    ) -> tuple[Float[Array, "batch q_len key_dim"], Float[Array, "batch 1 q_len kv_len"]]:
        """The contexts, and the weights that made them, float32."""
        output, weights = attention_with_weights(
            memory.queries(query), memory.key, memory.value, score=self.score(), mask=mask
        )
        return output[:, :, 0, :], weights


def _vector(rngs: nnx.Rngs, size: int) -> Float[Array, "features"]:
    """A vector that gives scores of unit order: variance ``1 / size``."""
    return jax.random.normal(rngs.params(), (size,), jnp.float32) * jnp.float32(size) ** -0.5
