"""Attention to a few keys around a centre of each query: cost and memory linear in both lengths."""

import jax.numpy as jnp

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.attention.attend import attention, prepare_key
from transformer_jax.functional.attention.contract import AttentionDropout, PreparedKey, check_rule
from transformer_jax.functional.biases import PositionBias
from transformer_jax.functional.dtypes import as_array, wide
from transformer_jax.functional.masks import AttentionMask
from transformer_jax.functional.reweights import GaussianReweight
from transformer_jax.functional.scores import ScaledDot, ScoreRule
from transformer_jax.typing import Array, Float, Int

_SCALED_DOT = ScaledDot()


def local_attention(
    query: Float[Array, "batch q_len heads query_dim"],
    key: Float[Array, "batch kv_len kv_heads key_dim"] | PreparedKey,
    value: Float[Array, "batch kv_len value_heads value_dim"],
    *,
    center: Float[Array, "batch q_len"] | Int[Array, "batch q_len"],
    half_width: int,
    deviation: float | None = None,
    score: ScoreRule = _SCALED_DOT,
    mask: AttentionMask | None = None,
    bias: PositionBias | None = None,
    dropout: AttentionDropout | None = None,
    implementation: str | None = None,
) -> Float[Array, "batch q_len heads value_dim"]:
    r"""Attention of each query to the ``2 * half_width + 1`` keys around its own centre.

    .. math:: o_i = \sum_{|j - [c_i]| \le D} g_{ij} p_{ij} v_j, \quad
       g_{ij} = \exp\left(-\frac{(j - c_i)^2}{2 \sigma^2}\right)

    :math:`[c]` is the nearest integer, the softmax runs over the window alone, and :math:`g = 1` without
    ``deviation``. With ``center = arange`` this is Luong's ``local-m`` (a band, which :func:`attention` takes too,
    as ``AttentionMask.window``, and computes by block); with a predicted centre and
    ``deviation = half_width / 2`` his ``local-p``, whose centre gets its gradient through :math:`g`. The window's
    keys are gathered, so nothing of ``q_len * kv_len`` is ever held. Equal to :func:`attention` under
    ``AttentionMask.window(half_width, half_width)`` with the rounded centres as the queries' positions.

    Args:
      query: As in :func:`attention`.
      key: As in :func:`attention`.
      value: As in :func:`attention`.
      center: Where each query looks, in keys from the first one; outside of the keys the window may be empty,
        and the output zeros.
      half_width: Keys on each side of the centre, ``D``.
      deviation: :math:`\sigma`, in keys; ``None`` = no Gaussian.
      score: As in :func:`attention`; ``Location`` compares the keys' places.
      mask: Which keys exist, the same for all queries: ``valid`` and ``from_lengths`` parts only.
      bias: ``Alibi`` or ``RelativeBuckets``; the query stands at its rounded centre.
      dropout: As in :func:`attention`.
      implementation: As in :func:`attention`.

    Returns:
      ``[batch, q_len, heads, value_dim]`` in the dtype of the inputs.

    Raises:
      ShapeError: If ``center`` is not one number a query, or another shape does not fit.
      ConfigError: If ``half_width`` is negative, ``deviation`` not above zero, or the mask has other parts.

    Example:
      >>> ones = jnp.ones((1, 4, 1, 2))
      >>> local_attention(ones, ones, ones, center=jnp.arange(4)[None], half_width=1).shape
      (1, 4, 1, 2)

    Source: Luong et al. 2015, https://arxiv.org/abs/1508.04025, section 3.2.
    """
    query, value, center = as_array("query", query), as_array("value", value), as_array("center", center)
    mask = AttentionMask() if mask is None else mask
    check_rule("score", score)
    if query.ndim != 4 or value.ndim != 4:
        shapes = f"{list(query.shape)} and {list(value.shape)}"
        raise ShapeError(f"query and value must be [batch, length, heads, width], got {shapes}")
    _check(query, center, half_width, mask)
    prepared = key if isinstance(key, PreparedKey) else prepare_key(score, key)
    batch, q_len, num_heads, _ = query.shape
    kv_len = prepared.array.shape[1]
    if batch == 0 or q_len == 0 or kv_len == 0:
        return jnp.zeros((batch, q_len, num_heads, value.shape[-1]), value.dtype)
    window = 2 * half_width + 1
    middle = jnp.round(center).astype(jnp.int32)
    slots = middle[:, :, None] + jnp.arange(-half_width, half_width + 1)[None, None]  # [batch, q_len, window]
    index = jnp.clip(slots, 0, kv_len - 1)
    visible = (slots >= 0) & (slots < kv_len)
    if mask.has_key_part:
        exists = jnp.broadcast_to(mask.materialize(1, kv_len)[:, 0, 0, :], (batch, kv_len))
        visible &= jnp.take_along_axis(exists[:, None, :], index, axis=2)

    def windows(array: Array) -> Array:
        """``[batch, kv_len, heads, width]`` to ``[batch * q_len, window, heads, width]``."""
        flat = jnp.take_along_axis(array, index.reshape(batch, q_len * window, 1, 1), axis=1)
        return flat.reshape(batch * q_len, window, *array.shape[2:])

    # Each query becomes a sequence of its own, whose keys are those of its window.
    rows, query_dim, value_dim = batch * q_len, query.shape[-1], value.shape[-1]
    output = attention(
        query.reshape(rows, 1, num_heads, query_dim),
        PreparedKey(windows(prepared.array)),
        windows(value),
        score=score,
        mask=AttentionMask.positions(middle.reshape(rows, 1), slots.reshape(rows, window))
        & AttentionMask.valid(visible.reshape(rows, window)),
        bias=bias,
        reweight=None if deviation is None else GaussianReweight(_column(center), deviation),
        dropout=dropout,
        implementation=implementation,
    )
    return output.reshape(batch, q_len, num_heads, value_dim)


def _column(center: Array) -> Array:
    """One centre a sequence, ``[batch * q_len, 1, 1]``, floating."""
    return center.reshape(center.size, 1, 1).astype(wide(center))


def _check(query: Array, center: Array, half_width: int, mask: AttentionMask) -> None:
    if center.shape != query.shape[:2]:
        raise ShapeError(f"center must be [batch, q_len] = {list(query.shape[:2])}, got {list(center.shape)}")
    if half_width < 0:
        raise ConfigError(f"half_width must be an integer >= 0, got {half_width}")
    if mask.is_pairwise or not mask.has_default_positions:
        raise ConfigError(
            "mask of local_attention must hold valid and from_lengths parts only, which are the same for all queries; "
            "center and half_width say what each query sees"
        )
