r"""Attention on Hopper GPUs by Pallas kernels: tensor cores, asynchronous copies, memory linear in the length.

Experimental, and never chosen by ``implementation=None``, until ``device_record.json`` has an entry of a GPU on which
it passed its contract; before that it was lowered for CUDA and run in Pallas's interpreter alone.

A tile of 128 queries meets blocks of keys under a running softmax; saved for the gradient are the output and each
row's log-sum-exp :math:`L_i`. The backward pass computes scores again, once by tiles of queries and once by tiles of
keys, so that no two programs add to one number:

.. math::
   p_{ij} = e^{s_{ij} - L_i}, \quad ds_{ij} = p_{ij} (do_i \cdot v_j - do_i \cdot o_i), \quad
   dq_i = \sum_j ds_{ij} k_j, \quad dk_j = \sum_i ds_{ij} q_i, \quad dv_j = \sum_i p_{ij}\, do_i

Blocks that causal, window and length parts of the mask rule out are not visited, and only blocks on an edge of the
mask look at it pair by pair (:mod:`mosaic_gpu_plan`). The floor is what the products cost: with :math:`P` pairs not
ruled out and width :math:`d`, :math:`4 P d` operations forward and :math:`14 P d` backward; one backward kernel that
added atomically to :math:`dq` would have :math:`10 P d`. Not done, for speed: the two multiplying warpgroups take no
turns between softmax and products, and a block's scores do not overlap the product of the block before (section 3.2
of Shah et al.).

Source: Dao 2023, https://arxiv.org/abs/2307.08691; Shah et al. 2024, https://arxiv.org/abs/2407.08608.
"""

import functools
import re
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from transformer_jax.functional import device_record
from transformer_jax.functional.attention.contract import AttentionCall, by_own_rows
from transformer_jax.functional.attention.guard import guard_in_linear_memory, mark_poisoned
from transformer_jax.functional.attention.mosaic_gpu_plan import (
    MAX_HEAD_DIM,
    TILE,
    BlockSizes,
    KeySide,
    Problem,
    padded,
    reach_of,
)
from transformer_jax.functional.masks import AttentionMask
from transformer_jax.functional.scores import Dot, ScaledDot
from transformer_jax.typing import Array

_WIDTH = 64  # widths are padded to a multiple of what one row of a swizzled buffer holds
# ptxas of these versions miscompiles masked kernels of this kind: JAX's own refuses them too.
_BAD_CUDA = range(12080, 12091)


class _Saved(NamedTuple):
    """Residuals of the backward pass, all padded."""

    query: Array
    key: Array
    value: Array
    key_side: KeySide
    output: Array
    logsumexp: Array


def device_refusals() -> list[str]:
    """Why no call can be done on this machine."""
    device = jax.devices()[0]
    capability = getattr(device, "compute_capability", None)
    if device.platform != "gpu" or capability != "9.0":
        have = f"{device.platform} of compute capability {capability}" if capability else device.platform
        return [f"needs an NVIDIA GPU of compute capability 9.0 (Hopper), this process has {have}"]
    version = re.search(r"cuda (\d+)", device.client.platform_version)
    if version and int(version[1]) in _BAD_CUDA:
        return [f"CUDA {version[1]} miscompiles masked kernels; take CUDA 13 (the extra [cuda])"]
    return []


def refusals(call: AttentionCall) -> list[str]:
    """Reasons not to do the call, whatever the machine."""
    reasons, mask = [], call.mask
    if call.reweight is not None:
        reasons.append("reweight after the softmax is not offered")
    if type(call.score) not in (Dot, ScaledDot):
        reasons.append(f"the score rule {type(call.score).__name__} is not a dot product")
    if call.drops:
        reasons.append("dropout of attention weights is not offered")
    if call.bias is not None:
        reasons.append("a bias is not offered")
    if mask.segment_pairs:
        reasons.append("segments in the mask are not offered")
    if mask.dense_mask is not None:
        reasons.append("a dense mask is not offered")
    reasons += [f"the mask rule {type(rule).__name__} is not offered" for rule in mask.rules]
    if (mask.is_causal or mask.has_window) and not mask.has_default_positions:
        reasons.append("positions of one's own under a causal or window mask are not offered")
    if call.query.dtype not in (jnp.bfloat16, jnp.float16):
        reasons.append(f"wgmma multiplies bfloat16 and float16, got {call.query.dtype}")
    widest = max(call.query.shape[-1], call.value.shape[-1])
    if widest > MAX_HEAD_DIM:
        reasons.append(f"head_dim and value_dim must be at most {MAX_HEAD_DIM}, got {widest}")
    if call.value.shape[2] != call.key.shape[2]:
        reasons.append(f"value must have the heads of key, {call.key.shape[2]}, got {call.value.shape[2]}")
    if 0 in (*call.query.shape, *call.key.shape, *call.value.shape):
        reasons.append(f"empty axes are not offered, got query {call.query.shape}, value {call.value.shape}")
    if jax.dtypes.canonicalize_dtype(jnp.int64) == jnp.int64:
        reasons.append("the kernels count in 32 bits, and jax_enable_x64 is on")
    return reasons


