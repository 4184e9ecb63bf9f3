"""Adaptor to ``jax.nn.dot_product_attention``, with fully masked rows corrected to zero."""

from typing import Any

import jax
import jax.numpy as jnp

from transformer_jax.functional.attention.contract import AttentionCall
from transformer_jax.functional.attention.guard import GuardedArrays, guard, mark_poisoned
from transformer_jax.functional.dtypes import wide
from transformer_jax.functional.masks import AttentionMask
from transformer_jax.functional.scores import Dot, ScaledDot
from transformer_jax.typing import Array


def refusals(call: AttentionCall) -> list[str]:
    """Reasons not to do the call."""
    reasons = dot_product_refusals(call)
    if call.value.shape[2:] != call.key.shape[2:]:
        reasons.append(f"value_dim must equal head_dim, got {call.value.shape[-1]} and {call.key.shape[-1]}")
    return reasons


def dot_product_refusals(call: AttentionCall) -> list[str]:
    """Reasons that exclude any function of the form ``dot_product_attention(query, key, value, bias, mask)``."""
    reasons = []
    if type(call.score) not in (Dot, ScaledDot):
        reasons.append(f"the score rule {type(call.score).__name__} is not a dot product")
    if call.reweight is not None:
        reasons.append("reweight after the softmax is not offered")
    if wide(call.query) == jnp.float64:
        reasons.append("float64 is not offered: it computes in float32")
    if call.drops:
        reasons.append("dropout of attention weights is not offered")
    if call.kv_len == 0 or call.q_len == 0:
        reasons.append(f"empty axes are not offered, got q_len {call.q_len} and kv_len {call.kv_len}")
    return reasons


def attend(call: AttentionCall) -> Array:
    """The output ``[batch, q_len, heads, value_dim]``."""
    bias, safe = without_dead_rows(call.dense_bias(), guard(call))
    # The CPU backend of jax 0.10 cannot compile a 16-bit product of one element with one.
    is_single = call.q_len == call.kv_len == 1
    dtype = wide(call.query) if is_single else call.query.dtype
    output = jax.nn.dot_product_attention(
        safe.query.astype(dtype),
        safe.key.astype(dtype),
        safe.value.astype(dtype),
        bias=bias,
        scale=scale_of(call),
        implementation="xla",
        **mask_arguments(call, safe.mask),
    )
    return mend(output.astype(call.query.dtype), safe)


def without_dead_rows(bias: Array | None, safe: GuardedArrays) -> tuple[Array | None, GuardedArrays]:
    """A bias that leaves each row a key: rows for which it or the mask hides all keys join those to be corrected."""
    if bias is None:
        return None, safe
    seen = ~jnp.isneginf(bias)
    alive = jnp.any(seen if safe.mask is None else seen & safe.mask, axis=-1)
    bias = jnp.where(alive[..., None], bias, 0.0)
    query = jnp.where(jnp.swapaxes(alive, 1, 2)[..., None], safe.query, jnp.zeros_like(safe.query))
    return bias, safe._replace(query=query, nonempty=alive)


def scale_of(call: AttentionCall) -> float:
    """The factor of the products."""
    return call.score.scale_for(call.query.shape[-1]) if isinstance(call.score, ScaledDot) else 1.0


def mend(output: Array, safe: GuardedArrays) -> Array:
    """Zeros in rows that see no key, NaN in those that see a slot that is not finite."""
    if safe.nonempty is not None:
        nonempty = jnp.swapaxes(safe.nonempty, 1, 2)[..., None]  # [batch|1, q_len|1, heads|1, 1]
        output = jnp.where(nonempty, output, jnp.zeros_like(output))
    return mark_poisoned(output, safe.poisoned)


def mask_arguments(call: AttentionCall, dense: Array | None) -> dict[str, Any]:
    """The mask by native flags where they mean exactly the same, else as an array."""
    mask = call.mask
    if dense is None:
        return {}
    if not has_native_flags(mask):
        return {"mask": jnp.broadcast_to(dense, (*dense.shape[:2], call.q_len, call.kv_len))}
    arguments: dict[str, Any] = {"is_causal": mask.is_causal}
    if mask.has_window:
        # An open side reaches as far as any position can.
        reach = max(call.q_len, call.kv_len)
        sides = (mask.window_left, mask.window_right)
        arguments["local_window_size"] = tuple(reach if side is None else side for side in sides)
    if mask.key_lengths is not None:
        lengths = jnp.broadcast_to(mask.key_lengths.astype(jnp.int32), call.query.shape[:1])
        arguments["key_value_seq_lengths"] = lengths
    return arguments


def has_native_flags(mask: AttentionMask) -> bool:
    """Whether the mask is made of causal, window and lengths parts on default positions alone."""
    native_pairs = mask.has_default_positions or not (mask.is_causal or mask.has_window)
    has_arrays = mask.segment_pairs or mask.rules or mask.key_valid is not None or mask.dense_mask is not None
    return native_pairs and not has_arrays
