"""Attention: one function, several implementations behind one contract."""

from transformer_jax.functional.attention.attend import (
    attention,
    attention_with_weights,
    explain_attention,
    prepare_key,
)
from transformer_jax.functional.attention.choice import (
    IMPLEMENTATIONS,
    AttentionExplanation,
    check_attention_implementation,
)
from transformer_jax.functional.attention.contract import REFUSALS, AttentionDropout, PreparedKey
from transformer_jax.functional.attention.inspect import AttentionInspection, inspect_attention
from transformer_jax.functional.attention.local import local_attention

__all__ = [
    "IMPLEMENTATIONS",
    "REFUSALS",
    "AttentionDropout",
    "AttentionExplanation",
    "AttentionInspection",
    "PreparedKey",
    "attention",
    "attention_with_weights",
    "check_attention_implementation",
    "explain_attention",
    "inspect_attention",
    "local_attention",
    "prepare_key",
]
