"""Attention: one function, several implementations behind one contract."""

from transformer_jax.functional.attention.api import (
    DEFAULT_ORDER,
    IMPLEMENTATIONS,
    attention,
    attention_with_weights,
    prepare_key,
)
from transformer_jax.functional.attention.contract import REFUSALS, AttentionDropout, PreparedKey

__all__ = [
    "DEFAULT_ORDER",
    "IMPLEMENTATIONS",
    "REFUSALS",
    "AttentionDropout",
    "PreparedKey",
    "attention",
    "attention_with_weights",
    "prepare_key",
]
