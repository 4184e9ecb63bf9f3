"""Attention over many blocks: lengths that the tiny cases of the contract do not reach, held to the reference.

For kernels on an accelerator: 16-bit arrays, values and gradients against the reference in float32.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax import functional as F
from transformer_jax.functional import AttentionMask
from transformer_jax.testing.attention_suite import BFLOAT16_TOLERANCE, Attend, assert_near, float64


def _valid(kv_len: int) -> AttentionMask:
    return AttentionMask.valid(jnp.asarray(np.random.default_rng(1).random((2, kv_len)) < 0.7))


BLOCK_CASES: dict[str, tuple[int, int, Callable[[], AttentionMask]]] = {
    "causal": (2048, 2048, AttentionMask.causal),
    "full": (1024, 1024, AttentionMask),
    "causal_ragged": (1000, 1000, AttentionMask.causal),
    "lengths": (300, 1999, lambda: AttentionMask.from_lengths(jnp.array([1999, 777]), 1999)),
    "window": (1500, 1500, lambda: AttentionMask.window(200, 100)),
    "causal_window": (1300, 1300, lambda: AttentionMask.causal() & AttentionMask.window(300, None)),
    "valid": (700, 1100, lambda: _valid(1100)),
    "causal_valid": (900, 900, lambda: AttentionMask.causal() & _valid(900)),
    "causal_empty_row": (
        513, 800, lambda: AttentionMask.causal() & AttentionMask.from_lengths(jnp.array([0, 300]), 800),
    ),
}  # fmt: skip
"""By name: queries, keys, and what makes the mask of a batch of two."""

HEADS, KV_HEADS = 8, 2


def check_blocks(
    attend: Attend, name: str, head_dim: int, dtype: Any = jnp.bfloat16, *, same_bits: bool = False
) -> dict[str, float]:
    """Hold an implementation to a case of :data:`BLOCK_CASES`, with grouped heads.

    Args:
      attend: Called as ``attend(query, key, value, mask=)``.
      name: Of the case.
      head_dim: Width of a head.
      dtype: ``bfloat16`` or ``float16``.
      same_bits: Also demand the same bits of a second run.

    Returns:
      The greatest error of the output and of each gradient, as a share of the greatest entry.

    Raises:
      AssertionError: If some check fails; the message says which.

    Example:
      >>> BLOCK_CASES["lengths"][:2]  # queries and keys; check_blocks(attend, "lengths", 64) takes seconds
      (300, 1999)
    """
    q_len, kv_len, make_mask = BLOCK_CASES[name]
    mask = make_mask()
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = [(q_len, HEADS), (kv_len, KV_HEADS), (kv_len, KV_HEADS), (q_len, HEADS)]
    *inputs, cotangent = (
        jax.random.normal(key, (2, length, heads, head_dim), dtype)
        for key, (length, heads) in zip(keys, shapes)
    )

    def outcome(attend: Attend, inputs: Any, cotangent: Any) -> Any:
        output, pull_back = jax.vjp(functools.partial(attend, mask=mask), *inputs)
        return output, *pull_back(cotangent)

    run = jax.jit(functools.partial(outcome, attend))
    got = run(inputs, cotangent)
    reference = functools.partial(F.attention, implementation="reference")
    wide = [array.astype(jnp.float32) for array in inputs]
    wanted = jax.jit(functools.partial(outcome, reference))(wide, cotangent.astype(jnp.float32))
    names, errors = ("output", "query", "key", "value"), {}
    for part, one, want in zip(names, got, wanted):
        assert_near(one, want, BFLOAT16_TOLERANCE, f"{name}, width {head_dim}: {part}")
        errors[part] = float(np.abs(float64(one) - float64(want)).max() / np.abs(float64(want)).max())
    if same_bits:
        for part, one, two in zip(names, got, run(inputs, cotangent)):
            np.testing.assert_array_equal(one, two, err_msg=f"{name}: {part} of a second run")
    return errors
