"""Networks of forecasters as values of a config: from the steps of a context to those of a horizon."""

import dataclasses
from typing import Literal

from flax import nnx

from transformer_jax.bounds import Layers, Length, Width, check_at_least, check_bounds, require_field
from transformer_jax.errors import ConfigError
from transformer_jax.functional.deep_norm import DeepScales, deep_scales_of_pair
from transformer_jax.functional.dropout import check_rate
from transformer_jax.functional.dtypes import ComputeDtype
from transformer_jax.functional.recurrent import cell_class, check_recurrence_implementation
from transformer_jax.models.forecast_networks import (
    EncoderDecoderNetwork,
    LinearNetwork,
    PatchNetwork,
    RecurrentNetwork,
    WindowShape,
)
from transformer_jax.models.transformer_choices import TransformerFields, check_choices, layer_config_of
from transformer_jax.nn.expert_heads import AllHeads
from transformer_jax.nn.experts import Dense
from transformer_jax.nn.feed_forward import Activation
from transformer_jax.nn.position_encodings import Learned, Positions, Sinusoidal
from transformer_jax.nn.stacks import check_stack
from transformer_jax.nn.transformer_layers import TransformerLayerConfig

__all__ = [
    "EncoderDecoderForecast",
    "ForecastNetwork",
    "LinearForecast",
    "PatchForecast",
    "RecurrentForecast",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearForecast:
    """One linear map from the context to the horizon, of each channel.

    Attributes:
      trend_len: Steps of a moving average that takes the trend out, which then has a map of its own (DLinear, 25
        there); None = one map for all (with the forecaster's ``normalization="last"`` it is NLinear).
      dropout_rate: On the context.

    Raises:
      ConfigError: If a number is out of range.

    Example:
      >>> shape = WindowShape(context_len=8, horizon_len=4, num_channels=3, num_outputs=1)
      >>> LinearForecast(trend_len=3).build(shape, rngs=nnx.Rngs(0))(jnp.ones((2, 8, 3))).shape
      (2, 4, 3)

    Source: Zeng et al. 2023, https://arxiv.org/abs/2205.13504.
    """

    kind: Literal["linear"] = "linear"
    trend_len: Length | None = None
    dropout_rate: float = 0.0

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(2, trend_len=self.trend_len)
        check_rate("dropout_rate", self.dropout_rate)

    def check(self, context_len: int, horizon_len: int) -> None:
        """Nothing: any context and any horizon will do."""

    def build(self, shape: WindowShape, *, rngs: nnx.Rngs) -> LinearNetwork:
        """The network for windows of this shape."""
        return LinearNetwork(self, shape, rngs=rngs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurrentForecast:
    """A recurrent encoder over the context and a recurrent decoder over the horizon, with or without attention.

    Attributes:
      cell: The cell of all layers, one of :func:`~transformer_jax.functional.recurrent.cell_kinds`.
      hidden_dim: Width of a cell's state.
      num_layers: Layers of the encoder, and of the decoder.
      attention_dim: Width of additive attention of the decoder's states over those of the encoder; None = none.
      segment_len: Steps that a cell reads or writes at a time; divides the context.
      dropout_rate: Between layers and before the output.
      recurrence_implementation: See :func:`~transformer_jax.functional.recurrent.recurrence`.

    Raises:
      ConfigError: If a size, a rate or a name is out of range.

    Example:
      >>> RecurrentForecast(hidden_dim=8, segment_len=5).check(96, 24)
      Traceback (most recent call last):
      transformer_jax.errors.ConfigError: segment_len 5 must divide context_len 96

    Source: Wen et al. 2017, https://arxiv.org/abs/1711.11053; Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473.
    """

    kind: Literal["recurrent"] = "recurrent"
    cell: str = "lstm"
    hidden_dim: Width
    num_layers: Layers = 1
    attention_dim: Width | None = None
    segment_len: Length = 1
    dropout_rate: float = 0.0
    recurrence_implementation: str | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        for name in ("hidden_dim", "num_layers", "attention_dim", "segment_len"):
            check_at_least(1, **{name: getattr(self, name)})
        cell_class(self.cell)
        check_rate("dropout_rate", self.dropout_rate)
        check_recurrence_implementation("recurrence_implementation", self.recurrence_implementation)

    def check(self, context_len: int, horizon_len: int) -> None:
        """Raise ``ConfigError`` if a context is no whole number of segments; the last one of a horizon may be cut."""
        if context_len % self.segment_len:
            raise ConfigError(f"segment_len {self.segment_len} must divide context_len {context_len}")

    def build(self, shape: WindowShape, *, rngs: nnx.Rngs) -> RecurrentNetwork:
        """The network for windows of this shape."""
        return RecurrentNetwork(self, shape, rngs=rngs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _TransformerChoices(TransformerFields):
    """What the two Transformers share."""

    patch_len: Length = 16
    stride: Length = 8
    num_layers: Layers
    positions: Positions
    activation: Activation = "gelu"
    dtype: ComputeDtype = "float32"

    def check(self, context_len: int, horizon_len: int) -> None:
        """Raise ``ConfigError`` if a context holds no patch, or more than there are learned positions."""
        if context_len < self.patch_len:
            raise ConfigError(f"patch_len {self.patch_len} must be at most context_len {context_len}")
        self._check_positions(self.num_patches(context_len), f"context of {context_len} steps")

    def _check_positions(self, num_patches: int, of: str) -> None:
        positions = self.positions
        if isinstance(positions, Learned) and positions.max_len < num_patches:
            raise ConfigError(
                f"positions.max_len {positions.max_len} must be at least {num_patches}, the patches of a {of}"
            )

    def num_patches(self, context_len: int) -> int:
        """Patches of a context; the last one ends with it, and steps before the first whole patch are left out."""
        return (context_len - self.patch_len) // self.stride + 1

    def layer_config(self) -> TransformerLayerConfig:
        """Sizes and choices of every layer."""
        return self._layer_config(None)

    def _layer_config(self, deep: DeepScales | None) -> TransformerLayerConfig:
        return layer_config_of(self, deep=deep, self_attention="softmax", attention_bias=True)

    def _check(self, counts: tuple[str, ...]) -> None:
        check_choices(self, counts=counts, bidirectional=(True,))
        require_field(
            not self.has_batch_statistics,
            self,
            "normalization",
            "'layer', 'rms' or 'none': rows that fill up a batch of windows would count in its statistics",
        )
        require_field(
            isinstance(self.feed_forward, Dense),
            self,
            "feed_forward",
            "'dense': rows that fill up a batch of windows would be routed to experts",
        )
        require_field(
            isinstance(self.heads, AllHeads),
            self,
            "heads",
            "'all': rows that fill up a batch of windows would be routed to experts",
        )
        check_at_least(1, patch_len=self.patch_len, stride=self.stride)
        require_field(self.stride <= self.patch_len, self, "stride", f"at most patch_len, {self.patch_len}")
        check_stack(self.layer_config(), self.positions)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchForecast(_TransformerChoices):
    """A Transformer encoder over patches of the context; all its vectors together give the horizon (PatchTST).

    What is not named here is as in `TransformerFields`.

    Attributes:
      patch_len: Steps of a patch.
      stride: Steps between two patches.
      num_layers: Layers.
      positions: How the order of patches is learned.
      head_dropout_rate: On the vectors before the output.
      dtype: Of matrix products and activations.

    Raises:
      ConfigError: If a size, a rate or a name is out of range.

    Example:
      >>> config = PatchForecast(model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=16, num_layers=1)
      >>> config.num_patches(96)
      11

    Source: Nie et al. 2023, https://arxiv.org/abs/2211.14730.
    """

    kind: Literal["patches"] = "patches"
    positions: Positions = dataclasses.field(default_factory=lambda: Learned(max_len=256))
    head_dropout_rate: float = 0.0

    def __post_init__(self) -> None:
        self._check(("num_layers",))
        check_rate("head_dropout_rate", self.head_dropout_rate)

    def build(self, shape: WindowShape, *, rngs: nnx.Rngs) -> PatchNetwork:
        """The network for windows of this shape."""
        return PatchNetwork(self, shape, rngs=rngs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderDecoderForecast(_TransformerChoices):
    """A Transformer encoder over patches of the context, and a decoder with a query for each patch of the horizon.

    The decoder reads its positions and the last patch, not its own forecasts: all of the horizon is one pass. What is
    not named here is as in `PatchForecast`.

    Attributes:
      patch_len: Steps of a patch, of the context and of the horizon.
      stride: Steps between two patches of the context.
      num_layers: Layers of the encoder.
      num_decoder_layers: Layers of the decoder.
      positions: How the order is learned, on both sides.

    Raises:
      ConfigError: If a size, a rate or a name is out of range.

    Example:
      >>> config = EncoderDecoderForecast(
      ...   model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=16, num_layers=1, positions=Learned(max_len=11))
      >>> config.num_steps(96)
      6
      >>> config.check(96, 192)
      Traceback (most recent call last):
      transformer_jax.errors.ConfigError: positions.max_len 11 must be at least 12, the patches of a horizon of
      192 steps

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762; one pass over the horizon: Zhou et al. 2021,
    https://arxiv.org/abs/2012.07436, section 3.3.
    """

    kind: Literal["encoder_decoder"] = "encoder_decoder"
    positions: Positions = dataclasses.field(default_factory=Sinusoidal)
    num_decoder_layers: Layers = 1

    def layer_config(self) -> TransformerLayerConfig:
        """Sizes and choices of the encoder's layers."""
        return self._layer_config(deep_scales_of_pair(self.num_layers, self.num_decoder_layers)[0])

    def decoder_layer_config(self) -> TransformerLayerConfig:
        """Sizes and choices of the decoder's layers."""
        return self._layer_config(deep_scales_of_pair(self.num_layers, self.num_decoder_layers)[1])

    def __post_init__(self) -> None:
        self._check(("num_layers", "num_decoder_layers"))

    def check(self, context_len: int, horizon_len: int) -> None:
        """Raise ``ConfigError`` if a context holds no patch, or either holds more than there are learned positions."""
        super().check(context_len, horizon_len)
        self._check_positions(self.num_steps(horizon_len), f"horizon of {horizon_len} steps")

    def num_steps(self, horizon_len: int) -> int:
        """Patches of a horizon; the last one may be cut."""
        return -(-horizon_len // self.patch_len)

    def build(self, shape: WindowShape, *, rngs: nnx.Rngs) -> EncoderDecoderNetwork:
        """The network for windows of this shape."""
        return EncoderDecoderNetwork(self, shape, rngs=rngs)


ForecastNetwork = LinearForecast | RecurrentForecast | PatchForecast | EncoderDecoderForecast
"""Union of the networks' configs."""
