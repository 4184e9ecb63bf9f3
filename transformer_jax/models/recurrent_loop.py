"""Shared parts of the recurrent decoders' loops: layers, memory of the backward pass, keys."""

from collections.abc import Callable
from typing import TypeVar

import jax
from flax import nnx

from transformer_jax.models.recurrent_config import RecurrentDecoderConfig
from transformer_jax.models.recurrent_state import RecurrentState
from transformer_jax.nn.recurrent import RecurrentStack
from transformer_jax.typing import Array

_Found = TypeVar("_Found")

_FORGET_FROM = 256
"""Source tokens from which on a loop over target tokens does not keep what its attention computed."""


def decoder_stack(config: RecurrentDecoderConfig, fed_dim: int, *, rngs: nnx.Rngs) -> RecurrentStack:
    """The decoder's layers; the first one reads ``[token; what is fed]``."""
    return RecurrentStack(
        config.cell,
        config.embedding_dim + fed_dim,
        config.hidden_dim,
        config.num_decoder_layers,
        bidirectional=False,
        dropout_rate=config.dropout_rate,
        residual=config.residual,
        dtype=config.dtype,
        implementation=config.recurrence_implementation,
        normalization=config.normalization,
        norm_placement=config.norm_placement,
        rngs=rngs,
    )


def forgetting(attend: Callable[..., _Found], state: RecurrentState) -> Callable[..., _Found]:
    """``attend``, done again in the backward pass where keeping every step's weights would be quadratic in memory."""
    return jax.checkpoint(attend) if state.memory.asked().value.shape[1] >= _FORGET_FROM else attend


def step_keys(rng_key: jax.Array | None, stack: RecurrentStack, projected: Array) -> jax.Array | None:
    """One key a step, or ``None`` where the stack drops nothing between its layers."""
    if rng_key is None or stack.dropout_rate == 0.0 or len(stack.layers) == 1:
        return None
    return jax.random.split(rng_key, projected.shape[0])
