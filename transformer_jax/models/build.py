"""From a model's config to the model."""

import dataclasses
import typing
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.bounds import bounds_of
from transformer_jax.errors import ConfigError
from transformer_jax.functional.seeds import seed_key
from transformer_jax.kinds import Kinds
from transformer_jax.memory import machine_memory
from transformer_jax.models.classifier import ClassifierConfig
from transformer_jax.models.decoder_only import DecoderOnlyConfig
from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.models.encoder_only import EncoderOnlyConfig
from transformer_jax.models.feature_to_text import FeatureToTextConfig
from transformer_jax.models.forecaster import ForecasterConfig
from transformer_jax.models.recurrent_config import RecurrentSeq2SeqConfig
from transformer_jax.models.recurrent_lm import RecurrentLMConfig
from transformer_jax.models.sizes import Sizes
from transformer_jax.models.tagger import TaggerConfig
from transformer_jax.models.word_vectors import WordVectorsConfig
from transformer_jax.plugins import config_fault

__all__ = [
    "PLUGIN_GROUP",
    "ModelConfig",
    "build_model",
    "layer_counts",
    "model_kinds",
    "model_shapes",
    "register_model",
]

_Config = TypeVar("_Config", bound=type)

PLUGIN_GROUP = "transformer_jax.models"
"""Entry points of this group add members to ``ModelConfig``."""

# One line a member; a member has a `kind` and a method `build(sizes, *, rngs)`.
BuiltInModelConfig = Union[  # noqa: UP007 (the trailing comma keeps one line a member)
    RecurrentSeq2SeqConfig,
    EncoderDecoderConfig,
    DecoderOnlyConfig,
    RecurrentLMConfig,
    ClassifierConfig,
    WordVectorsConfig,
    TaggerConfig,
    EncoderOnlyConfig,
    FeatureToTextConfig,
    ForecasterConfig,
]


def _fault(config: Any) -> str | None:
    has_build = callable(getattr(config, "build", None))
    return config_fault(config) or (None if has_build else "it has no method build(sizes, *, rngs)")


_KINDS: Kinds[Any] = Kinds("model", typing.get_args(BuiltInModelConfig), PLUGIN_GROUP, fault=_fault)

if TYPE_CHECKING:
    ModelConfig = BuiltInModelConfig
else:
    ModelConfig = Annotated[Any, _KINDS]


def model_kinds() -> tuple[str, ...]:
    """Kinds of all model configs.

    Example:
      >>> model_kinds()[:2]
      ('recurrent_seq2seq', 'encoder_decoder')
    """
    return _KINDS.names()


def register_model(config: _Config) -> _Config:
    """Make the config class of a model of the running program known by its ``kind``; works as a decorator.

    Installed packages do the same by an entry point of the group ``transformer_jax.models``, which commands see too.

    Args:
      config: A frozen dataclass with a ``kind`` and a method ``build(sizes, *, rngs)`` that returns the module.

    Returns:
      The class itself.

    Raises:
      ConfigError: If its ``kind`` is no text or taken, or it has no ``build``.
    """
    return _KINDS.register(config)


def build_model(config: "ModelConfig", sizes: Sizes, *, seed: int) -> nnx.Module:
    """Make the model of a config; the same seed gives the same parameters.

    Args:
      config: Any member of ``ModelConfig``.
      sizes: What the task gives: vocabularies and the like.
      seed: Seed of the initial parameters.

    Returns:
      The model.

    Raises:
      ConfigError: If ``config`` is no model config, or holds values that do not go together; if the task does not
        give a size that the model needs; if its parameters alone are more than the machine's memory; if the seed is
        not below 2**32.

    Example:
      >>> config = EncoderDecoderConfig(
      ...   model_dim=8, num_heads=2, num_kv_heads=1, feed_forward_dim=16,
      ...   num_encoder_layers=1, num_decoder_layers=1)
      >>> type(build_model(config, Sizes.of_pairs(5), seed=0)).__name__
      'EncoderDecoder'
    """
    _check_kind(config)
    _check_memory(config, sizes)
    return _built(config, sizes, seed)


