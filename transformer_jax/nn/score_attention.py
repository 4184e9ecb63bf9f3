"""One-head attention of a recurrent decoder (or of anything else) under any score rule."""

from flax import nnx

from transformer_jax.errors import ConfigError
from transformer_jax.functional import (
    AttentionMask,
    PreparedKey,
    ScoreRule,
    attention,
    attention_with_weights,
    prepare_key,
)
from transformer_jax.functional.attention import check_attention_implementation
from transformer_jax.functional.dtypes import ComputeDtype, check_compute_dtype
from transformer_jax.functional.scores import (
    AdditiveScore,
    AdditiveSumScore,
    ConcatScore,
    DotScore,
    GeneralScore,
    LinearScore,
    LocationScore,
    RuleConfig,
    ScaledDotScore,
    ScoreConfig,
)
from transformer_jax.nn.pytree_parameters import PytreeParameters
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Float

__all__ = [
    "AdditiveScore",
    "AdditiveSumScore",
    "ConcatScore",
    "DotScore",
    "GeneralScore",
    "LinearScore",
    "LocationScore",
    "ScaledDotScore",
    "ScoreAttention",
    "ScoreConfig",
    "ScoreMemory",
]


@pytree_dataclass
class ScoreMemory:
    """Memory of an attention: keys prepared by the score rule, and values; the batch is axis 0.

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


class ScoreAttention(PytreeParameters):
    r"""One-head attention under a score rule, whose parameters it owns; the memory is its own value.

    .. math:: c_i = \sum_j \mathrm{softmax}_j(s(q_i, m_j))\, m_j

    Args:
      rule: Which score rule, with its sizes: a config of the library or one of one's own.
      query_dim: Width of the queries.
      key_dim: Width of the memory.
      dtype: Of the rule's matrix products, that of the memory; parameters, scores and softmax are float32.
      implementation: As in :func:`~transformer_jax.functional.attention`.
      rngs: Source of the initial parameters.

    Raises:
      ConfigError: If a rule such as a dot product meets two widths, or dtype or implementation is unknown.

    Example:
      >>> attend = ScoreAttention(AdditiveScore(attention_dim=8), 4, 6, rngs=nnx.Rngs(0))
      >>> memory = attend.prepare(jnp.ones((2, 5, 6)))
      >>> attend(jnp.ones((2, 1, 4)), memory, AttentionMask.from_lengths(jnp.array([5, 0]), 5)).shape
      (2, 1, 6)

    Source: Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473, equations 5 and 6; Luong et al. 2015,
    https://arxiv.org/abs/1508.04025, equation 7.
    """

    def __init__(
        self,
        rule: RuleConfig,
        query_dim: int,
        key_dim: int,
        *,
        dtype: ComputeDtype = "float32",
        implementation: str | None = None,
        rngs: nnx.Rngs,
    ):
        check_compute_dtype("dtype", dtype)
        check_attention_implementation("implementation", implementation)
        if rule.needs_equal_widths and query_dim != key_dim:
            raise ConfigError(
                f"score '{rule.kind}' needs query and memory of one width; got {query_dim} and {key_dim} "
                "(a bidirectional encoder is twice as wide as its cells): use 'general'"
            )
        self.rule = rule
        self.dtype = dtype
        self.implementation = implementation
        self.own(rule.initialize(rngs.params, query_dim, key_dim))

    def score(self) -> ScoreRule:
        """The rule with its parameters, for ``functional.attention``."""
        return self.owned(self.dtype)

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
        context = attention(
            by_head,
            memory.key,
            memory.value,
            score=self.score(),
            mask=mask,
            implementation=self.implementation,
        )
        return context[:, :, 0, :]

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
