"""What all Transformers share: checks of their configs, the config of a layer, and weights drawn from a normal."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import jax
from flax import nnx

from transformer_jax.bounds import Width, check_at_least, check_bounds
from transformer_jax.errors import ConfigError, check_choice
from transformer_jax.functional.deep_norm import DeepScales, deep_scales
from transformer_jax.functional.dropout import check_rate
from transformer_jax.functional.dtypes import check_compute_dtype
from transformer_jax.nn.expert_heads import (
    AllHeads,
    ExpertHeadAttention,
    ExpertHeads,
    Heads,
    check_expert_heads,
)
from transformer_jax.nn.experts import Dense, Experts, FeedForwardKind
from transformer_jax.nn.feed_forward import Activation
from transformer_jax.nn.multi_head import check_heads
from transformer_jax.nn.norms import BATCH_NORMS, Normalization
from transformer_jax.nn.position_encodings import RelativePositions, Rotary
from transformer_jax.nn.residual import FINAL_NORMS, NormPlacement, scale_initial_weights
from transformer_jax.nn.transformer_layers import TransformerLayerConfig

_CHOICES = {
    "norm_placement": get_args(NormPlacement),
    "normalization": get_args(Normalization),
    "activation": get_args(Activation),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerFields:
    """What the configs of all Transformers share; some have other defaults.

    Attributes:
      kind: Tag of the union of configs that it belongs to.
      model_dim: Width of the residual stream.
      num_heads: Query heads; divides ``model_dim``.
      num_kv_heads: Key and value heads; divides ``num_heads``.
      feed_forward_dim: Width inside the feed-forward networks; of each of the two maps of a gated one.
      dropout_rate: Dropout after the embeddings, or the first linear map, and of each sublayer's output.
      attention_dropout_rate: Dropout of attention weights.
      activation_dropout_rate: Dropout inside the feed-forward networks.
      norm_placement: ``"pre"`` (which adds a last norm to each stack); ``"post"`` as in Vaswani et al. 2017;
        ``"sandwich"``, norms before and after each sublayer (and a last one); ``"deep"``, DeepNorm, whose scales follow
        from the numbers of layers.
      normalization: ``"layer"``, ``"rms"``; ``"batch"``, which trains with statistics of the real tokens of the batch
        and evaluates with running ones, and ``"power"``, the same without a mean; ``"none"``.
      norm_epsilon: Added to the variance.
      norm_momentum: Share that running statistics keep of themselves at each update, with ``"batch"`` and ``"power"``.
      feed_forward: ``Dense()``, one network for all tokens, or ``Experts(...)``, of which a router chooses a few for
        each token.
      heads: Of self-attention: ``AllHeads()``, or ``ExpertHeads(...)``, of which a router chooses ``num_heads`` for
        each token; these share keys and values, so that ``num_kv_heads`` is 1.
      activation: Of the feed-forward networks; ``"swiglu"`` and ``"geglu"`` are gated.
      attention_implementation: Of softmax attention over whole sequences, as in
        :func:`~transformer_jax.functional.attention`; ``None`` = the fastest that can.
    """

    kind: str
    model_dim: Width
    num_heads: Width
    num_kv_heads: Width
    feed_forward_dim: Width
    dropout_rate: float = 0.1
    attention_dropout_rate: float = 0.0
    activation_dropout_rate: float = 0.0
    norm_placement: NormPlacement = "pre"
    normalization: Normalization = "layer"
    norm_epsilon: float = 1e-5
    activation: Activation = "relu"
    attention_implementation: str | None = None
    norm_momentum: float = 0.9
    feed_forward: FeedForwardKind = dataclasses.field(default_factory=Dense)
    heads: Heads = dataclasses.field(default_factory=AllHeads)

    @property
    def has_final_norm(self) -> bool:
        """Whether a stack's output is normalised once more."""
        return self.norm_placement in FINAL_NORMS

    @property
    def counts_tokens(self) -> bool:
        """Whether training must know which tokens are real: norms or routers take statistics of them."""
        return (
            self.has_batch_statistics
            or isinstance(self.feed_forward, Experts)
            or isinstance(self.heads, ExpertHeads)
        )

    @property
    def has_batch_statistics(self) -> bool:
        """Whether norms use statistics of the batch in training."""
        return self.normalization in BATCH_NORMS


