"""Adaptor to cuDNN's fused attention, by ``jax.nn.dot_product_attention(implementation="cudnn")``.

Masks go as native flags wherever cuDNN has them: an array of them makes it slow. Rows that see no key are given one
to look at and zeroed after, since a softmax over nothing would put NaN into the gradient of everything that it
touches. Source: https://docs.jax.dev/en/latest/_autosummary/jax.nn.dot_product_attention.html
"""

from typing import Any

import jax
import jax.numpy as jnp

from transformer_jax.functional.attention import jax_nn
from transformer_jax.functional.attention.contract import AttentionCall
from transformer_jax.functional.attention.guard import guard
from transformer_jax.functional.device_record import default_device
from transformer_jax.typing import Array

_MAX_HEAD_DIM = 256  # from Hopper on


def device_refusals() -> list[str]:
    """Why no call can be done on this machine."""
    device = default_device()
    if device.platform == "gpu" and "cuda" in device.client.platform_version.lower():
        return []
    return [f"needs an NVIDIA GPU, the default device is a '{device.platform}'"]


def refusals(call: AttentionCall) -> list[str]:
    """Reasons not to do the call, whatever the machine."""
    reasons = jax_nn.refusals(call)
    head_dim = call.query.shape[-1]
    if call.query.dtype not in (jnp.bfloat16, jnp.float16):
        reasons.append(f"cuDNN takes bfloat16 and float16, got {call.query.dtype}")
    if head_dim % 8 or head_dim > _MAX_HEAD_DIM:
        reasons.append(f"head_dim must be a multiple of 8 up to {_MAX_HEAD_DIM}, got {head_dim}")
    if call.bias is not None:
        reasons.append("a bias would have to be held whole")
    return reasons


def attend(call: AttentionCall) -> Array:
    """The output ``[batch, q_len, heads, value_dim]``."""
    safe = guard(call)
    query, key, value = safe.query, safe.key, safe.value
    arguments: dict[str, Any] = {}
    if safe.mask is not None and _needs_array(call):
        # cuDNN's gradient under an array of masks needs even lengths: a slot that nobody sees, a row nobody reads.
        query, key, value = _to_even(query), _to_even(key), _to_even(value)
        seen = jnp.broadcast_to(safe.mask, (*safe.mask.shape[:2], call.q_len, call.kv_len))
        if safe.nonempty is not None:
            seen |= ~safe.nonempty[..., None]
        arguments["mask"] = jnp.pad(seen, [(0, 0), (0, 0), (0, 0), (0, call.kv_len % 2)])
        arguments["mask"] = jnp.pad(
            arguments["mask"], [(0, 0), (0, 0), (0, call.q_len % 2), (0, 0)], mode="edge"
        )
    elif safe.mask is not None:
        arguments = _flags(call)
    output = jax.nn.dot_product_attention(
        query, key, value, scale=jax_nn.scale_of(call), implementation="cudnn", **arguments
    )
    return jax_nn.mend(output[:, : call.q_len], safe)


def _to_even(array: Array) -> Array:
    """``[batch, length, heads, width]`` with a slot of zeros more if the length is odd."""
    return jnp.pad(array, [(0, 0), (0, array.shape[1] % 2), (0, 0), (0, 0)])


def _flags(call: AttentionCall) -> dict[str, Any]:
    """The mask by cuDNN's flags; every row sees at least one key."""
    mask = call.mask
    arguments: dict[str, Any] = {"is_causal": mask.is_causal or mask.window_right == 0}
    if mask.window_left is not None:
        arguments["local_window_size"] = (mask.window_left, 0)
    if mask.key_lengths is not None:
        lengths = jnp.broadcast_to(mask.key_lengths.astype(jnp.int32), call.query.shape[:1])
        arguments["key_value_seq_lengths"] = jnp.maximum(lengths, 1)
    return arguments


def _needs_array(call: AttentionCall) -> bool:
    """Whether cuDNN lacks flags for the mask: it has lengths, causal, and a window that looks back only."""
    mask = call.mask
    looks_ahead = mask.has_window and not mask.is_causal and mask.window_right != 0
    # With a left bound a row may be fully masked; without one every row sees the first key.
    may_be_empty = mask.window_left is not None and mask.may_have_empty_rows(call.q_len, call.kv_len)
    return not jax_nn.has_native_flags(mask) or looks_ahead or may_be_empty
