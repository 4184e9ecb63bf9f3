"""Score rules: how well a key answers a query, each a small pytree of its own parameters.

A rule works in three steps. ``prepare_query`` and ``prepare_key`` do, once, what depends on one side alone;
``score`` joins one block of each. Memories and caches hold prepared keys. Arrays are
``[batch, length, heads, dim]``, keys may have fewer heads than queries (grouped heads: query heads
``g * i ... g * i + g - 1`` share key head ``i``). A parameter is shared by all heads, or has a leading
``heads`` axis. Scores are float32 (float64 for float64 queries).
"""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from transformer_jax.errors import ShapeError
from transformer_jax.functional.dtypes import take_arrays, wide
from transformer_jax.functional.score_products import (
    add_bias,
    add_dims,
    check_parameter,
    heads_first,
    pair_sums,
    products,
    project,
    take_heads,
    weighted_sum,
)
from transformer_jax.pytree import pytree_dataclass, static_field
from transformer_jax.typing import Array, Float, Int

_Queries = Float[Array, "batch q_len heads query_dim"]
_Keys = Float[Array, "batch kv_len key_heads key_dim"]
_QueryPositions = Int[Array, "query_batch q_len"]  # query_batch: batch or 1
_KeyPositions = Int[Array, "key_batch kv_len"]  # key_batch: batch or 1
_Scores = Float[Array, "batch heads q_len kv_len"]


@runtime_checkable
class ScoreRule(Protocol):
    """What every score rule offers."""

    def check(self, query_dim: int, key_dim: int | None, num_heads: int, kv_len: int | None) -> None:
        """Raise ``ShapeError`` unless the parameters fit.

        ``key_dim`` is ``None`` for prepared keys, ``kv_len`` unless positions are the default.
        """
        ...

    def for_heads(self, start: int | Array, count: int) -> "ScoreRule":
        """The rule of ``count`` query heads from ``start`` on, which may be traced."""
        ...

    def prepare_query(self, query: _Queries) -> Float[Array, "batch q_len heads prepared"]:
        """The queries' own part of the work."""
        ...

    def prepare_key(self, key: _Keys) -> Float[Array, "batch kv_len prepared_heads prepared"]:
        """The keys' own part of the work."""
        ...

    def score(
        self,
        prepared_query: _Queries,
        prepared_key: _Keys,
        query_positions: _QueryPositions | None = None,
        key_positions: _KeyPositions | None = None,
    ) -> _Scores:
        """Scores of one block of prepared queries and keys; positions ``None`` = arange."""
        ...


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

    def prepare_query(self, query: _Queries) -> _Queries:
        """The query itself."""
        return query

    def prepare_key(self, key: _Keys) -> _Keys:
        """The key itself."""
        return key

    def score(
        self,
        prepared_query: _Queries,
        prepared_key: _Keys,
        query_positions: _QueryPositions | None = None,
        key_positions: _KeyPositions | None = None,
    ) -> _Scores:
        """Products of all queries and keys."""
        return products(prepared_query, prepared_key)


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

    def prepare_query(self, query: _Queries) -> _Queries:
        """The scaled query; a 16-bit query is left alone and its scores are scaled, which loses nothing."""
        return query * self.scale_for(query.shape[-1]) if query.dtype.itemsize >= 4 else query

    def score(
        self,
        prepared_query: _Queries,
        prepared_key: _Keys,
        query_positions: _QueryPositions | None = None,
        key_positions: _KeyPositions | None = None,
    ) -> _Scores:
        """Scaled products of all queries and keys."""
        scores = products(prepared_query, prepared_key)
        is_scaled = prepared_query.dtype.itemsize >= 4
        return scores if is_scaled else scores * self.scale_for(prepared_query.shape[-1])


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

    def prepare_query(self, query: _Queries) -> _Queries:
        """The query itself."""
        return query

    def prepare_key(self, key: _Keys) -> Float[Array, "batch kv_len prepared_heads query_dim"]:
        """``W k``, so that a decoder's step is a plain product."""
        return project(key, jnp.swapaxes(self.weight, -1, -2))

    def score(
        self,
        prepared_query: _Queries,
        prepared_key: _Keys,
        query_positions: _QueryPositions | None = None,
        key_positions: _KeyPositions | None = None,
    ) -> _Scores:
        """Products of queries and prepared keys."""
        return products(prepared_query, prepared_key)


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

    def prepare_query(self, query: _Queries) -> Float[Array, "batch q_len heads hidden"]:
        """``W_q q + b``."""
        return add_bias(project(query, self.query_weight), self.bias)

    def prepare_key(self, key: _Keys) -> Float[Array, "batch kv_len prepared_heads hidden"]:
        """``W_k k``."""
        return project(key, self.key_weight)

    def score(
        self,
        prepared_query: _Queries,
        prepared_key: _Keys,
        query_positions: _QueryPositions | None = None,
        key_positions: _KeyPositions | None = None,
    ) -> _Scores:
        """``v . tanh(query + key)`` of all pairs."""
        return weighted_sum(jnp.tanh(pair_sums(prepared_query, prepared_key)), self.vector)


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

    def prepare_query(self, query: _Queries) -> Float[Array, "batch q_len heads hidden"]:
        """``W_q q + b``."""
        projected = query if self.query_weight is None else project(query, self.query_weight)
        return add_bias(projected, self.bias)

    def prepare_key(self, key: _Keys) -> Float[Array, "batch kv_len prepared_heads hidden"]:
        """``W_k k``."""
        return key if self.key_weight is None else project(key, self.key_weight)

    def score(
        self,
        prepared_query: _Queries,
        prepared_key: _Keys,
        query_positions: _QueryPositions | None = None,
        key_positions: _KeyPositions | None = None,
    ) -> _Scores:
        """``sum tanh(query + key)`` of all pairs."""
        hidden = jnp.tanh(pair_sums(prepared_query, prepared_key))
        return heads_first(jnp.sum(hidden, axis=-1))


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

    def prepare_query(self, query: _Queries) -> Float[Array, "batch q_len heads hidden"]:
        """The query's rows of ``W [q; k]``."""
        return project(query, self.weight[..., : query.shape[-1], :])

    def prepare_key(self, key: _Keys) -> Float[Array, "batch kv_len prepared_heads hidden"]:
        """The key's rows of ``W [q; k]``."""
        return project(key, self.weight[..., -key.shape[-1] :, :])

    def score(
        self,
        prepared_query: _Queries,
        prepared_key: _Keys,
        query_positions: _QueryPositions | None = None,
        key_positions: _KeyPositions | None = None,
    ) -> _Scores:
        """``v . tanh(query + key)`` of all pairs."""
        return weighted_sum(jnp.tanh(pair_sums(prepared_query, prepared_key)), self.vector)


