"""Small models of every family, and the counting of compilations, for the tests of whole runs."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
from flax import nnx

from transformer_jax.models.build import ModelConfig, build_model
from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.models.recurrent_config import (
    Bahdanau,
    LastState,
    Luong,
    RecurrentSeq2SeqConfig,
)
from transformer_jax.models.sizes import Sizes

VOCAB_SIZE = 10


def recurrent_config(
    cell: str,
    attention: LastState | Bahdanau | Luong,
    *,
    hidden_dim: int = 8,
    bidirectional: bool = False,
    dropout_rate: float = 0.0,
) -> RecurrentSeq2SeqConfig:
    """One layer each side."""
    return RecurrentSeq2SeqConfig(
        embedding_dim=hidden_dim,
        hidden_dim=hidden_dim,
        cell=cell,
        num_encoder_layers=1,
        num_decoder_layers=1,
        bidirectional=bidirectional,
        attention=attention,
        dropout_rate=dropout_rate,
        residual=False,
    )


def transformer_config(*, model_dim: int = 8, dropout_rate: float = 0.0) -> EncoderDecoderConfig:
    """One layer each side."""
    return EncoderDecoderConfig(
        model_dim=model_dim,
        num_heads=2,
        num_kv_heads=2,
        feed_forward_dim=2 * model_dim,
        num_encoder_layers=1,
        num_decoder_layers=1,
        dropout_rate=dropout_rate,
    )


def tiny_configs(dropout_rate: float = 0.0) -> dict[str, ModelConfig]:
    """One tiny model of each kind of decoder."""
    return {
        "gru": recurrent_config("gru", LastState(feed_each_step=True), dropout_rate=dropout_rate),
        "lstm+luong": recurrent_config(
            "lstm", Luong(score="general", input_feeding=True), bidirectional=True, dropout_rate=dropout_rate
        ),
        "transformer": transformer_config(dropout_rate=dropout_rate),
    }


def build(config: ModelConfig, seed: int = 0) -> nnx.Module:
    """The model, for the vocabulary of these tests."""
    return build_model(config, Sizes.of_pairs(VOCAB_SIZE), seed=seed)


class CompilationCounter:
    """How many programs XLA has compiled since the counter was started."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, event: str, duration: float, **unused: Any) -> None:
        """Listen to one event of JAX."""
        if event == "/jax/core/compile/backend_compile_duration":
            self.count += 1


@contextlib.contextmanager
def counted_compilations() -> Iterator[CompilationCounter]:
    """Count compilations while the context lasts."""
    counter = CompilationCounter()
    jax.monitoring.register_event_duration_secs_listener(counter)
    try:
        yield counter
    finally:
        jax.monitoring.unregister_event_duration_listener(counter)
