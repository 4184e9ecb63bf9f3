"""Softmax over allowed slots, and the running softmax that sees its slots block by block."""

import jax
import jax.numpy as jnp

from transformer_jax.functional.dtypes import as_array, wide
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Bool, Float


def masked_softmax(
    scores: Float[Array, "*shape"], mask: Bool[Array, "..."] | None = None, axis: int = -1
) -> Float[Array, "*shape"]:
    r"""Softmax over the slots that the mask allows; a row with no allowed slot gives zeros.

    .. math:: p_i = \frac{m_i \exp(s_i)}{\sum_j m_j \exp(s_j)}, \quad p = 0 \text{ if all } m_j = 0

    What stands in a masked slot, NaN and Inf included, touches neither value nor gradient. A score of
    ``-inf`` counts as masked.

    Args:
      scores: Unnormalised log weights, any floating dtype.
      mask: True = allowed; same rank as ``scores`` and broadcastable to it. ``None`` allows all.
      axis: The axis to normalise over.

    Returns:
      Weights, float32 (float64 for float64 scores).

    Example:
      >>> masked_softmax(jnp.array([[0.0, 0.0, 9.0]]), jnp.array([[True, True, False]])).tolist()
      [[0.5, 0.5, 0.0]]

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2.1 ("masking out").
    """
    scores = as_array("scores", scores)
    scores = scores.astype(wide(scores))
    mask = None if mask is None else as_array("mask", mask)
    axis = axis % scores.ndim
    return _softmax(scores, axis) if mask is None else _softmax_where(scores, mask, axis)


# The derivative needs the weights alone, so the rules below save one array and read no masked score.


def _softmax_value(scores: Array, axis: int) -> Array:
    maximum = jnp.max(scores, axis=axis, keepdims=True, initial=-jnp.inf)
    exponentials = jnp.exp(scores - _finite_or_zero(maximum))
    total = jnp.sum(exponentials, axis=axis, keepdims=True)
    return exponentials / jnp.where(total == 0, jnp.ones_like(total), total)


@jax.custom_jvp
def _softmax_last(scores: Array) -> Array:
    return _softmax_value(scores, -1)


@_softmax_last.defjvp
def _softmax_last_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    weights = _softmax_last(primals[0])
    return weights, _softmax_tangent(weights, tangents[0])


@jax.custom_jvp
def _softmax_last_where(scores: Array, mask: Array) -> Array:
    return _softmax_value(jnp.where(mask, scores, -jnp.inf), -1)


@_softmax_last_where.defjvp
def _softmax_last_where_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    scores, mask = primals
    weights = _softmax_last_where(scores, mask)
    return weights, _softmax_tangent(weights, jnp.where(mask, tangents[0], jnp.zeros_like(weights)))


def _softmax_tangent(weights: Array, tangent: Array) -> Array:
    weighted = weights * tangent
    return weighted - weights * jnp.sum(weighted, axis=-1, keepdims=True)


def _softmax(scores: Array, axis: int) -> Array:
    if axis == scores.ndim - 1:
        return _softmax_last(scores)
    return jnp.moveaxis(_softmax_last(jnp.moveaxis(scores, axis, -1)), -1, axis)


def _softmax_where(scores: Array, mask: Array, axis: int) -> Array:
    if axis == scores.ndim - 1:
        return _softmax_last_where(scores, mask)
    moved = _softmax_last_where(jnp.moveaxis(scores, axis, -1), jnp.moveaxis(mask, axis, -1))
    return jnp.moveaxis(moved, -1, axis)


def _finite_or_zero(maximum: Array) -> Array:
    # exp(-inf - -inf) would be NaN; zero leaves exp(-inf) = 0 in a row with nothing in it.
    return jnp.where(jnp.isneginf(maximum), jnp.zeros_like(maximum), maximum)


@pytree_dataclass
class OnlineSoftmax:
    """A weighted mean under a softmax whose slots arrive in blocks.

    Attributes:
      maximum: Largest score so far, ``-inf`` before the first, ``[..., rows]``.
      total: Sum of ``exp(score - maximum)``, ``[..., rows]``.
      accumulator: Sum of ``exp(score - maximum) * value``, ``[..., rows, features]``.
    """

    maximum: Float[Array, "*rows"]
    total: Float[Array, "*rows"]
    accumulator: Float[Array, "*rows features"]


