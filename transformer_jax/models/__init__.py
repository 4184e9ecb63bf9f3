"""Whole models: a config, a class and presets each."""

from transformer_jax.models.build import ModelConfig, build_model
from transformer_jax.models.encoder_decoder import (
    EncoderDecoder,
    EncoderDecoderConfig,
    EncoderDecoderState,
)
from transformer_jax.models.presets import transformer_base, transformer_big
from transformer_jax.models.recurrent_config import Bahdanau, LastState, Luong, RecurrentSeq2SeqConfig
from transformer_jax.models.recurrent_seq2seq import RecurrentSeq2Seq

__all__ = [
    "Bahdanau",
    "EncoderDecoder",
    "EncoderDecoderConfig",
    "EncoderDecoderState",
    "LastState",
    "Luong",
    "ModelConfig",
    "RecurrentSeq2Seq",
    "RecurrentSeq2SeqConfig",
    "build_model",
    "transformer_base",
    "transformer_big",
]
