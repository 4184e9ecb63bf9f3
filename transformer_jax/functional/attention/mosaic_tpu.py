r"""Attention on a TPU: Pallas kernels that keep scores on the chip. Experimental.

A block of queries meets the blocks of keys that it may see, one after the other; a running maximum :math:`m_i` and
a running sum :math:`\ell_i` join them to a softmax. Saved for the gradient are the output and each row's
:math:`L_i = m_i + \log \ell_i`; the backward kernels compute the scores again:

.. math::
   p_{ij} = e^{s_{ij} - L_i}, \quad dv_j = \sum_i p_{ij}\, do_i, \quad
   ds_{ij} = p_{ij} (do_i \cdot v_j - do_i \cdot o_i), \quad
   dq_i = \gamma \sum_j ds_{ij} k_j, \quad dk_j = \gamma \sum_i ds_{ij} q_i

with :math:`\gamma` the scale of the rule. Served are the dot products, masks of causal, window, position, segment,
valid and length parts, grouped heads and ALiBi, in float32 and bfloat16; reverse-mode derivatives only.

**These kernels have never run on a TPU.** They have run in Pallas's interpreters on a CPU, where the contract suite
holds them to the oracle; the tests lower them for the platform ``tpu`` and, where ``libtpu`` is installed, compile
them for a v5e ahead of time. Until a log from real hardware is committed the library never chooses them by itself.

Source: Dao et al. 2022, https://arxiv.org/abs/2205.14135, algorithms 1 and 4; Dao 2023,
https://arxiv.org/abs/2307.08691, sections 3.1 and 3.2.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from transformer_jax.functional.attention.contract import AttentionCall, by_own_rows
from transformer_jax.functional.attention.guard import guard_in_linear_memory, mark_poisoned
from transformer_jax.functional.attention.mosaic_tpu_plan import MAX_WIDTH, Plan, make_plan, padded_width
from transformer_jax.functional.biases import Alibi, PositionBias
from transformer_jax.functional.scores import Dot, ScaledDot
from transformer_jax.typing import Array

_interpreter: contextvars.ContextVar[Literal["tpu", "plain"] | None] = contextvars.ContextVar(
    "interpreter", default=None
)


@contextlib.contextmanager
def interpreted(interpreter: Literal["tpu", "plain"] = "tpu") -> Iterator[None]:
    """Within this context the kernels are interpreted, on any machine: slow, for tests.

    Args:
      interpreter: ``"tpu"`` simulates a TPU's memories and the copies between them; ``"plain"`` only runs the
        blocks one after the other, and is twice as fast.

    A function that was compiled inside keeps the interpreter.
    """
    token = _interpreter.set(interpreter)
    try:
        yield
    finally:
        _interpreter.reset(token)


def device_refusals() -> list[str]:
    """Why no call can be done on this machine."""
    if jax.default_backend() == "tpu" or _interpreter.get() is not None:
        return []
    return [f"needs a TPU, the default backend is '{jax.default_backend()}'"]


def refusals(call: AttentionCall) -> list[str]:
    """Reasons not to do the call, whatever the machine."""
    reasons = []
    if call.reweight is not None:
        reasons.append("reweight after the softmax is not offered")
    if type(call.score) not in (Dot, ScaledDot):
        reasons.append(f"the score rule {type(call.score).__name__} is not a dot product")
    if call.query.dtype not in (jnp.float32, jnp.bfloat16):
        reasons.append(f"the dtype must be float32 or bfloat16, got {call.query.dtype}")
    if call.mask.dense_mask is not None:
        reasons.append("a dense mask is not offered")
    reasons += [f"the mask rule {type(rule).__name__} is not offered" for rule in call.mask.rules]
    if call.bias is not None and not isinstance(call.bias, PositionBias):
        reasons.append("a dense bias is not offered")
    elif call.bias is not None and type(call.bias) is not Alibi:
        reasons.append(f"the bias {type(call.bias).__name__} is not offered")
    if call.drops:
        reasons.append("dropout of attention weights is not offered")
    if call.kv_len == 0 or call.q_len == 0:
        reasons.append(f"empty axes are not offered, got q_len {call.q_len} and kv_len {call.kv_len}")
    widest = max(call.query.shape[-1], call.value.shape[-1])
    if widest > MAX_WIDTH:
        reasons.append(f"head_dim and value_dim must be at most {MAX_WIDTH}, got {widest}")
    return reasons


@by_own_rows
def attend(call: AttentionCall) -> Array:
    """The output ``[batch, q_len, heads, value_dim]``."""
    # Pallas takes seconds to import, which only its users should wait for.
    from transformer_jax.functional.attention.mosaic_tpu_kernels import Sides, flash_attention

    safe = guard_in_linear_memory(call)
    head_dim, value_dim = call.query.shape[-1], call.value.shape[-1]
    plan = make_plan(
        call.mask,
        call.q_len,
        call.kv_len,
        widest=max(head_dim, value_dim),
        scale=call.score.scale_for(head_dim) if isinstance(call.score, ScaledDot) else 1.0,
        precision=_precision(call.query.dtype),
        interpreter=_interpreter.get(),
    )
    query_rows, key_rows = _side_rows(call, plan)
    sides = Sides(query_rows, key_rows, _key_lengths(call) if plan.has_lengths else None)
    slopes = call.bias.slopes.astype(jnp.float32)[:, None, None] if isinstance(call.bias, Alibi) else None
    output = flash_attention(
        plan,
        _heads_first(safe.query, plan.padded_q_len),
        _heads_first(safe.key, plan.padded_kv_len),
        _heads_first(safe.value, plan.padded_kv_len),
        slopes,
        sides,
    )
    output = jnp.swapaxes(output[:, :, : call.q_len, :value_dim], 1, 2)
    return mark_poisoned(output, safe.poisoned)


def _precision(dtype: jnp.dtype) -> lax.Precision:
    """The kernels know one pass and exact; the precisions between are done exactly, 16-bit inputs in one pass."""
    config: Any = jax.config  # its options are not in its type
    asked = config.jax_default_matmul_precision
    one_pass = asked in (None, "default", "fastest", "bfloat16") or dtype == jnp.bfloat16
    return lax.Precision.DEFAULT if one_pass else lax.Precision.HIGHEST


def _heads_first(array: Array, length: int) -> Array:
    """``[batch, length, heads, width]`` to ``[batch, heads, length, width]``, both padded by zeros."""
    padding = (
        (0, 0),
        (0, 0),
        (0, length - array.shape[1]),
        (0, padded_width(array.shape[3]) - array.shape[3]),
    )
    return jnp.pad(jnp.swapaxes(array, 1, 2), padding)


def _side_rows(call: AttentionCall, plan: Plan) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Positions, segments and validity of the two sides: int32 ``[batch|1, 1, length]`` each, in this order."""
    query_rows = [queries for queries, _ in call.mask.segment_pairs]
    key_rows = [keys for _, keys in call.mask.segment_pairs]
    if plan.has_positions:
        query_rows.insert(0, call.mask.query_positions_or_default(call.q_len))
        key_rows.insert(0, call.mask.key_positions_or_default(call.kv_len))
    if call.mask.key_valid is not None:
        key_rows.append(call.mask.key_valid)
    return (
        tuple(_row(row, plan.padded_q_len) for row in query_rows),
        tuple(_row(row, plan.padded_kv_len) for row in key_rows),
    )


def _row(numbers: Array, length: int) -> Array:
    padded = jnp.pad(numbers.astype(jnp.int32), ((0, 0), (0, length - numbers.shape[1])))
    return padded[:, None, :]  # [batch|1, 1, length]


def _key_lengths(call: AttentionCall) -> Array:
    """How many slots are there, padding not counted, ``[batch|1, 1, 1]``."""
    if call.mask.key_lengths is None:
        return jnp.full((1, 1, 1), call.kv_len, jnp.int32)
    return jnp.minimum(call.mask.key_lengths, call.kv_len).astype(jnp.int32)[:, None, None]