def online_softmax_start(
    rows: tuple[int, ...], features: int, dtype: jax.typing.DTypeLike = jnp.float32
) -> OnlineSoftmax:
    """The state before any block.

    Args:
      rows: Shape of the independent rows.
      features: Width of the values.
      dtype: Dtype of the state.

    Returns:
      A state whose mean is zero.

    Example:
      >>> online_softmax_finish(online_softmax_start((2,), 3)).tolist()
      [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]

    Source: Milakov and Gimelshein 2018, https://arxiv.org/abs/1805.02867, algorithm 3.
    """
    return OnlineSoftmax(
        jnp.full(rows, -jnp.inf, dtype), jnp.zeros(rows, dtype), jnp.zeros((*rows, features), dtype)
    )


def online_softmax_update(
    state: OnlineSoftmax,
    scores: Float[Array, "*rows slots"],
    values: Float[Array, "*rows slots features"],
    mask: Bool[Array, "*#rows slots"] | None = None,
) -> OnlineSoftmax:
    r"""Take one more block of slots into the running softmax.

    .. math:: m' = \max(m, \max_i s_i), \quad
       l' = e^{m - m'} l + \sum_i e^{s_i - m'}, \quad a' = e^{m - m'} a + \sum_i e^{s_i - m'} v_i

    Args:
      state: The state so far.
      scores: Scores of the block's slots.
      values: Values of the block's slots.
      mask: True = allowed, broadcastable to ``scores``; the values of masked slots are not read.

    Returns:
      The new state.

    Example:
      >>> state = online_softmax_start((1,), 1)
      >>> state = online_softmax_update(state, jnp.zeros((1, 2)), jnp.array([[[1.0], [3.0]]]))
      >>> online_softmax_finish(state).tolist()
      [[2.0]]

    Source: Milakov and Gimelshein 2018, https://arxiv.org/abs/1805.02867, algorithm 3.
    """
    scores, values = as_array("scores", scores).astype(state.maximum.dtype), as_array("values", values)
    if mask is not None:
        mask = jnp.broadcast_to(as_array("mask", mask), scores.shape)
        scores = jnp.where(mask, scores, -jnp.inf)
        values = jnp.where(mask[..., None], values, jnp.zeros_like(values))
    maximum = jnp.maximum(state.maximum, jnp.max(scores, axis=-1, initial=-jnp.inf))
    shift = _finite_or_zero(maximum)
    old = jnp.exp(state.maximum - shift)
    exponentials = jnp.exp(scores - shift[..., None])
    added = jnp.einsum("...s,...sf->...f", exponentials, values.astype(exponentials.dtype))
    return OnlineSoftmax(
        maximum, old * state.total + jnp.sum(exponentials, -1), old[..., None] * state.accumulator + added
    )


def online_softmax_merge(left: OnlineSoftmax, right: OnlineSoftmax) -> OnlineSoftmax:
    """Join the states of two disjoint sets of slots; the order does not matter.

    Args:
      left: State of one set.
      right: State of the other.

    Returns:
      The state of the union.

    Example:
      >>> empty = online_softmax_start((1,), 1)
      >>> online_softmax_merge(empty, empty).total.tolist()
      [0.0]

    Source: Milakov and Gimelshein 2018, https://arxiv.org/abs/1805.02867, section 3.1.
    """
    maximum = jnp.maximum(left.maximum, right.maximum)
    shift = _finite_or_zero(maximum)
    left_scale, right_scale = jnp.exp(left.maximum - shift), jnp.exp(right.maximum - shift)
    return OnlineSoftmax(
        maximum,
        left_scale * left.total + right_scale * right.total,
        left_scale[..., None] * left.accumulator + right_scale[..., None] * right.accumulator,
    )


def online_softmax_finish(state: OnlineSoftmax) -> Float[Array, "*rows features"]:
    """The weighted mean; zeros for a row that saw no allowed slot.

    Args:
      state: The state after the last block.

    Returns:
      ``accumulator / total``.

    Example:
      >>> online_softmax_finish(online_softmax_start((1,), 2)).shape
      (1, 2)

    Source: Milakov and Gimelshein 2018, https://arxiv.org/abs/1805.02867, algorithm 3.
    """
    total = state.total[..., None]
    return state.accumulator / jnp.where(total == 0, jnp.ones_like(total), total)
