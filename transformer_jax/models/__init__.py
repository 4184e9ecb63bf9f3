"""Whole models: a config, a class and presets each."""

from typing import TYPE_CHECKING, Any

from transformer_jax.models.build import build_model, model_shapes
from transformer_jax.models.decoder_only import DecoderOnly, DecoderOnlyConfig, DecoderOnlyState
from transformer_jax.models.encoder_decoder import (
    EncoderDecoder,
    EncoderDecoderConfig,
    EncoderDecoderState,
)
from transformer_jax.models.presets import (
    gpt2,
    llama_like,
    mingpt,
    nanogpt,
    nanogpt_cpu,
    transformer_base,
    transformer_big,
)
from transformer_jax.models.recurrent_config import Bahdanau, LastState, Luong, RecurrentSeq2SeqConfig
from transformer_jax.models.recurrent_lm import RecurrentLM, RecurrentLMConfig, RecurrentLMState
from transformer_jax.models.recurrent_seq2seq import RecurrentSeq2Seq
from transformer_jax.models.sizes import Sizes

if TYPE_CHECKING:
    from transformer_jax.models.build import ModelConfig

__all__ = [
    "Bahdanau",
    "DecoderOnly",
    "DecoderOnlyConfig",
    "DecoderOnlyState",
    "EncoderDecoder",
    "EncoderDecoderConfig",
    "EncoderDecoderState",
    "LastState",
    "Luong",
    "ModelConfig",
    "RecurrentLM",
    "RecurrentLMConfig",
    "RecurrentLMState",
    "RecurrentSeq2Seq",
    "RecurrentSeq2SeqConfig",
    "Sizes",
    "build_model",
    "gpt2",
    "llama_like",
    "mingpt",
    "model_shapes",
    "nanogpt",
    "nanogpt_cpu",
    "transformer_base",
    "transformer_big",
]


def __getattr__(name: str) -> Any:
    # Not while this package is imported: a plug-in that is a member of the union may import it itself.
    if name == "ModelConfig":
        from transformer_jax.models import build

        return build.ModelConfig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