def model_shapes(config: "ModelConfig", sizes: Sizes, *, num_arrays: int | None = None) -> nnx.Module:
    """The model of a config with shapes in the place of arrays: nothing is computed or allocated.

    To be filled by `training.weights_file.read_weights` or `training.stored_models.load_params`, which compare the
    shapes first.

    Args:
      config: Any member of ``ModelConfig``.
      sizes: What the task gives.
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
      >>> shapes = model_shapes(config, Sizes.of_pairs(5))
      >>> max(leaf.size for leaf in jax.tree.leaves(nnx.state(shapes)))
      7200000000
    """
    _check_kind(config)
    counts = layer_counts(config)
    layers = sum(counts.values())
    if num_arrays is not None and layers > num_arrays:
        raise ConfigError(
            f"the config has {layers:,} layers ({', '.join(counts)}), but only {num_arrays:,} "
            "arrays are stored for them: config and weights do not belong together"
        )
    return nnx.eval_shape(lambda: _built(config, sizes, 0))


def layer_counts(config: "ModelConfig") -> dict[str, int]:
    """The numbers of layers in a config or its encoder, by field: bounded integers whose names end with ``layers``.

    Example:
      >>> layer_counts(EncoderDecoderConfig(
      ...   model_dim=8, num_heads=2, num_kv_heads=1, feed_forward_dim=16,
      ...   num_encoder_layers=1, num_decoder_layers=2))
      {'num_encoder_layers': 1, 'num_decoder_layers': 2}
    """
    body = _body(config)
    return {name: getattr(body, name) for name in bounds_of(type(body)) if name.endswith("layers")}


def _body(config: Any) -> Any:
    """The part of a config that has the layers: its ``encoder`` or ``network`` where it is a head over one."""
    return getattr(config, name) if (name := _body_name(config)) else config


def _body_name(config: Any) -> str | None:
    names = ("encoder", "network")
    return next((name for name in names if dataclasses.is_dataclass(getattr(config, name, None))), None)


def _with_layers(config: Any, counts: dict[str, int]) -> Any:
    """The same model with other numbers of layers."""
    body = _body(config)
    changed = dataclasses.replace(body, **counts)
    name = _body_name(config)
    return dataclasses.replace(config, **{name: changed}) if name else changed


def _check_kind(config: Any) -> None:
    known = _KINDS.members()
    if type(config) not in known:
        names = [choice.__name__ for choice in known]
        raise ConfigError(f"model config must be one of {names}, got {type(config).__name__}")


def _built(config: Any, sizes: Sizes, seed: int) -> nnx.Module:
    # Constants of initialisers go to the device, whatever guards the steps to come.
    with jax.transfer_guard("allow"):
        return config.build(sizes, rngs=nnx.Rngs(seed_key(seed)))


def _check_memory(config: Any, sizes: Sizes) -> None:
    """Raise ``ConfigError`` if the parameters are more than the memory; count them only where they might be."""
    counts = layer_counts(config)
    body = _body(config)
    parts = [body, *(getattr(body, name) for name in ("attention", "positions") if hasattr(body, name))]
    numbers = {name: value for part in parts for name, value in vars(part).items() if value}
    widest = max((value for name, value in numbers.items() if name.endswith("_dim")), default=1)
    # Of the widest width; no model has more.
    rows = 32 * sum(counts.values()) * widest + 3 * sum(sizes.vocabularies())
    rows += 2 * (numbers.get("max_len", 0) + numbers.get("num_buckets", 0))
    rows += 2 * sizes.of_windows()
    memory = machine_memory()
    if memory is None or 4 * rows * widest <= memory:
        return
    if isinstance(jnp.zeros(()), jax.core.Tracer):  # only traced, as for a plan: nothing is allocated
        return

    def parameters(counts: dict[str, int]) -> int:
        shapes = model_shapes(_with_layers(config, counts), sizes)
        return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(shapes)))

    # Layers after the second are as large as the third (but for a recurrent bridge): the shapes of a thousand of them
    # are not needed.
    few = {name: min(2, count) for name, count in counts.items()}
    total = of_few = parameters(few)
    for name, count in counts.items():
        total += (count - few[name]) * (parameters({**few, name: few[name] + 1}) - of_few)
    if 4 * total > memory:
        raise ConfigError(
            f"the model has {total:,} parameters, {4 * total / 1e9:,.0f} GB in float32, and this machine "
            f"{memory / 1e9:,.0f} GB of memory: choose smaller sizes or fewer layers"
        )
