"""Encoders of feature frames: one vector for each few frames, by recurrent layers or a Transformer.

A module is called with `FeatureInputs`, or any pair of ``(features, lengths)``; the vectors are fewer than the frames
by the encoder's ``reduction``. Padding changes nothing, whatever it holds.
"""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.bounds import Layers, Width, check_at_least, check_bounds
from transformer_jax.errors import ShapeError, require
from transformer_jax.functional import AttentionMask, dropout, split_key
from transformer_jax.functional.dropout import check_rate
from transformer_jax.functional.dtypes import ComputeDtype, check_compute_dtype
from transformer_jax.functional.feature_masking import mask_features
from transformer_jax.functional.recurrent import cell_class, check_recurrence_implementation
from transformer_jax.models.transformer_choices import TransformerFields, check_choices, layer_config_of
from transformer_jax.nn.linear import Linear
from transformer_jax.nn.pooling import valid_steps
from transformer_jax.nn.position_encodings import Learned, Positions
from transformer_jax.nn.recurrent import RecurrentLayer
from transformer_jax.nn.stacks import EncoderStack, check_stack
from transformer_jax.typing import Array, Float, Int

__all__ = [
    "FeatureEncoder",
    "FeatureMasking",
    "RecurrentFeatureEncoder",
    "RecurrentFrames",
    "TransformerFeatureEncoder",
    "TransformerFrames",
    "join_frames",
]

