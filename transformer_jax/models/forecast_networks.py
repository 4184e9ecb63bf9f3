"""Networks of forecasters: ``[rows, context, channels]`` to ``[rows, horizon, channels * outputs]``."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx

from transformer_jax.functional import dropout, split_key
from transformer_jax.nn.linear import Linear
from transformer_jax.nn.recurrent import RecurrentStack
from transformer_jax.nn.score_attention import AdditiveScore, ScoreAttention
from transformer_jax.nn.stacks import DecoderStack, EncoderStack
from transformer_jax.typing import Array, Float

__all__ = ["EncoderDecoderNetwork", "LinearNetwork", "PatchNetwork", "RecurrentNetwork", "WindowShape"]

_Context = Float[Array, "batch time channels"]
_Horizon = Float[Array, "batch horizon outputs"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowShape:
    """Shape of the windows that a network is built for.

    Attributes:
      context_len: Steps before the forecast.
      horizon_len: Steps of the forecast.
      num_channels: Values of a step that the network reads together.
      num_outputs: Numbers that forecast a value.

    Example:
      >>> WindowShape(context_len=96, horizon_len=24, num_channels=7, num_outputs=3).output_dim
      21
    """

    context_len: int
    horizon_len: int
    num_channels: int
    num_outputs: int

    @property
    def output_dim(self) -> int:
        """Numbers that forecast a step."""
        return self.num_channels * self.num_outputs


class LinearNetwork(nnx.Module):
    r"""A linear map from the steps of the context to those of the horizon, the same for all channels.

    .. math:: \hat y = W_r (x - \bar x) + W_t \bar x + b

    with the moving average :math:`\bar x` of the context; without one, :math:`\hat y = W x + b`.

    Args:
      config: ``LinearForecast``.
      shape: Of the windows.
      rngs: Source of the initial parameters.

    Example:
      >>> from transformer_jax.models.forecast_configs import LinearForecast
      >>> shape = WindowShape(context_len=8, horizon_len=4, num_channels=1, num_outputs=3)
      >>> config = LinearForecast(trend_len=3)
      >>> nnx.eval_shape(lambda: config.build(shape, rngs=nnx.Rngs(0))(jnp.ones((2, 8, 1)))).shape
      (2, 4, 3)

    Source: Zeng et al. 2023, https://arxiv.org/abs/2205.13504, section 4.
    """

    def __init__(self, config: Any, shape: WindowShape, *, rngs: nnx.Rngs) -> None:
        self.config, self.shape = config, shape
        width = (shape.horizon_len * shape.num_outputs,)
        self.output = Linear(shape.context_len, width, use_bias=True, rngs=rngs)
        # The mean of the context is what both maps begin with, as in the paper's programs.
        self.output.kernel[...] = jnp.full_like(self.output.kernel[...], 1.0 / shape.context_len)
        self.trend = (
            None if config.trend_len is None else Linear(shape.context_len, width, use_bias=False, rngs=rngs)
        )
        if self.trend is not None:
            self.trend.kernel[...] = jnp.full_like(self.trend.kernel[...], 1.0 / shape.context_len)

    def __call__(self, context: _Context, *, rng_key: jax.Array | None = None) -> _Horizon:
        """Forecasts of all steps."""
        context = dropout(context, self.config.dropout_rate, rng_key)
        by_channel = rearrange(context, "batch time channels -> batch channels time")
        if self.trend is None:
            found = self.output(by_channel)
        else:
            trend = moving_average(by_channel, self.config.trend_len)
            found = self.output(by_channel - trend) + self.trend(trend)
        return rearrange(
            found,
            "batch channels (horizon outputs) -> batch horizon (channels outputs)",
            outputs=self.shape.num_outputs,
        )


def moving_average(values: Float[Array, "*batch time"], length: int) -> Float[Array, "*batch time"]:
    r"""Centred mean over ``length`` steps; before the first and behind the last step stand copies of them.

    .. math:: \bar x_t = \frac{1}{k} \sum_{i=0}^{k-1} x_{t + i - \lfloor k/2 \rfloor}

    Args:
      values: ``[..., time]``.
      length: :math:`k`.

    Example:
      >>> moving_average(jnp.array([[0.0, 3.0, 6.0]]), 3).tolist()
      [[1.0, 3.0, 5.0]]
    """
    before = length // 2
    padding = [(0, 0)] * (values.ndim - 1) + [(before, length - 1 - before)]
    padded = jnp.pad(values, padding, mode="edge")
    num_steps = values.shape[-1]
    # A window sum from few shifts would be shorter, but differences of running sums lose digits of long contexts.
    shifted = [padded[..., shift : shift + num_steps] for shift in range(length)]
    return sum(shifted[1:], shifted[0]) / length


class RecurrentNetwork(nnx.Module):
    r"""A recurrent encoder, and a recurrent decoder that starts from its last carry and reads learned steps.

    .. math:: h_t = \mathrm{cell}(h_{t-1}, x_t), \quad s_i = \mathrm{cell}(s_{i-1}, e_i), \quad
       \hat y_i = W [s_i; c_i] + b

    with the context vector :math:`c_i` of additive attention of :math:`s_i` over all :math:`h_t`, where there is one.
    The decoder does not read its own forecasts: no error is handed on, and the horizon has quantiles of its own.

    Args:
      config: ``RecurrentForecast``.
      shape: Of the windows.
      rngs: Source of the initial parameters.

    Example:
      >>> from transformer_jax.models.forecast_configs import RecurrentForecast
      >>> shape = WindowShape(context_len=8, horizon_len=4, num_channels=1, num_outputs=3)
      >>> config = RecurrentForecast(hidden_dim=4, attention_dim=4, segment_len=2)
      >>> nnx.eval_shape(lambda: config.build(shape, rngs=nnx.Rngs(0))(jnp.ones((2, 8, 1)))).shape
      (2, 4, 3)

    Source: Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473, for the attention; Wen et al. 2017,
    https://arxiv.org/abs/1711.11053, for direct forecasts by a recurrent network.
    """

    def __init__(self, config: Any, shape: WindowShape, *, rngs: nnx.Rngs) -> None:
        self.config, self.shape = config, shape
        self.num_steps = -(-shape.horizon_len // config.segment_len)
        stack = {
            "bidirectional": False,
            "dropout_rate": config.dropout_rate,
            "residual": False,
            "implementation": config.recurrence_implementation,
        }
        width = config.hidden_dim
        self.encoder = RecurrentStack(
            config.cell, shape.num_channels * config.segment_len, width, config.num_layers, **stack, rngs=rngs
        )
        self.steps = nnx.Param(0.5 * jax.random.normal(rngs.params(), (self.num_steps, width), jnp.float32))
        self.decoder = RecurrentStack(config.cell, width, width, config.num_layers, **stack, rngs=rngs)
        self.attention = (
            None
            if config.attention_dim is None
            else ScoreAttention(AdditiveScore(attention_dim=config.attention_dim), width, width, rngs=rngs)
        )
        read = width if self.attention is None else 2 * width
        self.output = Linear(read, (config.segment_len * shape.output_dim,), use_bias=True, rngs=rngs)

    def __call__(self, context: _Context, *, rng_key: jax.Array | None = None) -> _Horizon:
        """Forecasts of all steps."""
        return self.with_weights(context, rng_key=rng_key)[0]

    def with_weights(
        self, context: _Context, *, rng_key: jax.Array | None = None
    ) -> tuple[_Horizon, Float[Array, "batch steps kv_len"] | None]:
        """Forecasts, and the attention of each decoder step over the segments of the context."""
        keys = split_key(rng_key, 3)
        segments = rearrange(
            context,
            "batch (time segment) channels -> batch time (segment channels)",
            segment=self.config.segment_len,
        )
        encoded, carries = self.encoder(segments, rng_key=keys[0])
        steps = jnp.broadcast_to(self.steps[...], (context.shape[0], *self.steps.shape)).astype(context.dtype)
        states, _ = self.decoder(steps, initial_carry=carries, rng_key=keys[1])
        weights = None
        if self.attention is not None:
            found, by_head = self.attention.with_weights(states, self.attention.prepare(encoded))
            weights = by_head[:, 0]
            states = jnp.concatenate([states, found], axis=-1)
        written = self.output(dropout(states, self.config.dropout_rate, keys[2]))
        return _in_steps(written, self.config.segment_len, self.shape), weights


class PatchNetwork(nnx.Module):
    r"""Patches of the context through layers of self-attention; all vectors together give the horizon.

    .. math:: \hat y = W\, \mathrm{flatten}(\mathrm{stack}(W_p\, \mathrm{patches}(x) + P)) + b

    Args:
      config: ``PatchForecast``.
      shape: Of the windows.
      rngs: Source of the initial parameters.

    Example:
      >>> from transformer_jax.models.forecast_configs import PatchForecast
      >>> shape = WindowShape(context_len=8, horizon_len=4, num_channels=1, num_outputs=3)
      >>> config = PatchForecast(
      ...   patch_len=4, stride=2, model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=8, num_layers=1)
      >>> nnx.eval_shape(lambda: config.build(shape, rngs=nnx.Rngs(0))(jnp.ones((2, 8, 1)))).shape
      (2, 4, 3)

    Source: Nie et al. 2023, https://arxiv.org/abs/2211.14730, section 3.1.
    """

    def __init__(self, config: Any, shape: WindowShape, *, rngs: nnx.Rngs) -> None:
        self.config, self.shape = config, shape
        self.embedding = _patch_embedding(config, shape, rngs)
        self.stack = _encoder(config, rngs)
        vectors = config.num_patches(shape.context_len) * config.model_dim
        self.output = Linear(vectors, (shape.horizon_len * shape.output_dim,), use_bias=True, rngs=rngs)

    def __call__(self, context: _Context, *, rng_key: jax.Array | None = None) -> _Horizon:
        """Forecasts of all steps."""
        keys = split_key(rng_key, 2)
        embedded = self.embedding(patches(context, self.config.patch_len, self.config.stride))
        encoded = self.stack(embedded, mask=None, rng_key=keys[0])
        flat = rearrange(encoded, "batch patches model -> batch (patches model)").astype(context.dtype)
        found = self.output(dropout(flat, self.config.head_dropout_rate, keys[1]))
        return rearrange(
            found, "batch (horizon features) -> batch horizon features", horizon=self.shape.horizon_len
        )


class EncoderDecoderNetwork(nnx.Module):
    r"""Patches of the context as the memory of a decoder whose positions are the patches of the horizon.

    .. math:: \hat y_i = W\, \mathrm{decoder}(e + P_i, \mathrm{encoder}(W_p\, \mathrm{patches}(x) + P)) + b

    with the embedding :math:`e` of the last patch.

    Args:
      config: ``EncoderDecoderForecast``.
      shape: Of the windows.
      rngs: Source of the initial parameters.

    Example:
      >>> from transformer_jax.models.forecast_configs import EncoderDecoderForecast
      >>> shape = WindowShape(context_len=8, horizon_len=4, num_channels=1, num_outputs=3)
      >>> config = EncoderDecoderForecast(
      ...   patch_len=4, stride=2, model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=8, num_layers=1)
      >>> nnx.eval_shape(lambda: config.build(shape, rngs=nnx.Rngs(0))(jnp.ones((2, 8, 1)))).shape
      (2, 4, 3)

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762; Zhou et al. 2021, https://arxiv.org/abs/2012.07436.
    """

    def __init__(self, config: Any, shape: WindowShape, *, rngs: nnx.Rngs) -> None:
        self.config, self.shape = config, shape
        self.num_steps = config.num_steps(shape.horizon_len)
        self.embedding = _patch_embedding(config, shape, rngs)
        self.encoder = _encoder(config, rngs)
        self.decoder = DecoderStack(
            config.decoder_layer_config(),
            config.num_decoder_layers,
            positions=config.positions,
            final_norm=config.has_final_norm,
            rngs=rngs,
        )
        self.output = Linear(
            config.model_dim, (config.patch_len * shape.output_dim,), use_bias=True, rngs=rngs
        )

    def __call__(self, context: _Context, *, rng_key: jax.Array | None = None) -> _Horizon:
        """Forecasts of all steps."""
        keys = split_key(rng_key, 2)
        embedded = self.embedding(patches(context, self.config.patch_len, self.config.stride))
        memory = self.encoder(embedded, mask=None, rng_key=keys[0])
        first = jnp.broadcast_to(embedded[:, -1:], (embedded.shape[0], self.num_steps, embedded.shape[2]))
        decoded = self.decoder(first, self.decoder.project_memory(memory), memory_mask=None, rng_key=keys[1])
        return _in_steps(self.output(decoded.astype(context.dtype)), self.config.patch_len, self.shape)


def patches(values: _Context, length: int, stride: int) -> Float[Array, "batch patches features"]:
    """Stretches of ``length`` steps, the last one at the end of the context and each ``stride`` steps before the next.

    Args:
      values: ``[batch, time, channels]``.
      length: Steps of a patch.
      stride: Steps between the beginnings of two.

    Returns:
      ``[batch, patches, length * channels]``.

    Example:
      >>> patches(jnp.arange(6.0)[None, :, None], 3, 2)[0].tolist()
      [[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]
    """
    count = (values.shape[1] - length) // stride + 1
    start = values.shape[1] - length - stride * (count - 1)
    places = np.add.outer(start + stride * np.arange(count), np.arange(length))
    return rearrange(values[:, places], "batch patches length channels -> batch patches (length channels)")


def _patch_embedding(config: Any, shape: WindowShape, rngs: nnx.Rngs) -> Linear:
    return Linear(config.patch_len * shape.num_channels, (config.model_dim,), use_bias=True, rngs=rngs)


def _encoder(config: Any, rngs: nnx.Rngs) -> EncoderStack:
    return EncoderStack(
        config.layer_config(),
        config.num_layers,
        positions=config.positions,
        final_norm=config.has_final_norm,
        rngs=rngs,
    )


def _in_steps(written: Float[Array, "batch steps features"], length: int, shape: WindowShape) -> _Horizon:
    """Segments of several steps one behind the other, cut to the horizon."""
    by_step = rearrange(
        written, "batch steps (length features) -> batch (steps length) features", length=length
    )
    return by_step[:, : shape.horizon_len]
