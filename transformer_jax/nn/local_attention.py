"""Attention of a recurrent decoder to a window of the source: Luong's local-m and local-p."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.bounds import Length, check_bounds
from transformer_jax.errors import ConfigError
from transformer_jax.functional import (
    AttentionMask,
    GaussianReweight,
    attention_with_weights,
    local_attention,
)
from transformer_jax.functional.dtypes import ComputeDtype, wide
from transformer_jax.functional.initializers import xavier_uniform
from transformer_jax.functional.scores import RuleConfig
from transformer_jax.nn.score_attention import ScoreAttention, ScoreMemory
from transformer_jax.typing import Array, Float, Int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Monotonic:
    """Step ``t`` looks around source position ``t`` (Luong's ``local-m``).

    Attributes:
      half_width: Source positions on each side of the centre, in tokens; 10 in the paper.
    """

    kind: Literal["monotonic"] = "monotonic"
    half_width: Length

    def __post_init__(self) -> None:
        check_bounds(self)
        _check_half_width(self.half_width, least=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predictive:
    """The decoder's state predicts where to look, with a Gaussian around it (Luong's ``local-p``).

    Attributes:
      half_width: Source positions on each side of the centre, in tokens; 10 in the paper. The Gaussian's
        deviation is half of it.
    """

    kind: Literal["predictive"] = "predictive"
    half_width: Length

    def __post_init__(self) -> None:
        check_bounds(self)
        _check_half_width(self.half_width, least=1)


class LocalAttention(nnx.Module):
    r"""One-head attention under a score rule to ``2 D + 1`` memory positions around a centre.

    .. math:: p_t = t \quad \text{(monotonic)}, \quad
       p_t = S\, \sigma(v_p^\top \tanh(W_p h_t)) \quad \text{(predictive)}

    Args:
      rule: Which score rule, with its sizes.
      reach: How the centre is found, and how far a query sees.
      query_dim: Width of the queries.
      key_dim: Width of the memory.
      dtype: Of the rule's matrix products, that of the memory.
      rngs: Source of the initial parameters.

    Raises:
      ConfigError: If a dot product would join two widths.

    Example:
      >>> from transformer_jax.nn.score_attention import GeneralScore
      >>> attend = LocalAttention(GeneralScore(), Predictive(half_width=2), 4, 6, rngs=nnx.Rngs(0))
      >>> memory = attend.prepare(jnp.ones((2, 9, 6)))
      >>> attend(jnp.ones((2, 1, 4)), memory, jnp.array([9, 5]), jnp.zeros((2, 1), int)).shape
      (2, 1, 6)

    Source: Luong et al. 2015, https://arxiv.org/abs/1508.04025, section 3.2, equations 9 and 10.
    """

    def __init__(
        self,
        rule: RuleConfig,
        reach: Monotonic | Predictive,
        query_dim: int,
        key_dim: int,
        *,
        dtype: ComputeDtype = "float32",
        rngs: nnx.Rngs,
    ):
        self.reach = reach
        self.attend = ScoreAttention(rule, query_dim, key_dim, dtype=dtype, rngs=rngs)
        if isinstance(reach, Predictive):
            self.position_weight = nnx.Param(xavier_uniform(rngs.params(), query_dim, query_dim))
            self.position_vector = nnx.Param(xavier_uniform(rngs.params(), query_dim, 1)[:, 0])

    def prepare(self, memory: Float[Array, "batch kv_len key_dim"]) -> ScoreMemory:
        """Do the keys' part of the scores, once for all queries."""
        return self.attend.prepare(memory)

    def __call__(
        self,
        query: Float[Array, "batch q_len query_dim"],
        memory: ScoreMemory,
        lengths: Int[Array, "batch"],
        steps: Int[Array, "batch q_len"],
    ) -> Float[Array, "batch q_len key_dim"]:
        """The context of each query; zeros for a query whose window holds nothing.

        Args:
          query: The queries; they take the memory's dtype.
          memory: As prepared.
          lengths: Filled positions of each memory, ``S``.
          steps: Which step each query is, from 0.

        Returns:
          The contexts, in the memory's dtype.
        """
        output = local_attention(
            memory.queries(query),
            memory.key,
            memory.value,
            center=self._centers(query, lengths, steps),
            half_width=self.reach.half_width,
            deviation=self._deviation(),
            score=self.attend.score(),
            mask=AttentionMask.from_lengths(lengths, memory.value.shape[1]),
        )
        return output[:, :, 0, :]

    def with_weights(
        self,
        query: Float[Array, "batch q_len query_dim"],
        memory: ScoreMemory,
        lengths: Int[Array, "batch"],
        steps: Int[Array, "batch q_len"],
    ) -> tuple[Float[Array, "batch q_len key_dim"], Float[Array, "batch 1 q_len kv_len"]]:
        """The contexts, and the weights of all memory positions that made them, float32 or wider."""
        centers = self._centers(query, lengths, steps)
        kv_len, half_width, deviation = memory.value.shape[1], self.reach.half_width, self._deviation()
        around = jnp.round(centers).astype(jnp.int32)
        output, weights = attention_with_weights(
            memory.queries(query),
            memory.key,
            memory.value,
            score=self.attend.score(),
            mask=AttentionMask.window(half_width, half_width)
            & AttentionMask.positions(around, jnp.arange(kv_len)[None])
            & AttentionMask.from_lengths(lengths, kv_len),
            reweight=None if deviation is None else GaussianReweight(centers[:, None, :], deviation),
        )
        return output[:, :, 0, :], weights

    def _deviation(self) -> float | None:
        return self.reach.half_width / 2 if isinstance(self.reach, Predictive) else None

    def _centers(self, query: Array, lengths: Array, steps: Array) -> Float[Array, "batch q_len"]:
        if isinstance(self.reach, Monotonic):
            return steps.astype(wide(query))
        hidden = jnp.tanh(query.astype(self.position_weight.dtype) @ self.position_weight[...])
        raw = hidden @ self.position_vector[...]
        share = jax.nn.sigmoid(raw.astype(wide(raw)))
        return lengths[:, None].astype(share.dtype) * share


def _check_half_width(half_width: int, *, least: int) -> None:
    if half_width < least:
        raise ConfigError(f"half_width must be at least {least}; got {half_width}")
