"""Rules that are a layer over the sum or the two halves of query and key."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from transformer_jax.errors import ShapeError
from transformer_jax.functional.dtypes import take_arrays
from transformer_jax.functional.initializers import unit_score_vector, xavier_uniform
from transformer_jax.functional.score_products import (
    add_bias,
    add_dims,
    check_parameter,
    heads_first,
    pair_sums,
    project,
    take_heads,
    weighted_sum,
)
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

__all__ = [
    "Additive",
    "AdditiveScore",
    "AdditiveSum",
    "AdditiveSumScore",
    "Concat",
    "ConcatScore",
    "LinearConcat",
    "LinearScore",
]


@pytree_dataclass
class Additive:
    r"""A small network with one hidden layer, Bahdanau's alignment model.

    .. math:: s_{ij} = v^\top \tanh(W_q q_i + W_k k_j + b)

    Attributes:
      query_weight: ``[query_dim, hidden]`` or ``[heads, query_dim, hidden]``.
      key_weight: ``[key_dim, hidden]`` or ``[heads, key_dim, hidden]``.
      vector: ``[hidden]`` or ``[heads, hidden]``.
      bias: ``[hidden]``, ``[heads, hidden]`` or ``None``.

    Example:
      >>> rule = Additive(jnp.zeros((3, 6)), jnp.zeros((5, 6)), jnp.ones(6))
      >>> query, key = rule.prepare_query(jnp.ones((1, 4, 1, 3))), rule.prepare_key(jnp.ones((1, 2, 1, 5)))
      >>> rule.score(query, key).shape
      (1, 1, 4, 2)

    Source: Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473, appendix A.1.2.
    """

    query_weight: Float[Array, "*query_heads query_dim hidden"]
    key_weight: Float[Array, "*key_heads key_dim hidden"]
    vector: Float[Array, "*vector_heads hidden"]
    bias: Float[Array, "*bias_heads hidden"] | None = None

    def __post_init__(self) -> None:
        take_arrays(self)

    def check(self, query_dim: int, key_dim: int | None, num_heads: int, kv_len: int | None) -> None:
        """Raise ``ShapeError`` unless the parameters fit."""
        hidden = self.vector.shape[-1]
        check_parameter("Additive.query_weight", self.query_weight, num_heads, (query_dim, hidden))
        check_parameter("Additive.key_weight", self.key_weight, num_heads, (key_dim, hidden))
        check_parameter("Additive.vector", self.vector, num_heads, (hidden,))
        if self.bias is not None:
            check_parameter("Additive.bias", self.bias, num_heads, (hidden,))

    def for_heads(self, start: int | Array, count: int) -> "Additive":
        """The parameters of some heads; shared ones stay."""
        return take_heads(self, start, count, query_weight=2, key_weight=2, vector=1, bias=1)

    def prepare_query(self, query: Queries) -> Float[Array, "batch q_len heads hidden"]:
        """``W_q q + b``."""
        return add_bias(project(query, self.query_weight), self.bias)

    def prepare_key(self, key: Keys) -> Float[Array, "batch kv_len prepared_heads hidden"]:
        """``W_k k``."""
        return project(key, self.key_weight)

    def score(
        self,
        prepared_query: Queries,
        prepared_key: Keys,
        query_positions: QueryPositions | None = None,
        key_positions: KeyPositions | None = None,
    ) -> Scores:
        """``v . tanh(query + key)`` of all pairs."""
        return weighted_sum(jnp.tanh(pair_sums(prepared_query, prepared_key)), self.vector)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdditiveScore(RuleConfig):
    """``v . tanh(W_q q + W_k k)`` with ``attention_dim`` hidden units (Bahdanau)."""

    kind: Literal["additive"] = "additive"
    attention_dim: int

    def initialize(self, next_key: NextKey, query_dim: int, key_dim: int) -> Additive:
        """The rule with random parameters."""
        hidden = self.attention_dim
        query_weight = xavier_uniform(next_key(), query_dim, hidden)
        key_weight = xavier_uniform(next_key(), key_dim, hidden)
        return Additive(query_weight, key_weight, unit_score_vector(next_key(), hidden))


@pytree_dataclass
class AdditiveSum:
    r"""The additive rule without the weighting vector: the hidden units are summed.

    .. math:: s_{ij} = \sum_a \tanh(W_q q_i + W_k k_j + b)_a

    Attributes:
      query_weight: ``[query_dim, hidden]``, ``[heads, query_dim, hidden]``; ``None`` = the query itself.
      key_weight: ``[key_dim, hidden]``, ``[heads, key_dim, hidden]``; ``None`` = the key itself.
      bias: ``[hidden]``, ``[heads, hidden]`` or ``None``.

    Example:
      >>> AdditiveSum().score(jnp.zeros((1, 1, 1, 4)), jnp.zeros((1, 1, 1, 4))).item()
      0.0

    Source: Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473, appendix A.1.2, with v = 1.
    """

    query_weight: Float[Array, "*query_heads query_dim hidden"] | None = None
    key_weight: Float[Array, "*key_heads key_dim hidden"] | None = None
    bias: Float[Array, "*bias_heads hidden"] | None = None

    def __post_init__(self) -> None:
        take_arrays(self)

    def check(self, query_dim: int, key_dim: int | None, num_heads: int, kv_len: int | None) -> None:
        """Raise ``ShapeError`` unless both sides come to one width."""
        query_hidden = query_dim if self.query_weight is None else self.query_weight.shape[-1]
        key_hidden = key_dim if self.key_weight is None else self.key_weight.shape[-1]
        if key_hidden not in (None, query_hidden):
            raise ShapeError(
                "AdditiveSum needs one width for both sides, "
                f"got {query_hidden} (query) and {key_hidden} (key)"
            )
        if self.query_weight is not None:
            check_parameter(
                "AdditiveSum.query_weight", self.query_weight, num_heads, (query_dim, query_hidden)
            )
        if self.key_weight is not None:
            check_parameter("AdditiveSum.key_weight", self.key_weight, num_heads, (key_dim, key_hidden))
        if self.bias is not None:
            check_parameter("AdditiveSum.bias", self.bias, num_heads, (query_hidden,))

    def for_heads(self, start: int | Array, count: int) -> "AdditiveSum":
        """The parameters of some heads; shared ones stay."""
        return take_heads(self, start, count, query_weight=2, key_weight=2, bias=1)

    def prepare_query(self, query: Queries) -> Float[Array, "batch q_len heads hidden"]:
        """``W_q q + b``."""
        projected = query if self.query_weight is None else project(query, self.query_weight)
        return add_bias(projected, self.bias)

    def prepare_key(self, key: Keys) -> Float[Array, "batch kv_len prepared_heads hidden"]:
        """``W_k k``."""
        return key if self.key_weight is None else project(key, self.key_weight)

    def score(
        self,
        prepared_query: Queries,
        prepared_key: Keys,
        query_positions: QueryPositions | None = None,
        key_positions: KeyPositions | None = None,
    ) -> Scores:
        """``sum tanh(query + key)`` of all pairs."""
        hidden = jnp.tanh(pair_sums(prepared_query, prepared_key))
        return heads_first(jnp.sum(hidden, axis=-1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdditiveSumScore(RuleConfig):
    """The additive rule without the weighting ``v``."""

    kind: Literal["additive_sum"] = "additive_sum"
    attention_dim: int

    def initialize(self, next_key: NextKey, query_dim: int, key_dim: int) -> AdditiveSum:
        """The rule with random parameters."""
        query_weight = xavier_uniform(next_key(), query_dim, self.attention_dim)
        return AdditiveSum(query_weight, xavier_uniform(next_key(), key_dim, self.attention_dim))


@pytree_dataclass
class Concat:
    r"""One layer over query and key side by side, Luong's ``concat``.

    .. math:: s_{ij} = v^\top \tanh(W [q_i; k_j])

    Attributes:
      weight: ``[query_dim + key_dim, hidden]`` or ``[heads, query_dim + key_dim, hidden]``; the query's
        rows come first.
      vector: ``[hidden]`` or ``[heads, hidden]``.

    Example:
      >>> rule = Concat(jnp.zeros((8, 6)), jnp.ones(6))
      >>> query, key = rule.prepare_query(jnp.ones((1, 4, 1, 3))), rule.prepare_key(jnp.ones((1, 2, 1, 5)))
      >>> rule.score(query, key).shape
      (1, 1, 4, 2)

    Source: Luong et al. 2015, https://arxiv.org/abs/1508.04025, section 3.1.
    """

    weight: Float[Array, "*heads both_dims hidden"]
    vector: Float[Array, "*vector_heads hidden"]

    def __post_init__(self) -> None:
        take_arrays(self)

    def check(self, query_dim: int, key_dim: int | None, num_heads: int, kv_len: int | None) -> None:
        """Raise ``ShapeError`` unless the weight has ``query_dim + key_dim`` rows."""
        hidden = self.vector.shape[-1]
        check_parameter("Concat.weight", self.weight, num_heads, (add_dims(query_dim, key_dim), hidden))
        check_parameter("Concat.vector", self.vector, num_heads, (hidden,))

    def for_heads(self, start: int | Array, count: int) -> "Concat":
        """The parameters of some heads; shared ones stay."""
        return take_heads(self, start, count, weight=2, vector=1)

    def prepare_query(self, query: Queries) -> Float[Array, "batch q_len heads hidden"]:
        """The query's rows of ``W [q; k]``."""
        return project(query, self.weight[..., : query.shape[-1], :])

    def prepare_key(self, key: Keys) -> Float[Array, "batch kv_len prepared_heads hidden"]:
        """The key's rows of ``W [q; k]``."""
        return project(key, self.weight[..., -key.shape[-1] :, :])

    def score(
        self,
        prepared_query: Queries,
        prepared_key: Keys,
        query_positions: QueryPositions | None = None,
        key_positions: KeyPositions | None = None,
    ) -> Scores:
        """``v . tanh(query + key)`` of all pairs."""
        return weighted_sum(jnp.tanh(pair_sums(prepared_query, prepared_key)), self.vector)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConcatScore(RuleConfig):
    """``v . tanh(W [q; k])`` with ``attention_dim`` hidden units (Luong's ``concat``)."""

    kind: Literal["concat"] = "concat"
    attention_dim: int

    def initialize(self, next_key: NextKey, query_dim: int, key_dim: int) -> Concat:
        """The rule with random parameters."""
        weight = xavier_uniform(next_key(), query_dim + key_dim, self.attention_dim)
        return Concat(weight, unit_score_vector(next_key(), self.attention_dim))