_Encoded = tuple[Float[Array, "batch len features"], Int[Array, " batch"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureMasking:
    """Stretches of time and of channels that are hidden in training, see `mask_features`.

    Attributes:
      num_time_masks: Stretches of time of each row.
      max_time_len: Frames of the longest one.
      num_channel_masks: Stretches of channels.
      max_channels: Channels of the widest one.

    Raises:
      ConfigError: If a number is negative.

    Example:
      >>> FeatureMasking(max_time_len=20, num_channel_masks=0).num_time_masks
      2

    Source: Park et al. 2019, SpecAugment, https://arxiv.org/abs/1904.08779, section 2.
    """

    num_time_masks: Width = 2
    max_time_len: Width = 20
    num_channel_masks: Width = 2
    max_channels: Width = 4

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(0, **dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurrentFeatureEncoder:
    """Bidirectional recurrent layers, neighbouring frames joined on the way up.

    Attributes:
      kind: Tag of the union of feature encoders.
      cell: The cell of all layers, one of :func:`~transformer_jax.functional.recurrent.cell_kinds`.
      hidden_dim: Width of a cell's state, in each direction.
      num_layers: Layers.
      time_reduction: How many neighbouring frames become one before each layer, the first one first; 1 for the layers
        behind the last one named.
      dropout_rate: On the inputs of every layer but the first, and on the vectors.
      masking: What is hidden of the features in training; ``None`` = nothing.
      dtype: Of matrix products and activations; parameters, gates and carries are float32.
      recurrence_implementation: See :func:`~transformer_jax.functional.recurrent.recurrence`; ``None`` = the first that
        can.

    Raises:
      ConfigError: If a size, a rate or a name is out of range, or there are more reductions than layers.

    Example:
      >>> encoder = RecurrentFeatureEncoder(cell="lstm", hidden_dim=6, num_layers=3, time_reduction=(1, 2, 2))
      >>> encoder.output_dim, encoder.reduction, int(encoder.output_lengths(jnp.array(9)))
      (12, 4, 3)

    Source: Chan et al. 2016, https://arxiv.org/abs/1508.01211, section 3.1.
    """

    kind: Literal["recurrent"] = "recurrent"
    cell: str = "lstm"
    hidden_dim: Width
    num_layers: Layers
    time_reduction: tuple[Width, ...] = (2, 2)
    dropout_rate: float = 0.0
    masking: FeatureMasking | None = None
    dtype: ComputeDtype = "float32"
    recurrence_implementation: str | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(1, hidden_dim=self.hidden_dim, num_layers=self.num_layers)
        require(
            len(self.time_reduction) <= self.num_layers
            and all(1 <= one <= 64 for one in self.time_reduction),
            f"time_reduction must name at most {self.num_layers} factors, one a layer, of 1 to 64; got "
            f"{self.time_reduction}",
        )
        cell_class(self.cell)
        check_rate("dropout_rate", self.dropout_rate)
        check_compute_dtype("dtype", self.dtype)
        check_recurrence_implementation("recurrence_implementation", self.recurrence_implementation)

    @property
    def output_dim(self) -> int:
        """Width of a vector."""
        return 2 * self.hidden_dim

    @property
    def reduction(self) -> int:
        """Frames for each vector."""
        return math.prod(self.time_reduction)

    @property
    def source_limit(self) -> int | None:
        """None: sequences of any length."""
        return None

    def output_lengths(self, lengths: Any) -> Any:
        """Numbers of vectors for numbers of frames, an integer or array: :math:`\\lceil n / r \\rceil` a layer."""
        for factor in self.time_reduction:
            lengths = -(-lengths // factor)
        return lengths

    def build(self, feature_dim: int, *, rngs: nnx.Rngs) -> "RecurrentFrames":
        """The encoder of frames of this width."""
        return RecurrentFrames(self, feature_dim=feature_dim, rngs=rngs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerFeatureEncoder(TransformerFields):
    """A Transformer over groups of neighbouring frames.

    What is not named here is as in `TransformerFields`.

    Attributes:
      kind: Tag of the union of feature encoders.
      num_layers: Layers.
      positions: How the order of frames is learned.
      subsampling: Neighbouring frames that become one vector before the first layer.
      context: Groups of so many frames that a vector is made of: its own and those on either side, so an odd number.
      use_bias: Whether linear maps and layer normalisation have a bias.
      masking: What is hidden of the features in training; ``None`` = nothing.
      dtype: Of matrix products and activations; parameters, statistics of norms and softmax are float32.

    Raises:
      ConfigError: If a size is below one or above its bound, a rate is no probability, or a name is unknown.
      ShapeError: If the numbers of heads do not divide.

    Example:
      >>> from transformer_jax.nn.position_encodings import Rotary
      >>> encoder = TransformerFeatureEncoder(
      ...   model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=16, num_layers=1, positions=Rotary())
      >>> encoder.reduction, int(encoder.output_lengths(jnp.array(9)))
      (4, 3)

    Source: Dong et al. 2018, Speech-Transformer, https://doi.org/10.1109/ICASSP.2018.8462506.
    """

    kind: Literal["transformer"] = "transformer"
    num_layers: Layers
    positions: Positions
    subsampling: Width = 4
    context: Width = 1
    use_bias: bool = True
    masking: FeatureMasking | None = None
    dtype: ComputeDtype = "float32"

    def __post_init__(self) -> None:
        check_choices(self, counts=("num_layers", "subsampling", "context"), bidirectional=(True,))
        require(self.context % 2 == 1, f"context must be odd, got {self.context}")
        check_stack(self.layer_config(), self.positions)

    @property
    def output_dim(self) -> int:
        """Width of a vector."""
        return self.model_dim

    @property
    def reduction(self) -> int:
        """Frames for each vector."""
        return self.subsampling

    @property
    def source_limit(self) -> int | None:
        """The longest sequence in frames, limited by learned positions; None = no limit."""
        return self.positions.max_len * self.subsampling if isinstance(self.positions, Learned) else None

    def output_lengths(self, lengths: Any) -> Any:
        """Numbers of vectors for numbers of frames, integers or an array: :math:`\\lceil n / r \\rceil`."""
        return -(-lengths // self.subsampling)

    def layer_config(self) -> Any:
        """Sizes and choices of every layer."""
        return layer_config_of(
            self,
            self_attention="softmax",
            attention_bias=self.use_bias,
            feed_forward_bias=self.use_bias,
            norm_bias=self.use_bias,
        )

    def build(self, feature_dim: int, *, rngs: nnx.Rngs) -> "TransformerFrames":
        """The encoder of frames of this width."""
        return TransformerFrames(self, feature_dim=feature_dim, rngs=rngs)


FeatureEncoder = RecurrentFeatureEncoder | TransformerFeatureEncoder
"""Union of the configs of encoders of feature frames."""


def join_frames(
    features: Float[Array, "batch frames dim"], lengths: Int[Array, " batch"], factor: int
) -> _Encoded:
    """Each ``factor`` neighbouring frames as one of ``factor`` times the width.

    Args:
      features: Frames.
      lengths: Valid frames of each row; padding is read as zeros.
      factor: How many become one.

    Returns:
      ``[batch, ceil(frames / factor), factor * dim]`` and the new lengths, rounded up.

    Example:
      >>> joined, lengths = join_frames(jnp.arange(1.0, 6.0).reshape(1, 5, 1), jnp.array([3]), 2)
      >>> joined.tolist(), lengths.tolist()
      ([[[1.0, 2.0], [3.0, 0.0], [0.0, 0.0]]], [2])
    """
    rows, frames, dim = features.shape
    valid = valid_steps(lengths, frames)[..., None]
    features = jnp.where(valid, features, jnp.zeros_like(features))
    if factor == 1:
        return features, lengths
    joined_len = -(-frames // factor)
    features = jnp.pad(features, ((0, 0), (0, joined_len * factor - frames), (0, 0)))
    return features.reshape(rows, joined_len, factor * dim), -(-lengths // factor)


def _prepared(
    inputs: Any, feature_dim: int, masking: FeatureMasking | None, rng_key: jax.Array | None
) -> _Encoded:
    """Frames with zeros behind each row's length, stretches hidden in training."""
    features, lengths = (jnp.asarray(part) for part in inputs)
    if features.ndim != 3 or features.shape[-1] != feature_dim:
        raise ShapeError(f"features must be [batch, frames, {feature_dim}]; got {features.shape}")
    features, lengths = join_frames(features, lengths, 1)
    if masking is not None and rng_key is not None:
        features = mask_features(features, lengths, **dataclasses.asdict(masking), rng_key=rng_key)
    return features, lengths


class RecurrentFrames(nnx.Module):
    r"""Bidirectional recurrent layers over frames, neighbouring ones joined before a layer.

    .. math:: h^l_t = \mathrm{BiRNN}([h^{l-1}_{rt}; \ldots; h^{l-1}_{rt + r - 1}])_t

    Args:
      config: Sizes and choices.
      feature_dim: Numbers of a frame.
      rngs: Source of the initial parameters.

    Example:
      >>> encoder = RecurrentFeatureEncoder(cell="gru", hidden_dim=4, num_layers=2).build(3, rngs=nnx.Rngs(0))
      >>> vectors, lengths = encoder((jnp.ones((2, 9, 3)), jnp.array([9, 4])))
      >>> vectors.shape, lengths.tolist()
      ((2, 3, 8), [3, 1])

    Source: Chan et al. 2016, https://arxiv.org/abs/1508.01211, section 3.1.
    """

    def __init__(self, config: RecurrentFeatureEncoder, *, feature_dim: int, rngs: nnx.Rngs) -> None:
        self.config, self.feature_dim = config, feature_dim
        ones = (1,) * (config.num_layers - len(config.time_reduction))
        self.factors = (*config.time_reduction, *ones)
        widths = [feature_dim, *(config.output_dim for _ in self.factors[1:])]
        self.layers = nnx.List(
            [
                RecurrentLayer(
                    config.cell,
                    width * factor,
                    config.hidden_dim,
                    bidirectional=True,
                    dtype=config.dtype,
                    implementation=config.recurrence_implementation,
                    rngs=rngs,
                )
                for width, factor in zip(widths, self.factors, strict=True)
            ]
        )

    def __call__(self, inputs: Any, *, rng_key: jax.Array | None = None) -> _Encoded:
        """Vectors of the frames.

        Args:
          inputs: ``(features [batch, frames, dim], lengths [batch])``.
          rng_key: Draws dropout and what is hidden; ``None`` = evaluation.

        Returns:
          ``[batch, len, output_dim]``, zeros behind each row's length, and the lengths.

        Raises:
          ShapeError: If the frames have another width.
        """
        keys = split_key(rng_key, len(self.layers) + 1)
        vectors, lengths = _prepared(inputs, self.feature_dim, self.config.masking, keys[0])
        vectors = vectors.astype(self.config.dtype)
        for layer, factor, key in zip(self.layers, self.factors, keys[1:], strict=True):
            vectors, lengths = join_frames(vectors, lengths, factor)
            vectors, _ = layer(vectors, lengths=lengths)
            vectors = dropout(vectors, self.config.dropout_rate, key)
        return vectors, lengths


class TransformerFrames(nnx.Module):
    r"""Self-attention over groups of frames.

    .. math:: h = \mathrm{stack}(W [x_{rt}; \ldots; x_{rt + r - 1}] + b + P)

    Args:
      config: Sizes and choices.
      feature_dim: Numbers of a frame.
      rngs: Source of the initial parameters.

    Example:
      >>> from transformer_jax.nn.position_encodings import Rotary
      >>> config = TransformerFeatureEncoder(
      ...   model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=16, num_layers=1, positions=Rotary())
      >>> vectors, lengths = config.build(3, rngs=nnx.Rngs(0))((jnp.ones((2, 9, 3)), jnp.array([9, 4])))
      >>> vectors.shape, lengths.tolist()
      ((2, 3, 8), [3, 1])

    Source: Dong et al. 2018, Speech-Transformer, https://doi.org/10.1109/ICASSP.2018.8462506.
    """

    def __init__(self, config: TransformerFeatureEncoder, *, feature_dim: int, rngs: nnx.Rngs) -> None:
        self.config, self.feature_dim = config, feature_dim
        width = feature_dim * config.subsampling * config.context
        self.input = Linear(width, (config.model_dim,), use_bias=True, rngs=rngs)
        self.stack = EncoderStack(
            config.layer_config(),
            config.num_layers,
            positions=config.positions,
            final_norm=config.has_final_norm,
            rngs=rngs,
        )

    def __call__(self, inputs: Any, *, rng_key: jax.Array | None = None) -> _Encoded:
        """Vectors of the frames.

        Args:
          inputs: ``(features [batch, frames, dim], lengths [batch])``.
          rng_key: Draws dropout and what is hidden; ``None`` = evaluation.

        Returns:
          ``[batch, len, output_dim]``, zeros behind each row's length, and the lengths.

        Raises:
          ShapeError: If the frames have another width, or there are more groups of them than learned positions.
        """
        masking_key, stack_key = split_key(rng_key, 2)
        features, lengths = _prepared(inputs, self.feature_dim, self.config.masking, masking_key)
        groups, lengths = join_frames(features.astype(self.config.dtype), lengths, self.config.subsampling)
        groups = _with_context(groups, self.config.context)
        mask = AttentionMask.from_lengths(lengths, groups.shape[1])
        valid = valid_steps(lengths, groups.shape[1])
        vectors = self.stack(self.input(groups), mask=mask, valid=valid, rng_key=stack_key)
        return jnp.where(valid[..., None], vectors, jnp.zeros_like(vectors)), lengths


def _with_context(groups: Array, context: int) -> Array:
    """Each group beside its neighbours, zeros beyond the ends."""
    side = context // 2
    padded = jnp.pad(groups, ((0, 0), (side, side), (0, 0)))
    return jnp.concatenate([padded[:, place : place + groups.shape[1]] for place in range(context)], axis=-1)
