r"""Divergence of two projected distributions, block by block of rows, without ever storing the logits.

As in ``projected_logsumexp`` the sum is a scalar, so that both gradients are known as soon as a block's
probabilities are, and no second pass computes them again.
"""

import jax
import jax.numpy as jnp

from transformer_jax.functional.dtypes import wide
from transformer_jax.functional.projected_logsumexp import Rows, over_blocks
from transformer_jax.typing import Array, Float


@jax.custom_vjp
def projected_divergence_sum(
    first: Float[Array, "rows model"],
    second: Float[Array, "rows model"],
    embedding: Float[Array, "vocab model"],
    bias: Float[Array, "vocab"] | None,
    weights: Float[Array, "rows"],
) -> Float[Array, ""]:
    r"""Weighted sum over rows of how far the distributions of two hidden states are apart.

    .. math::
      p_n = \mathrm{softmax}(E f_n + b), \quad q_n = \mathrm{softmax}(E s_n + b), \quad
      \sum_n w_n \tfrac12 \left[\mathrm{KL}(p_n \Vert q_n) + \mathrm{KL}(q_n \Vert p_n)\right]

    With :math:`d = \log p - \log q` the gradient by the first logits is
    :math:`\tfrac12 [p\, (d - \mathrm{KL}(p \Vert q) + 1) - q]`, and by the second the same with both swapped.

    Args:
      first: States, any float dtype.
      second: The other states.
      embedding: Rows of the projection, any float dtype.
      bias: Added to the logits, float32 (float64 if states or embedding are).
      weights: Weight of each row, likewise.

    Returns:
      The sum in nats, float32 or wider, which has reverse-mode derivatives by all arguments and no forward-mode ones.

    Example:
      >>> states, embedding = jnp.array([[0.0], [jnp.log(3.0)]]), jnp.array([[0.0], [1.0]])
      >>> total = projected_divergence_sum(states[:1], states[1:], embedding, None, jnp.ones(1))
      >>> print(f"{float(total):.4f}")
      0.1373
    """

    def block(_: None, rows: Rows) -> tuple[None, Array]:
        return None, _distributions(rows[0], rows[1], embedding, bias)[3].mean(axis=0)

    _, divergences = over_blocks(block, None, (first, second, weights), 2 * embedding.shape[0])
    return (divergences * weights).sum()


def _forward(
    first: Array, second: Array, embedding: Array, bias: Array | None, weights: Array
) -> tuple[Array, tuple]:
    dtype = wide(first, second, embedding)

    def block(totals: tuple, rows: Rows) -> tuple[tuple, tuple[Array, Array, Array]]:
        first_rows, second_rows, weight_rows = rows
        p, q, d, (forward_kl, backward_kl) = _distributions(first_rows, second_rows, embedding, bias)
        factors = 0.5 * weight_rows[:, None]
        to_p = (factors * (p * (d - forward_kl[:, None] + 1.0) - q)).astype(embedding.dtype)
        to_q = (factors * (q * (-d - backward_kl[:, None] + 1.0) - p)).astype(embedding.dtype)
        states = jnp.concatenate([first_rows, second_rows]).astype(embedding.dtype)
        to_logits = jnp.concatenate([to_p, to_q])
        to_embedding = totals[0] + jnp.matmul(states.T, to_logits, preferred_element_type=dtype)
        to_states = jnp.matmul(to_logits, embedding, preferred_element_type=dtype)
        to_bias = None if bias is None else totals[1] + to_logits.astype(dtype).sum(axis=0)
        divergences = 0.5 * (forward_kl + backward_kl)
        return (to_embedding, to_bias), (divergences, *jnp.split(to_states, 2))

    vocab_size, model_dim = embedding.shape
    zeros = (
        jnp.zeros((model_dim, vocab_size), dtype),
        None if bias is None else jnp.zeros(vocab_size, dtype),
    )
    (to_embedding, to_bias), (divergences, to_first, to_second) = over_blocks(
        block, zeros, (first, second, weights), 2 * vocab_size
    )
    gradients = (
        to_first.astype(first.dtype),
        to_second.astype(second.dtype),
        to_embedding.T.astype(embedding.dtype),
        to_bias,
        divergences,
    )
    return (divergences * weights).sum(), gradients


def _backward(gradients: tuple, cotangent: Array) -> tuple:
    return jax.tree.map(lambda gradient: cotangent.astype(gradient.dtype) * gradient, gradients)


projected_divergence_sum.defvjp(_forward, _backward)


def _distributions(
    first: Array, second: Array, embedding: Array, bias: Array | None
) -> tuple[Array, Array, Array, Array]:
    """Both probabilities, the difference of their logarithms, and ``[2, rows]`` the divergence in each direction."""
    logits = jnp.einsum(
        "snd,vd->snv",
        jnp.stack([first, second]),
        embedding,
        preferred_element_type=wide(first, second, embedding),
    )
    if bias is not None:
        logits = logits + bias[None, None, :]
    log_normalizers = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    p, q = jnp.exp(logits - log_normalizers)
    shift = log_normalizers[0] - log_normalizers[1]
    d = logits[0] - logits[1] - shift
    return p, q, d, jnp.stack([(p * d).sum(axis=-1), -(q * d).sum(axis=-1)])
