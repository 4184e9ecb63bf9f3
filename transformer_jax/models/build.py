"""From a model's config to the model."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.errors import ConfigError
from transformer_jax.functional.seeds import seed_key
from transformer_jax.memory import machine_memory
from transformer_jax.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from transformer_jax.models.recurrent_config import RecurrentSeq2SeqConfig
from transformer_jax.models.recurrent_seq2seq import RecurrentSeq2Seq

__all__ = ["ModelConfig", "build_model", "model_shapes"]

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
      ConfigError: If ``config`` is no model config, or holds values that do not go together; if its parameters alone
        are more than the machine's memory; if the seed is not below 2**32.

    Example:
      >>> config = EncoderDecoderConfig(
      ...   model_dim=8, num_heads=2, num_kv_heads=1, feed_forward_dim=16,
      ...   num_encoder_layers=1, num_decoder_layers=1)
      >>> type(build_model(config, source_vocab_size=5, target_vocab_size=5, seed=0)).__name__
      'EncoderDecoder'
    """
    _check_kind(config)
    _check_memory(config, source_vocab_size, target_vocab_size)
    return _built(config, source_vocab_size, target_vocab_size, seed)


def model_shapes(
    config: ModelConfig, *, source_vocab_size: int, target_vocab_size: int, num_arrays: int | None = None
) -> nnx.Module:
    """The model of a config with shapes in the place of arrays: nothing is computed or allocated.

    To be filled by `train.weights_file.read_weights` or `train.checkpoint.load_params`, which compare the shapes first.

    Args:
      config: Any member of ``ModelConfig``.
      source_vocab_size: Tokens of the source vocabulary.
      target_vocab_size: Tokens of the target vocabulary.
      num_arrays: How many arrays are stored for it. A layer has at least one: a config with more layers than arrays is
        refused at once, since even the shapes of many layers take long.

    Returns:
      The model; every variable holds a ``jax.ShapeDtypeStruct``.

    Raises:
      ConfigError: As `build_model`, and if there are more layers than ``num_arrays``.

    Example:
      >>> config = EncoderDecoderConfig(
      ...   model_dim=60_000, num_heads=2, num_kv_heads=1, feed_forward_dim=60_000,
      ...   num_encoder_layers=1, num_decoder_layers=1)
      >>> shapes = model_shapes(config, source_vocab_size=5, target_vocab_size=5)
      >>> max(leaf.size for leaf in jax.tree.leaves(nnx.state(shapes)))
      7200000000
    """
    _check_kind(config)
    layers = config.num_encoder_layers + config.num_decoder_layers
    if num_arrays is not None and layers > num_arrays:
        raise ConfigError(
            f"the config has {layers:,} layers (num_encoder_layers, num_decoder_layers), but only {num_arrays:,} "
            "arrays are stored for them: config and weights do not belong together"
        )
    return nnx.eval_shape(lambda: _built(config, source_vocab_size, target_vocab_size, 0))


def _check_kind(config: Any) -> None:
    if type(config) not in _MODELS:
        names = [choice.__name__ for choice in _MODELS]
        raise ConfigError(f"model config must be one of {names}, got {type(config).__name__}")


def _built(config: Any, source_vocab_size: int, target_vocab_size: int, seed: int) -> nnx.Module:
    # Constants of initialisers go to the device, whatever guards the steps to come.
    with jax.transfer_guard("allow"):
        return _MODELS[type(config)](
            config,
            source_vocab_size=source_vocab_size,
            target_vocab_size=target_vocab_size,
            rngs=nnx.Rngs(seed_key(seed)),
        )


def _check_memory(config: Any, *vocab_sizes: int) -> None:
    """Raise ``ConfigError`` if the parameters are more than the memory; count them only where they might be."""
    layers = config.num_encoder_layers + config.num_decoder_layers
    parts = [config, *(getattr(config, name) for name in ("attention", "positions") if hasattr(config, name))]
    sizes = {name: value for part in parts for name, value in vars(part).items() if value}
    widest = max(value for name, value in sizes.items() if name.endswith("_dim"))
    rows = 32 * layers * widest + 3 * sum(vocab_sizes)  # of the widest width; no model has more
    rows += 2 * (sizes.get("max_len", 0) + sizes.get("num_buckets", 0))
    memory = machine_memory()
    if memory is None or 4 * rows * widest <= memory:
        return
    if isinstance(jnp.zeros(()), jax.core.Tracer):  # only traced, as for a plan: nothing is allocated
        return

    def parameters(encoder: int, decoder: int) -> int:
        changed = dataclasses.replace(config, num_encoder_layers=encoder, num_decoder_layers=decoder)
        shapes = model_shapes(changed, source_vocab_size=vocab_sizes[0], target_vocab_size=vocab_sizes[1])
        return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(shapes)))

    # Layers after the second are as large as the third (but for a recurrent bridge): the shapes of a thousand of them
    # are not needed.
    encoder, decoder = min(2, config.num_encoder_layers), min(2, config.num_decoder_layers)
    total = few = parameters(encoder, decoder)
    total += (config.num_encoder_layers - encoder) * (parameters(encoder + 1, decoder) - few)
    total += (config.num_decoder_layers - decoder) * (parameters(encoder, decoder + 1) - few)
    if 4 * total > memory:
        raise ConfigError(
            f"the model has {total:,} parameters, {4 * total / 1e9:,.0f} GB in float32, and this machine "
            f"{memory / 1e9:,.0f} GB of memory: choose smaller sizes or fewer layers"
        )