@pytree_dataclass
class LinearConcat:
    r"""A linear map of query and key side by side, with no nonlinearity.

    .. math:: s_{ij} = w^\top [q_i; k_j] = w_q^\top q_i + w_k^\top k_j

    The query's half is the same for every key, so it cancels in the softmax: the weights do not depend on
    the query, and the gradient to the query and to its half of ``w`` is zero. The rule is kept as the
    literature has it; ``score`` stops that gradient, so that it is zero exactly and not up to rounding.

    Attributes:
      weight: ``[query_dim + key_dim]`` or ``[heads, query_dim + key_dim]``; the query's half comes first.

    Example:
      >>> rule = LinearConcat(jnp.ones(8))
      >>> query, key = rule.prepare_query(jnp.ones((1, 4, 1, 3))), rule.prepare_key(jnp.ones((1, 2, 1, 5)))
      >>> rule.score(query, key)[0, 0, 0].tolist()
      [8.0, 8.0]

    Source: the additive rule of Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473, appendix A.1.2,
    without its tanh.
    """

    weight: Float[Array, "*heads both_dims"]

    def __post_init__(self) -> None:
        take_arrays(self)

    def check(self, query_dim: int, key_dim: int | None, num_heads: int, kv_len: int | None) -> None:
        """Raise ``ShapeError`` unless the weight has ``query_dim + key_dim`` entries."""
        check_parameter("LinearConcat.weight", self.weight, num_heads, (add_dims(query_dim, key_dim),))

    def for_heads(self, start: int | Array, count: int) -> "LinearConcat":
        """The parameters of some heads; shared ones stay."""
        return take_heads(self, start, count, weight=1)

    def prepare_query(self, query: Queries) -> Float[Array, "batch q_len heads 1"]:
        """``w_q . q``."""
        return project(query, self.weight[..., : query.shape[-1], None])

    def prepare_key(self, key: Keys) -> Float[Array, "batch kv_len prepared_heads 1"]:
        """``w_k . k``."""
        return project(key, self.weight[..., -key.shape[-1] :, None])

    def score(
        self,
        prepared_query: Queries,
        prepared_key: Keys,
        query_positions: QueryPositions | None = None,
        key_positions: KeyPositions | None = None,
    ) -> Scores:
        """The sum of both halves."""
        sums = pair_sums(jax.lax.stop_gradient(prepared_query), prepared_key)
        return heads_first(sums[..., 0])


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearScore(RuleConfig):
    """``w . [q; k]``; the query cancels in the softmax (see `LinearConcat`)."""

    kind: Literal["linear"] = "linear"

    def initialize(self, next_key: NextKey, query_dim: int, key_dim: int) -> LinearConcat:
        """The rule with random parameters."""
        return LinearConcat(unit_score_vector(next_key(), query_dim + key_dim))
