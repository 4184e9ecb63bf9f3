"""Attention of a decoder's step: few queries, and keys and values that lie head by head in a cache."""

import jax.numpy as jnp

from transformer_jax.errors import ShapeError
from transformer_jax.functional.dtypes import as_array, wide
from transformer_jax.functional.softmax import masked_softmax
from transformer_jax.typing import Array, Bool, Float

__all__ = ["attend_stored", "attend_stored_with_weights"]


def attend_stored(
    query: Float[Array, "batch q_len heads head_dim"],
    stored_keys: Float[Array, "batch kv_heads head_dim kv_len"],
    stored_values: Float[Array, "batch kv_heads kv_len value_dim"],
    visible: Bool[Array, "#batch #q_len kv_len"],
    bias: Float[Array, "#batch heads #q_len kv_len"] | None = None,
) -> Float[Array, "batch q_len heads value_dim"]:
    r"""Scaled dot-product attention over a cache as it lies, without turning or copying it.

    .. math:: o_i = \sum_j \frac{m_{ij} \exp(q_i^\top k_j / \sqrt{d})}{\sum_l m_{il} \exp(q_i^\top k_l / \sqrt{d})} v_j

    The same as :func:`attention` on the turned arrays, for the step of a decoder: on the CPU a quarter of its time.
    Here what stands in a slot that nobody sees must be finite, as the slots of an empty cache are.

    Args:
      query: ``[batch, q_len, heads, head_dim]``.
      stored_keys: ``[batch, kv_heads, head_dim, kv_len]``; each head serves a group of query heads. The places come
        last: on the CPU this product then takes a third of the time.
      stored_values: ``[batch, kv_heads, kv_len, value_dim]``.
      visible: Which slots each query may see; a query that sees none gives zeros.
      bias: Added to the scores.

    Returns:
      ``[batch, q_len, heads, value_dim]``, of the values' dtype.

    Raises:
      ShapeError: If the heads of the keys do not divide those of the queries.

    Example:
      >>> keys, values = jnp.ones((1, 1, 4, 3)), jnp.ones((1, 1, 3, 4))
      >>> attend_stored(jnp.ones((1, 1, 2, 4)), keys, values, jnp.array([[[True, True, False]]])).shape
      (1, 1, 2, 4)

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 1.
    """
    return attend_stored_with_weights(query, stored_keys, stored_values, visible, bias)[0]


def attend_stored_with_weights(
    query: Float[Array, "batch q_len heads head_dim"],
    stored_keys: Float[Array, "batch kv_heads head_dim kv_len"],
    stored_values: Float[Array, "batch kv_heads kv_len value_dim"],
    visible: Bool[Array, "#batch #q_len kv_len"],
    bias: Float[Array, "#batch heads #q_len kv_len"] | None = None,
) -> tuple[Float[Array, "batch q_len heads value_dim"], Float[Array, "batch heads q_len kv_len"]]:
    r"""As :func:`attend_stored`, to the bit, and the weights too, float32 or wider; arguments as there.

    Example:
      >>> keys, values = jnp.ones((1, 1, 4, 3)), jnp.ones((1, 1, 3, 4))
      >>> visible = jnp.array([[[True, True, False]]])
      >>> attend_stored_with_weights(jnp.ones((1, 1, 1, 4)), keys, values, visible)[1].tolist()
      [[[[0.5, 0.5, 0.0]]]]

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 1.
    """
    query, visible = as_array("query", query), as_array("visible", visible)
    stored_keys, stored_values = (
        as_array(name, array)
        for name, array in (("stored_keys", stored_keys), ("stored_values", stored_values))
    )
    batch, q_len, heads, head_dim = query.shape
    kv_heads, kv_len, value_dim = stored_values.shape[1:]
    if kv_heads < 1 or heads % kv_heads:
        raise ShapeError(f"the {heads} heads of the query must be divisible by the {kv_heads} of the keys")
    group = heads // kv_heads
    scale = head_dim**-0.5
    is_wide = query.dtype.itemsize >= 4  # a 16-bit query is left alone and its scores are scaled
    by_head = (query * scale if is_wide else query).reshape(batch, q_len, kv_heads, group, head_dim)
    by_head = jnp.moveaxis(by_head, 1, 2).reshape(batch, kv_heads, q_len * group, head_dim)
    scores = jnp.einsum(
        "bhqd,bhdl->bhql", by_head, stored_keys, preferred_element_type=wide(query, stored_keys)
    )
    if not is_wide:
        scores = scores * scale
    scores = scores.reshape(batch, kv_heads, q_len, group, kv_len)
    if bias is not None:
        bias = as_array("bias", bias)
        by_group = bias.reshape(bias.shape[0], kv_heads, group, *bias.shape[2:])
        scores = scores + jnp.moveaxis(by_group, 2, 3)
    weights = masked_softmax(scores, visible[:, None, :, None, :])
    applied = weights.reshape(batch, kv_heads, q_len * group, kv_len).astype(stored_values.dtype)
    context = jnp.einsum(
        "bhql,bhld->bhqd", applied, stored_values, preferred_element_type=wide(stored_values)
    )
    context = context.reshape(batch, kv_heads, q_len, group, value_dim).astype(stored_values.dtype)
    by_query = jnp.moveaxis(weights, 2, 3).reshape(batch, heads, q_len, kv_len)
    return jnp.moveaxis(context, 2, 1).reshape(batch, q_len, heads, value_dim), by_query
