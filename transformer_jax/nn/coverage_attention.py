"""Additive attention whose scores see what former steps attended to."""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from transformer_jax.functional.dtypes import ComputeDtype, in_compute_dtype
from transformer_jax.functional.initializers import xavier_uniform
from transformer_jax.functional.score_products import pair_sums
from transformer_jax.functional.scores import AdditiveScore
from transformer_jax.functional.softmax import masked_softmax
from transformer_jax.nn.score_attention import ScoreAttention, ScoreMemory
from transformer_jax.typing import Array, Float, Int

__all__ = ["CoverageAttention"]


class CoverageAttention(ScoreAttention):
    r"""Additive attention with coverage, the sum of the weights of all former steps around each position.

    .. math:: s_{ij} = v^\top \tanh\Bigl(W_q q_i + W_k m_j + \sum_{d} U_d\, c_{i, j + d}\Bigr), \quad
      c_{ij} = \sum_{i' < i} p_{i'j}

    A position that was attended to can be told from one that was not: nothing is read twice or left out. The
    convolution over ``coverage_width`` positions also sees what lies beside; with 1 it is a weight for the position
    itself.

    Args:
      attention_dim: Hidden units of the alignment model.
      query_dim: Width of the queries.
      key_dim: Width of the memory.
      coverage_width: Positions that the convolution sees, about as many before as after.
      dtype: Of the matrix products; parameters, scores, softmax and coverage are float32.
      rngs: Source of the initial parameters.

    Example:
      >>> attend = CoverageAttention(8, 4, 6, coverage_width=3, rngs=nnx.Rngs(0))
      >>> memory, lengths = attend.prepare(jnp.ones((2, 5, 6))), jnp.array([5, 2])
      >>> context, weights = attend.covering(jnp.ones((2, 1, 4)), memory, lengths, jnp.zeros((2, 1, 5)))
      >>> context.shape, weights[1, 0].round(3).tolist()
      ((2, 1, 6), [0.5, 0.5, 0.0, 0.0, 0.0])

    Source: Tu et al. 2016, https://arxiv.org/abs/1601.04811, section 3.1.2; the convolution: Zhang et al. 2017, "Watch,
    attend and parse", https://doi.org/10.1016/j.patcog.2017.06.017, equations 8 to 10 (there of two maps, whose
    product is one).
    """

    def __init__(
        self,
        attention_dim: int,
        query_dim: int,
        key_dim: int,
        *,
        coverage_width: int,
        dtype: ComputeDtype = "float32",
        rngs: nnx.Rngs,
    ):
        super().__init__(
            AdditiveScore(attention_dim=attention_dim), query_dim, key_dim, dtype=dtype, rngs=rngs
        )
        self.coverage_weight = nnx.Param(xavier_uniform(rngs.params(), coverage_width, attention_dim))

    def covering(
        self,
        query: Float[Array, "batch q_len query_dim"],
        memory: ScoreMemory,
        lengths: Int[Array, "batch"],
        coverage: Float[Array, "batch q_len kv_len"],
    ) -> tuple[Float[Array, "batch q_len key_dim"], Float[Array, "batch q_len kv_len"]]:
        """The contexts, and the weights that made them.

        Args:
          query: The queries, each with a coverage of its own.
          memory: As prepared.
          lengths: Positions of the memory that may be attended to; with none the context is zero.
          coverage: Sums of former weights.

        Returns:
          The contexts, in the memory's dtype, and the weights, float32.
        """
        rule: Any = self.score()
        by_head = memory.queries(query)
        sums = pair_sums(rule.prepare_query(by_head), memory.key.array)[:, :, :, 0, :]
        weight = in_compute_dtype(self.coverage_weight[...], self.dtype)
        around = _windows(coverage, weight.shape[0]).astype(weight.dtype)
        hidden = jnp.tanh(sums + (around @ weight).astype(sums.dtype))
        kv_len = coverage.shape[-1]
        valid = jnp.arange(kv_len, dtype=jnp.int32)[None, None] < lengths[:, None, None]
        weights = masked_softmax(hidden @ rule.vector.astype(hidden.dtype), valid)
        value = jnp.where(valid[:, 0, :, None], memory.value[:, :, 0, :], 0)
        context = jnp.einsum(
            "bqk,bkd->bqd", weights.astype(value.dtype), value, preferred_element_type=jnp.float32
        )
        return context.astype(value.dtype), weights


def _windows(coverage: Array, width: int) -> Array:
    """``[..., kv_len]`` to ``[..., kv_len, width]``: each position with its neighbours, zeros beyond the ends."""
    before, kv_len = (width - 1) // 2, coverage.shape[-1]
    padding = [(0, 0)] * (coverage.ndim - 1) + [(before, width - 1 - before)]
    padded = jnp.pad(coverage, padding)
    return jnp.stack([padded[..., start : start + kv_len] for start in range(width)], axis=-1)
