"""How a query and the context it found become one vector."""

import jax.numpy as jnp
from flax import nnx

from transformer_jax.nn.linear import Linear
from transformer_jax.typing import Array, Float


class CombineQueryContext(nnx.Module):
    r"""A linear map of a query and its context.

    .. math:: y = W [q; c] + b

    The combining layer of the well-known PyTorch sequence-to-sequence tutorial; with ``tanh`` around it and
    no bias it is Luong's attentional vector.

    Args:
      query_dim: Width of the query.
      context_dim: Width of the context.
      output_dim: Width of the result.
      use_bias: Whether there is a ``b``.
      rngs: Source of the initial parameters.

    Example:
      >>> combine = CombineQueryContext(2, 3, 4, use_bias=True, rngs=nnx.Rngs(0))
      >>> combine(jnp.ones((5, 2)), jnp.ones((5, 3))).shape
      (5, 4)

    Source: Luong et al. 2015, https://arxiv.org/abs/1508.04025, equation 5.
    """

    def __init__(self, query_dim: int, context_dim: int, output_dim: int, *, use_bias: bool, rngs: nnx.Rngs):
        self.linear = Linear(query_dim + context_dim, (output_dim,), use_bias=use_bias, rngs=rngs)

    def __call__(
        self, query: Float[Array, "*positions query_dim"], context: Float[Array, "*positions context_dim"]
    ) -> Float[Array, "*positions output_dim"]:
        """Map ``[query; context]``."""
        return self.linear(jnp.concatenate([query, context], axis=-1))


class MaxoutReadout(nnx.Module):
    r"""The deep output of a recurrent decoder: one maxout layer over state, last token and context.

    .. math:: t_j = \max(\tilde t_j, \tilde t_{j + l}), \quad \tilde t = U s + V y + C c + b

    The papers take the maximum of neighbours, here the two halves meet: the same up to the order of the rows.

    Args:
      state_dim: Width of the decoder state.
      token_dim: Width of the last token's embedding.
      context_dim: Width of the context.
      output_dim: Number of maxout units ``l``.
      rngs: Source of the initial parameters.

    Example:
      >>> readout = MaxoutReadout(2, 3, 4, 5, rngs=nnx.Rngs(0))
      >>> readout(jnp.ones((1, 2)), jnp.ones((1, 3)), jnp.ones((1, 4))).shape
      (1, 5)

    Source: Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473, appendix A.2.2 (with the new state, as in
    equation 4); Cho et al. 2014, https://arxiv.org/abs/1406.1078, appendix A.1.2.
    """

    def __init__(self, state_dim: int, token_dim: int, context_dim: int, output_dim: int, *, rngs: nnx.Rngs):
        self.linear = Linear(
            state_dim + token_dim + context_dim, (output_dim, output_dim), use_bias=True, rngs=rngs
        )

    def __call__(
        self,
        state: Float[Array, "*positions state_dim"],
        token: Float[Array, "*positions token_dim"],
        context: Float[Array, "*positions context_dim"],
    ) -> Float[Array, "*positions output_dim"]:
        """The maxout units."""
        first, second = jnp.split(self.linear(jnp.concatenate([state, token, context], axis=-1)), 2, axis=-1)
        return jnp.maximum(first, second)
