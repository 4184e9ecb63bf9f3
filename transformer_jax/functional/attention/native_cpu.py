r"""Flash attention on a CPU by the native library's kernels, which keep scores in the processor's caches.

A block of keys meets panels of queries; a running maximum and sum join the blocks to a softmax. Saved for the gradient
are the output and each row's log-sum-exp :math:`L_i`; the backward kernel computes the scores again:

.. math::
   p_{ij} = e^{s_{ij} - L_i}, \quad dv_j = \sum_i p_{ij}\, do_i, \quad
   ds_{ij} = p_{ij} (do_i \cdot v_j - do_i \cdot o_i), \quad
   dq_i = \gamma \sum_j ds_{ij} k_j, \quad dk_j = \gamma \sum_i ds_{ij} q_i

with :math:`\gamma` the scale of the rule; all of it in float32. Sums are made in an order that depends on the lengths
of a sequence alone: a result does not depend on threads, on the batch, nor on the slots behind a sequence's length.
Other derivatives than reverse mode go through ``blockwise``.

The library is compiled by ``transformer-jax native build``, see `transformer_jax.native`.

Source: Dao et al. 2022, https://arxiv.org/abs/2205.14135, algorithms 1 and 4.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.functional.attention import blockwise
from transformer_jax.functional.attention.contract import AttentionCall, by_own_rows
from transformer_jax.functional.biases import Alibi
from transformer_jax.functional.derivatives import Rules, with_backward
from transformer_jax.functional.dropout import kept_from
from transformer_jax.functional.masks import AttentionMask
from transformer_jax.functional.native_kernels import call_kernel
from transformer_jax.functional.scores import Dot, ScaledDot, ScoreRule
from transformer_jax.typing import Array

_MAX_POSITION = 2**31 - 2
"""Positions are of 32 bits: a wider window hides nothing."""

_LARGEST_WIDTH = 1024
"""Of a head: the blocks of one thread should fit its caches."""

_DTYPES = (jnp.float32, jnp.bfloat16, jnp.float16)
"""All computed in float32."""

# Bits of the kernels' argument `given`.
_LENGTHS, _QUERY_POSITIONS, _KEY_POSITIONS, _VALID, _DENSE, _SLOPES, _DROPOUT = (1 << bit for bit in range(7))


def refusals(call: AttentionCall) -> list[str]:
    """Reasons not to do the call, whatever the machine."""
    reasons = []
    if call.reweight is not None:
        reasons.append("reweight after the softmax is not offered")
    if type(call.score) not in (Dot, ScaledDot):
        reasons.append(f"the score rule {type(call.score).__name__} is not a dot product")
    if call.query.dtype not in _DTYPES:
        reasons.append(f"the dtype must be float32 or of 16 bits, got {call.query.dtype}")
    if call.bias is not None and type(call.bias) is not Alibi:
        kind = "a dense bias" if isinstance(call.bias, jax.Array) else f"the bias {type(call.bias).__name__}"
        reasons.append(f"{kind} is not offered")
    if 0 in (*call.query.shape, *call.key.shape, *call.value.shape):
        reasons.append(f"empty axes are not offered, got query {call.query.shape} and key {call.key.shape}")
    widest = max(call.query.shape[-1], call.value.shape[-1])
    if widest > _LARGEST_WIDTH:
        reasons.append(f"head_dim and value_dim must be at most {_LARGEST_WIDTH}, got {widest}")
    return reasons


class _Static(NamedTuple):
    """What is known when a program is traced."""

    scale: float
    left: int
    right: int
    rate: float
    key_is_prepared: bool
    score: ScoreRule


class _Arrays(NamedTuple):
    """What has a gradient."""

    query: Array
    key: Array
    value: Array
    slopes: Array | None


class _Rest(NamedTuple):
    """What has none."""

    mask: AttentionMask
    dropout_words: Array | None


@by_own_rows
def attend(call: AttentionCall) -> Array:
    """The output ``[batch, q_len, heads, value_dim]``."""
    words, rate = call.dropout_words()
    mask = call.mask
    right = 0 if mask.is_causal else mask.window_right
    static = _Static(
        scale=call.score.scale_for(call.query.shape[-1]) if isinstance(call.score, ScaledDot) else 1.0,
        left=-1 if mask.window_left is None else min(mask.window_left, _MAX_POSITION),
        right=-1 if right is None else min(right, _MAX_POSITION),
        rate=rate,
        key_is_prepared=call.key_is_prepared,
        score=call.score,
    )
    slopes = call.bias.slopes if isinstance(call.bias, Alibi) else None
    arrays = _Arrays(call.query, call.key, call.value, slopes)
    arrays = jax.tree.map(lambda array: array.astype(jnp.float32), arrays)
    return with_backward(_RULES, static, arrays, _Rest(mask, words))[0][0].astype(call.value.dtype)


def _value(static: _Static, arrays: _Arrays, rest: _Rest) -> tuple[tuple[Array, Array], None]:
    batch, q_len, heads, _ = arrays.query.shape
    output_shape = (batch, q_len, heads, arrays.value.shape[-1])
    operands, attributes = _kernel_arguments(static, arrays, rest)
    output, logsumexp = call_kernel(
        "attention_forward", (output_shape, (batch, heads, q_len)), operands, **attributes
    )
    return (output, logsumexp), None


def _backward(
    static: _Static,
    arrays: _Arrays,
    rest: _Rest,
    outputs: tuple[Array, Array],
    cotangents: tuple[Array, Array],
) -> _Arrays:
    output, logsumexp = outputs
    operands, attributes = _kernel_arguments(static, arrays, rest)
    slopes_shape = (0,) if arrays.slopes is None else logsumexp.shape
    shapes = (arrays.query.shape, arrays.key.shape, arrays.value.shape, slopes_shape)
    operands = (*operands, output, logsumexp, cotangents[0])
    d_query, d_key, d_value, d_slopes = call_kernel("attention_backward", shapes, operands, **attributes)
    return _Arrays(d_query, d_key, d_value, None if arrays.slopes is None else d_slopes.sum(axis=(0, 2)))


def _plain(static: _Static, arrays: _Arrays, rest: _Rest) -> tuple[Array, Array]:
    bias = None if arrays.slopes is None else Alibi(arrays.slopes)
    call = AttentionCall(
        arrays.query,
        arrays.key,
        arrays.value,
        static.key_is_prepared,
        static.score,
        rest.mask,
        bias,
        None,
        None,
    )
    return blockwise.attend_with_words(call, rest.dropout_words, static.rate)


_RULES = Rules(_value, _backward, _plain)


def _kernel_arguments(
    static: _Static, arrays: _Arrays, rest: _Rest
) -> tuple[tuple[Array, ...], dict[str, Any]]:
    """Operands that both kernels take, in their order, and their attributes; a part that is not there is empty."""
    mask, kv_len = rest.mask, arrays.key.shape[1]
    q_len = arrays.query.shape[1]
    lengths = None if mask.key_lengths is None else jnp.clip(mask.key_lengths, 0, kv_len)
    dense = None
    if mask.dense_mask is not None or mask.rules:
        # Positions are those that a rule compares; the parts that the kernel knows are left to it.
        written_out = AttentionMask(
            query_positions=mask.query_positions,
            key_positions=mask.key_positions,
            dense_mask=mask.dense_mask,
            rules=mask.rules,
        )
        dense = written_out.materialize(q_len, kv_len)
    needs_positions = mask.is_causal or mask.has_window or arrays.slopes is not None
    query_positions = mask.query_positions if needs_positions else None
    key_positions = mask.key_positions if needs_positions else None
    pairs = mask.segment_pairs
    parts = {
        _LENGTHS: (lengths, jnp.int32),
        _QUERY_POSITIONS: (query_positions, jnp.int32),
        _KEY_POSITIONS: (key_positions, jnp.int32),
        "query segments": (_stacked([queries for queries, _ in pairs]), jnp.int32),
        "key segments": (_stacked([keys for _, keys in pairs]), jnp.int32),
        _VALID: (mask.key_valid, jnp.bool_),
        _DENSE: (dense, jnp.bool_),
        _SLOPES: (None if arrays.slopes is None else arrays.slopes[None], jnp.float32),
        _DROPOUT: (rest.dropout_words, jnp.uint32),
    }
    given = sum(bit for bit, (part, _) in parts.items() if isinstance(bit, int) and part is not None)
    operands = [
        jnp.zeros((0,), dtype) if part is None else part.astype(dtype) for part, dtype in parts.values()
    ]
    attributes = {
        "scale": np.float32(static.scale),
        "left": np.int64(static.left),
        "right": np.int64(static.right),
        "given": np.int64(given),
        "segment_pairs": np.int64(len(pairs)),
        "rate": np.float32(static.rate),
        "threshold": np.int64(kept_from(static.rate)),
    }
    return (arrays.query, arrays.key, arrays.value, *operands), attributes


def _stacked(rows: list[Array]) -> Array | None:
    """``[batch|1, pairs, length]`` of several ``[batch|1, length]``."""
    if not rows:
        return None
    most = max(row.shape[0] for row in rows)
    return jnp.stack([jnp.broadcast_to(row, (most, row.shape[1])) for row in rows], axis=1)