def check_choices(
    config: Any,
    *,
    counts: Iterable[str],
    bidirectional: Sequence[bool],
    further: Mapping[str, tuple[str, ...]] | None = None,
) -> None:
    """Raise unless a Transformer's config holds values that are possible, each by itself.

    What its layers and positions say of each other, `check_stack` checks.

    Args:
      config: The config.
      counts: Names of its fields that are at least 1, beside widths and heads.
      bidirectional: For each kind of stack whether a token sees those after it.
      further: Known values of its choices beside norms and activation.

    Raises:
      ConfigError: Naming the field.
      ShapeError: If the numbers of heads do not divide.
    """
    if not isinstance(config.feed_forward, Dense | Experts):
        raise ConfigError(
            f"{type(config).__name__}.feed_forward must be Dense() or Experts(...), got {config.feed_forward!r}"
        )
    if not isinstance(config.heads, AllHeads | ExpertHeads):
        raise ConfigError(
            f"{type(config).__name__}.heads must be AllHeads() or ExpertHeads(...), got {config.heads!r}"
        )
    if isinstance(config.heads, ExpertHeads):
        check_expert_heads(config.heads, config.num_heads, config.num_kv_heads)
    check_bounds(config)
    sizes = ("model_dim", "num_heads", "num_kv_heads", "feed_forward_dim", *counts)
    check_at_least(1, **{name: getattr(config, name) for name in sizes})
    for name in ("dropout_rate", "attention_dropout_rate", "activation_dropout_rate", "norm_momentum"):
        check_rate(name, getattr(config, name))
    for name in ("norm_epsilon", "weight_deviation"):
        value = getattr(config, name, None)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{name} must be above 0, got {value}")
    for name, known in {**_CHOICES, **(further or {})}.items():
        check_choice(name, getattr(config, name), known)
    if isinstance(config.positions, RelativePositions):
        for both_ways in bidirectional:
            config.positions.check(bidirectional=both_ways)
    check_heads(config.model_dim, config.num_heads, config.num_kv_heads)
    check_compute_dtype("dtype", config.dtype)


def layer_config_of(config: Any, *, deep: DeepScales | None = None, **own: Any) -> TransformerLayerConfig:
    """Config of a Transformer's layers: the fields of its own config that have the same names.

    Args:
      config: The Transformer's.
      deep: Scales with ``norm_placement="deep"``; ``None`` = those of one stack of ``config.num_layers``.
      **own: Fields that it does not say, or says otherwise.
    """
    if config.norm_placement == "deep":
        deep = deep_scales(config.num_layers) if deep is None else deep
        own |= {"residual_scale": deep.residual, "initial_scale": deep.initial}
    names = [field.name for field in dataclasses.fields(TransformerLayerConfig)]
    found = {name: getattr(config, name) for name in names if hasattr(config, name)}
    rotary_base = config.positions.base if isinstance(config.positions, Rotary) else None
    return TransformerLayerConfig(**found | {"rotary_base": rotary_base} | own)


def draw_normal_weights(
    tables: Iterable[Any], layers: Sequence[Any], *, deviation: float, into_stream: float, rngs: nnx.Rngs
) -> None:
    """Overwrite embeddings and matrices by normal draws; biases, norms and positions stay as they are.

    Args:
      tables: Embeddings.
      layers: With a ``self_attention`` and a ``feed_forward``; DeepNorm's factor of initial matrices is kept.
      deviation: Standard deviation.
      into_stream: That of the matrices which write to the residual stream.
      rngs: Source of the draws.
    """
    parameters = [(table.embedding, deviation) for table in tables]
    for layer in layers:
        attention, network = layer.self_attention, layer.feed_forward
        maps = (
            (attention.query, attention.key_value)
            if isinstance(attention, ExpertHeadAttention)
            else (attention.query_key_value,)
        )
        parameters += [(one.kernel, deviation) for one in maps]
        parameters += [
            (attention.output.kernel, into_stream),
            (network.inner.kernel, deviation),
            (network.outer.kernel, into_stream),
        ]
        if getattr(network, "shared", None) is not None:
            parameters += [
                (network.shared.inner.kernel, deviation),
                (network.shared.outer.kernel, into_stream),
            ]
    for parameter, width in parameters:
        parameter[...] = width * jax.random.normal(rngs.params(), parameter.shape, parameter.dtype)
    for layer in layers:
        scale_initial_weights(layer, layer.initial_scale)
