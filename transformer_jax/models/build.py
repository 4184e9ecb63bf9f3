"""From a model's config to the model."""

from flax import nnx

from transformer_jax.errors import ConfigError
from transformer_jax.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from transformer_jax.models.recurrent_config import RecurrentSeq2SeqConfig
from transformer_jax.models.recurrent_seq2seq import RecurrentSeq2Seq

__all__ = ["ModelConfig", "build_model"]

ModelConfig = RecurrentSeq2SeqConfig | EncoderDecoderConfig
_MODELS = {EncoderDecoderConfig: EncoderDecoder, RecurrentSeq2SeqConfig: RecurrentSeq2Seq}


def build_model(
    config: ModelConfig, *, source_vocab_size: int, target_vocab_size: int, seed: int
) -> nnx.Module:
    """Make the model of a config; the same seed gives the same parameters.

    Args:
      config: Any member of ``ModelConfig``.
      source_vocab_size: Tokens of the source vocabulary.
      target_vocab_size: Tokens of the target vocabulary.
      seed: Seed of the initial parameters.

    Returns:
      The model.

    Raises:
      ConfigError: If ``config`` is no model config, or holds values that do not go together.

    Example:
      >>> config = EncoderDecoderConfig(
      ...   model_dim=8, num_heads=2, num_kv_heads=1, feed_forward_dim=16,
      ...   num_encoder_layers=1, num_decoder_layers=1)
      >>> type(build_model(config, source_vocab_size=5, target_vocab_size=5, seed=0)).__name__
      'EncoderDecoder'
    """
    if type(config) not in _MODELS:
        names = [choice.__name__ for choice in _MODELS]
        raise ConfigError(f"model config must be one of {names}, got {type(config).__name__}")
    return _MODELS[type(config)](
        config,
        source_vocab_size=source_vocab_size,
        target_vocab_size=target_vocab_size,
        rngs=nnx.Rngs(seed),
    )