@pytree_dataclass
class Linear:
    r"""A linear map of query and key side by side, with no nonlinearity.

    .. math:: s_{ij} = w^\top [q_i; k_j] = w_q^\top q_i + w_k^\top k_j

    The query's half is the same for every key, so it cancels in the softmax: the weights do not depend on
    the query, and the gradient to the query and to its half of ``w`` is zero. The rule is kept as the
    literature has it; ``score`` stops that gradient, so that it is zero exactly and not up to rounding.

    Attributes:
      weight: ``[query_dim + key_dim]`` or ``[heads, query_dim + key_dim]``; the query's half comes first.

    Example:
      >>> rule = Linear(jnp.ones(8))
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
        check_parameter("Linear.weight", self.weight, num_heads, (add_dims(query_dim, key_dim),))

    def for_heads(self, start: int | Array, count: int) -> "Linear":
        """The parameters of some heads; shared ones stay."""
        return take_heads(self, start, count, weight=1)

    def prepare_query(self, query: _Queries) -> Float[Array, "batch q_len heads 1"]:
        """``w_q . q``."""
        return project(query, self.weight[..., : query.shape[-1], None])

    def prepare_key(self, key: _Keys) -> Float[Array, "batch kv_len prepared_heads 1"]:
        """``w_k . k``."""
        return project(key, self.weight[..., -key.shape[-1] :, None])

    def score(
        self,
        prepared_query: _Queries,
        prepared_key: _Keys,
        query_positions: _QueryPositions | None = None,
        key_positions: _KeyPositions | None = None,
    ) -> _Scores:
        """The sum of both halves."""
        sums = pair_sums(jax.lax.stop_gradient(prepared_query), prepared_key)
        return heads_first(sums[..., 0])


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

    def prepare_query(self, query: _Queries) -> Float[Array, "batch q_len heads max_len"]:
        """``W q + b``, the scores of all positions."""
        return add_bias(project(query, jnp.swapaxes(self.weight, -1, -2)), self.bias)

    def prepare_key(self, key: _Keys) -> Float[Array, "batch kv_len prepared_heads 0"]:
        """Nothing of the key is used but its place: an array of width 0."""
        return key[..., :0]

    def score(
        self,
        prepared_query: _Queries,
        prepared_key: _Keys,
        query_positions: _QueryPositions | None = None,
        key_positions: _KeyPositions | None = None,
    ) -> _Scores:
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