def attend(call: AttentionCall) -> Array:
    """The output ``[batch, q_len, heads, value_dim]``, by the block sizes measured to be the best, or the plan's."""
    return attend_in_blocks(call, _measured_sizes(max(call.query.shape[-1], call.value.shape[-1])))


def attend_in_blocks(call: AttentionCall, sizes: BlockSizes | None) -> Array:
    """The output by blocks of these sizes; ``None`` = the plan's."""
    return by_own_rows(functools.partial(_attend_rows, sizes=sizes))(call)


def _measured_sizes(width: int) -> BlockSizes | None:
    entry = device_record.entry_here()
    sizes = None if entry is None else entry.block_sizes.get(str(padded(width, _WIDTH)))
    return None if sizes is None else BlockSizes(*sizes)


def _attend_rows(call: AttentionCall, sizes: BlockSizes | None) -> Array:
    safe = guard_in_linear_memory(call)
    value_dim = call.value.shape[-1]
    scale = call.score.scale_for(call.query.shape[-1]) if isinstance(call.score, ScaledDot) else 1.0
    # The kernels take the greatest score before they scale, so the factor's sign goes to the queries.
    query = safe.query if scale > 0 else safe.query * jnp.asarray(-1 if scale < 0 else 0, safe.query.dtype)
    reach = reach_of(call.mask, call.q_len, call.kv_len)
    problem = Problem(abs(scale) if scale else 1.0, reach, call.q_len, call.kv_len, sizes)
    key_side = _key_side(call.mask, call.query.shape[0], call.kv_len)
    output = _attend(problem, _padded(query), _padded(safe.key), _padded(safe.value), key_side)
    return mark_poisoned(output[:, : call.q_len, :, :value_dim], safe.poisoned)


def _padded(array: Array) -> Array:
    """``[batch, length, heads, width]`` with zeros up to whole tiles and buffer rows."""
    length, width = array.shape[1], array.shape[3]
    more = ((0, 0), (0, padded(length, TILE) - length), (0, 0), (0, padded(width, _WIDTH) - width))
    return jnp.pad(array, more)


def _key_side(mask: AttentionMask, batch: int, kv_len: int) -> KeySide:
    """Where each row's keys end, and which before the end are hidden."""
    if not mask.has_key_part:
        return KeySide(None, None)
    stops, valid = jnp.full((batch,), kv_len, jnp.int32), None
    if mask.key_lengths is not None:
        stops = jnp.clip(jnp.broadcast_to(mask.key_lengths, (batch,)), 0, kv_len).astype(jnp.int32)
    if mask.key_valid is not None:
        seen = jnp.broadcast_to(mask.key_valid, (batch, kv_len))
        past_last = jnp.max(jnp.where(seen, jnp.arange(1, kv_len + 1, dtype=jnp.int32)[None], 0), axis=1)
        stops = jnp.minimum(stops, past_last)
        valid = jnp.pad(seen.astype(jnp.float32), ((0, 0), (0, padded(kv_len, TILE) - kv_len)))
    return KeySide(stops, valid)


def _kernels() -> ModuleType:
    """Pallas is loaded when a kernel is built: the library must import where it is not to be had."""
    from transformer_jax.functional.attention import mosaic_gpu_kernels

    return mosaic_gpu_kernels


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(problem: Problem, query: Array, key: Array, value: Array, key_side: KeySide) -> Array:
    """The padded output."""
    return _kernels().forward(problem, query, key, value, key_side)[0]


def _forward(
    problem: Problem, query: Array, key: Array, value: Array, key_side: KeySide
) -> tuple[Array, _Saved]:
    output, logsumexp = _kernels().forward(problem, query, key, value, key_side)
    return output, _Saved(query, key, value, key_side, output, logsumexp)


def _backward(problem: Problem, saved: _Saved, d_output: Array) -> tuple[Any, ...]:
    query, key, value, key_side, output, logsumexp = saved
    own_products = (d_output.astype(jnp.float32) * output.astype(jnp.float32)).sum(axis=-1)
    delta = jnp.swapaxes(own_products, 1, 2)  # [batch, heads, q_len]
    arguments = (problem, query, key, value, key_side, d_output, logsumexp, delta)
    d_query = _kernels().query_gradient(*arguments)
    d_key, d_value = _kernels().key_gradients(*arguments)
    if key_side.stops is not None:
        seen = jnp.arange(key.shape[1], dtype=jnp.int32)[None] < key_side.stops[:, None]
        if key_side.valid is not None:
            seen &= key_side.valid > 0
        seen = seen[:, :, None, None]  # [batch, kv_len, 1, 1]
        d_key, d_value = (jnp.where(seen, array, jnp.zeros_like(array)) for array in (d_key, d_value))
    return d_query, d_key, d_value, None


_attend.defvjp(_forward, _backward)
