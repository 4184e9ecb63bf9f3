"""Blocks of the TPU attention kernels: plain arithmetic on static sizes, which a kernel's grid is made from.

Queries and keys go in blocks. With default positions a causal or window mask leaves each block of queries one run
of key blocks, and each block of keys one run of query blocks. A kernel's innermost grid axis is as long as the
longest run; shorter runs stay on their last block for the steps left over, where nothing is fetched or computed.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from transformer_jax.functional.masks import AttentionMask

LANES = 128
"""Width of a TPU vector register: lengths are padded to a multiple of it."""

MAX_BLOCK = 512
"""Queries or keys of one block, at most: a block of float32 scores is then a mebibyte of on-chip memory."""

MAX_WIDTH = 1024
"""Widest head that still leaves blocks of ``LANES`` rows room in on-chip memory."""


class Run(NamedTuple):
    """The blocks ``first`` to ``last`` of the other side, ``last`` included; none if ``last < first``."""

    first: int | jax.Array
    last: int | jax.Array


class Plan(NamedTuple):
    """Static values of a call.

    Attributes:
      scale: Factor of the scores.
      left: How many positions back a query sees; ``None`` = all.
      right: How many positions ahead a query sees; ``None`` = all.
      has_positions: Whether positions come as arrays; else they are ``arange`` and blocks can be skipped.
      has_valid: Whether some slots are marked hidden.
      has_lengths: Whether keys have a length a row, or were padded.
      query_block: Queries of a block.
      key_block: Keys of a block.
      num_query_blocks: Blocks that cover the padded queries.
      num_key_blocks: Blocks that cover the padded keys.
      precision: Of the products of float32 inputs.
      interpreter: Which of Pallas's interpreters runs the kernels; ``None`` = they are compiled for a TPU.
    """

    scale: float
    left: int | None
    right: int | None
    has_positions: bool
    has_valid: bool
    has_lengths: bool
    query_block: int
    key_block: int
    num_query_blocks: int
    num_key_blocks: int
    precision: lax.Precision
    interpreter: Literal["tpu", "plain"] | None

    @property
    def padded_q_len(self) -> int:
        """Queries with padding."""
        return self.query_block * self.num_query_blocks

    @property
    def padded_kv_len(self) -> int:
        """Keys with padding."""
        return self.key_block * self.num_key_blocks

    def keys_of(self, query_block: int | jax.Array) -> Run:
        """The key blocks that a block of queries may see."""
        limits = (None, None) if self.has_positions else (self.left, self.right)
        return _run(query_block, self.query_block, self.key_block, self.num_key_blocks, *limits)

    def queries_of(self, key_block: int | jax.Array) -> Run:
        """The query blocks that may see a block of keys."""
        limits = (None, None) if self.has_positions else (self.right, self.left)
        return _run(key_block, self.key_block, self.query_block, self.num_query_blocks, *limits)

    @property
    def key_steps(self) -> int:
        """The longest run of key blocks, at least 1: an empty run still has zeros to write."""
        return _longest([self.keys_of(block) for block in range(self.num_query_blocks)])

    @property
    def query_steps(self) -> int:
        """The longest run of query blocks, at least 1."""
        return _longest([self.queries_of(block) for block in range(self.num_key_blocks)])


def make_plan(
    mask: AttentionMask,
    q_len: int,
    kv_len: int,
    *,
    widest: int,
    scale: float = 1.0,
    precision: lax.Precision = lax.Precision.DEFAULT,
    interpreter: Literal["tpu", "plain"] | None = None,
) -> Plan:
    """Choose blocks for a call.

    Args:
      mask: Its causal and window parts limit the blocks, if positions are the default.
      q_len: Number of queries.
      kv_len: Number of keys.
      widest: The larger of head_dim and value_dim; wide heads get smaller blocks.
      scale: Factor of the scores.
      precision: Of the products of float32 inputs.
      interpreter: Which of Pallas's interpreters runs the kernels, if any.

    Returns:
      The plan.

    Example:
      >>> plan = make_plan(AttentionMask.causal(), 1024, 1024, widest=64)
      >>> plan.query_block, plan.num_key_blocks, tuple(plan.keys_of(0)), tuple(plan.queries_of(1))
      (512, 2, (0, 0), (1, 1))
    """
    limit = max(LANES, MAX_BLOCK * 256 // max(256, widest) // LANES * LANES)
    query_block, key_block = _block(q_len, limit), _block(kv_len, limit)
    num_query_blocks, num_key_blocks = -(-q_len // query_block), -(-kv_len // key_block)
    left, right = mask.window_left, 0 if mask.is_causal else mask.window_right
    if mask.has_default_positions:
        # No default position is further away; a larger bound could overflow where positions are compared.
        farthest = max(q_len, kv_len)
        left, right = (None if side is None else min(side, farthest) for side in (left, right))
    return Plan(
        scale=scale,
        left=left,
        right=right,
        has_positions=not mask.has_default_positions,
        has_valid=mask.key_valid is not None,
        has_lengths=mask.key_lengths is not None or num_key_blocks * key_block > kv_len,
        query_block=query_block,
        key_block=key_block,
        num_query_blocks=num_query_blocks,
        num_key_blocks=num_key_blocks,
        precision=precision,
        interpreter=interpreter,
    )


def visited_blocks(plan: Plan) -> int:
    """How many blocks of scores one pass over one head computes.

    Example:
      >>> visited_blocks(make_plan(AttentionMask.causal(), 2048, 2048, widest=64))
      10
    """
    runs = [plan.keys_of(block) for block in range(plan.num_query_blocks)]
    return sum(max(0, int(run.last) - int(run.first) + 1) for run in runs)


def padded_width(width: int) -> int:
    """Width that a head is padded to: half a register or whole ones.

    Example:
      >>> padded_width(40), padded_width(80)
      (64, 128)
    """
    return LANES // 2 if width <= LANES // 2 else -(-width // LANES) * LANES


def _block(length: int, limit: int) -> int:
    """The smallest multiple of ``LANES`` that covers the length in as few blocks as the limit allows."""
    num_blocks = -(-length // limit)
    return -(-length // (num_blocks * LANES)) * LANES


def _run(
    block: int | jax.Array, size: int, other_size: int, num_others: int, back: int | None, ahead: int | None
) -> Run:
    start = block * size
    first: int | jax.Array = 0
    last: int | jax.Array = num_others - 1
    if isinstance(start, int):
        if back is not None:
            first = max(start - back, 0) // other_size
        if ahead is not None:
            last = min((start + size - 1 + ahead) // other_size, num_others - 1)
        return Run(first, last)
    if back is not None:
        first = lax.div(jnp.maximum(start - back, 0), jnp.int32(other_size))
    if ahead is not None:
        last = jnp.minimum(lax.div(start + size - 1 + ahead, jnp.int32(other_size)), num_others - 1)
    return Run(first, last)


def _longest(runs: list[Run]) -> int:
    return max(1, *(int(run.last) - int(run.first) + 1 for run in runs))
