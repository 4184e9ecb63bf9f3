"""Several weighted means of a sequence, each under weights of its own, and what keeps them from being the same."""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from transformer_jax.functional import AttentionMask, Dot, attention_with_weights
from transformer_jax.functional.dtypes import as_array
from transformer_jax.nn.linear import Linear
from transformer_jax.typing import Array, Float, Int

__all__ = ["StructuredPooling", "redundancy"]


class StructuredPooling(nnx.Module):
    r"""Structured self-attention: as many weighted means of the steps as there are hops.

    .. math:: M = A H, \quad A = \mathrm{softmax}_t(W_2 \tanh(W_1 H^\top))

    The rows of :math:`W_2` are learned queries and :math:`\tanh(W_1 H^\top)` the keys of one attention whose values are
    the steps themselves.

    Args:
      input_dim: Width of the steps.
      attention_dim: Width of the hidden layer, the paper's :math:`d_a`.
      num_hops: Weighted means, the paper's :math:`r`.
      rngs: Source of the initial parameters.

    Example:
      >>> pool = StructuredPooling(4, 3, 2, rngs=nnx.Rngs(0))
      >>> pool(jnp.ones((2, 5, 4)), lengths=jnp.array([5, 0])).shape
      (2, 8)

    Source: Lin et al. 2017, https://arxiv.org/abs/1703.03130, equations 5 to 7.
    """

    def __init__(self, input_dim: int, attention_dim: int, num_hops: int, *, rngs: nnx.Rngs):
        self.hidden = Linear(input_dim, (attention_dim,), use_bias=False, rngs=rngs)
        scale = jnp.float32(attention_dim) ** -0.5
        self.queries = nnx.Param(
            jax.random.normal(rngs.params(), (num_hops, attention_dim), jnp.float32) * scale
        )

    def __call__(
        self, inputs: Float[Array, "batch time features"], *, lengths: Int[Array, "batch"] | None = None
    ) -> Float[Array, "batch hops_features"]:
        """Pool; the means stand one after another. ``lengths`` ``None`` takes all steps."""
        return self.with_weights(inputs, lengths=lengths)[0]

    def with_weights(
        self, inputs: Float[Array, "batch time features"], *, lengths: Int[Array, "batch"] | None = None
    ) -> tuple[Float[Array, "batch hops_features"], Float[Array, "batch hops time"]]:
        """The means one after another, and the weights ``A``: zero in the padding, an empty row has none."""
        inputs = as_array("inputs", inputs)
        mask = None if lengths is None else AttentionMask.from_lengths(lengths, inputs.shape[1])
        key = rearrange(jnp.tanh(self.hidden(inputs)), "batch time dim -> batch time 1 dim")
        queries = rearrange(self.queries[...], "hops dim -> 1 hops 1 dim").astype(key.dtype)
        queries = jnp.broadcast_to(queries, (inputs.shape[0], *queries.shape[1:]))
        value = rearrange(inputs, "batch time features -> batch time 1 features")
        means, weights = attention_with_weights(queries, key, value, score=Dot(), mask=mask)
        return rearrange(means, "batch hops 1 features -> batch (hops features)"), weights[:, 0]


def redundancy(weights: Float[Array, "batch hops time"]) -> Float[Array, "batch"]:
    r"""How much the hops look at the same steps, and each at many: the penalty of structured self-attention.

    .. math:: P = \lVert A A^\top - I \rVert_F^2

    Zero where each hop looks at one step alone and no two at the same.

    Args:
      weights: Weights of each hop, see `StructuredPooling.with_weights`.

    Returns:
      One number a row, float32.

    Example:
      >>> redundancy(jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])).tolist()
      [0.0, 2.0]

    Source: Lin et al. 2017, https://arxiv.org/abs/1703.03130, equation 8.
    """
    weights = as_array("weights", weights).astype(jnp.float32)
    overlap = jnp.einsum("bht,bgt->bhg", weights, weights)
    identity = jnp.broadcast_to(jnp.eye(weights.shape[1], dtype=jnp.float32), overlap.shape)
    return jnp.sum(jnp.square(overlap - identity), axis=(1, 2))
