"""Encoder and decoder layers."""

import dataclasses
from typing import Literal, get_args

import jax
from flax import nnx
from jax.typing import DTypeLike

from transformer_jax.errors import ConfigError, nearest_hint
from transformer_jax.functional import AttentionMask, PositionBias, split_key
from transformer_jax.functional.attention import check_attention_implementation
from transformer_jax.functional.dtypes import ComputeDtype, check_compute_dtype, in_compute_dtype
from transformer_jax.functional.remat import Remat
from transformer_jax.nn.cache import AttentionMemory, BeamCache, KeyValueCache, LinearAttentionCache
from transformer_jax.nn.expert_heads import (
    AllHeads,
    ExpertHeadAttention,
    ExpertHeads,
    Heads,
    check_expert_heads,
)
from transformer_jax.nn.experts import Dense, ExpertFeedForward, Experts, FeedForwardKind
from transformer_jax.nn.feed_forward import Activation, FeedForward
from transformer_jax.nn.linear_self_attention import (
    LinearSelfAttention,
    padding_of_causal_mask,
    segments_of_mask,
)
from transformer_jax.nn.multi_head import MultiHeadAttention
from transformer_jax.nn.norms import Normalization, TrainingTokens, remat_layer, training_tokens
from transformer_jax.nn.residual import NormPlacement, Residual, scale_initial_weights
from transformer_jax.nn.rolling_cache import RollingBeamCache, RollingCache, SelfAttentionCache, SlotRing
from transformer_jax.typing import Array, Bool, Float, Int

__all__ = [
    "DecoderLayer",
    "EncoderLayer",
    "NormPlacement",
    "Residual",
    "SelfAttention",
    "TransformerLayerConfig",
    "check_self_attention",
    "empty_cache",
]

SelfAttention = Literal["softmax", "linear"]
_Bias = PositionBias | Float[Array, "one_or_batch heads q_len kv_len"]
_Inputs = Float[Array, "batch q_len model"]
_Memory = Float[Array, "batch memory_len model"]
_Valid = Bool[Array, "batch q_len"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerLayerConfig:
    """Sizes and choices that the layers of a stack share.

    Attributes:
      model_dim: Width of the residual stream.
      num_heads: Query heads.
      num_kv_heads: Key and value heads.
      feed_forward_dim: Width inside the feed-forward network.
      dropout_rate: Dropout of each sublayer's output, before it is added.
      attention_dropout_rate: Dropout of attention weights.
      activation_dropout_rate: Dropout inside the feed-forward network.
      norm_placement: ``"post"``: ``norm(x + f(x))``, the paper's; ``"pre"``: ``x + f(norm(x))``; ``"sandwich"``:
        ``x + norm(f(norm(x)))``; ``"deep"``: ``norm(residual_scale * x + f(x))``.
      normalization: ``"layer"``, ``"rms"``, ``"batch"``, ``"power"`` or ``"none"``, see
        :func:`~transformer_jax.nn.make_norm`.
      norm_epsilon: Added to the variance.
      activation: Of the feed-forward network.
      attention_bias: Whether attention's projections have a bias.
      rotary_base: Rotary positions in self-attention; ``None`` = none.
      self_attention: ``"softmax"``; ``"linear"``: :class:`~transformer_jax.nn.LinearSelfAttention`, under a causal
        mask only, without grouped heads, dropout of weights, rotary positions and position biases.
      window_len: How many tokens a query of self-attention sees, the last ones and itself; ``None`` = all before it.
      num_sinks: How many of the first tokens of a text all queries see beside their window.
      feed_forward_bias: Whether the maps of the feed-forward network have a bias.
      norm_bias: Whether layer normalisation has a shift.
      dtype: Of matrix products and activations; parameters, statistics of norms and softmax are float32.
      attention_implementation: Of softmax attention over whole sequences, as in
        :func:`~transformer_jax.functional.attention`; ``None`` = the fastest that can.
      norm_momentum: Share that running statistics of norms over the batch keep of themselves at each update.
      feed_forward: One network for all tokens, or :class:`~transformer_jax.nn.Experts`.
      heads: Whether all heads of self-attention compute a token, or those of :class:`~transformer_jax.nn.ExpertHeads`
        that a router chooses.
      residual_scale: Of the stream with ``norm_placement="deep"``, see
        :func:`~transformer_jax.functional.deep_scales`.
      initial_scale: Factor of the initial matrices of values, of attention's outputs and of the feed-forward network.

    Raises:
      ConfigError: If ``dtype`` or ``attention_implementation`` is unknown.
    """

    model_dim: int
    num_heads: int
    num_kv_heads: int
    feed_forward_dim: int
    dropout_rate: float
    attention_dropout_rate: float
    activation_dropout_rate: float
    norm_placement: NormPlacement
    normalization: Normalization
    norm_epsilon: float
    activation: Activation
    attention_bias: bool
    rotary_base: float | None
    self_attention: SelfAttention
    window_len: int | None = None
    num_sinks: int = 0
    feed_forward_bias: bool = True
    norm_bias: bool = True
    dtype: ComputeDtype = "float32"
    attention_implementation: str | None = None
    norm_momentum: float = 0.9
    feed_forward: FeedForwardKind = dataclasses.field(default_factory=Dense)
    heads: Heads = dataclasses.field(default_factory=AllHeads)
    residual_scale: float = 1.0
    initial_scale: float = 1.0

    def __post_init__(self) -> None:
        check_compute_dtype("dtype", self.dtype)
        check_attention_implementation("attention_implementation", self.attention_implementation)


class EncoderLayer(nnx.Module):
    """Self-attention, then the feed-forward network.

    Args:
      config: Sizes and choices.
      rngs: Source of the initial parameters.

    Raises:
      ConfigError: As :func:`check_self_attention`.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.1.
    """

    def __init__(self, config: TransformerLayerConfig, *, rngs: nnx.Rngs) -> None:
        self.remat: Remat = "nothing"
        self.dtype = config.dtype
        self.initial_scale = config.initial_scale
        self.self_attention = _self_attention(config, rngs)
        self.self_attention_residual = Residual(config)
        self.feed_forward = _feed_forward(config, rngs)
        self.feed_forward_residual = Residual(config)
        scale_initial_weights(self, config.initial_scale)

    def __call__(
        self,
        x: _Inputs,
        *,
        mask: AttentionMask | None,
        bias: _Bias | None = None,
        positions: Int[Array, "one_or_batch q_len"] | None = None,
        valid: _Valid | None = None,
        rng_key: jax.Array | None = None,
    ) -> _Inputs:
        """Apply the layer.

        Args:
          x: ``[batch, q_len, model]``.
          mask: Who may attend to whom.
          bias: Added to the scores.
          positions: For rotary turns; ``None`` = arange.
          valid: Which tokens count in the statistics of norms over the batch; ``None`` = all.
          rng_key: Draws dropout; ``None`` = evaluation.

        Returns:
          ``[batch, q_len, model]``.

        Raises:
          ConfigError: In linear self-attention, if there is a bias, or the mask is not a causal one with padding.
        """
        keys, tokens = split_key(rng_key, 4), training_tokens(valid, rng_key)

        def run(own: EncoderLayer, x: _Inputs) -> _Inputs:
            x = in_compute_dtype(x, own.dtype)
            entered = own.self_attention_residual.enter(x, tokens)
            update = _attend(own.self_attention, entered, mask, bias, positions, tokens, keys[0])
            x = own.self_attention_residual.leave(x, update, keys[1], tokens)
            entered = own.feed_forward_residual.enter(x, tokens)
            update = _feed(own.feed_forward, entered, tokens, keys[2])
            return own.feed_forward_residual.leave(x, update, keys[3], tokens)

        return remat_layer(run, self, x, recomputed=self.remat, tokens=tokens)

    def extend(
        self,
        x: _Inputs,
        cache: SelfAttentionCache,
        *,
        bias: _Bias | None = None,
        num_valid: Int[Array, " batch"] | None = None,
    ) -> tuple[_Inputs, SelfAttentionCache]:
        """Apply the layer under a causal mask to the next tokens only, the others being in the cache.

        Args:
          x: The next tokens, ``[batch, q_len, model]``.
          cache: The tokens before, from :func:`empty_cache`.
          bias: Added to the scores.
          num_valid: How many of the tokens count for each row; ``None`` = all.

        Returns:
          ``[batch, q_len, model]`` and the longer cache.
        """
        x = in_compute_dtype(x, self.dtype)
        entered = self.self_attention_residual.enter(x)
        update, cache = _attend_cached(self.self_attention, entered, cache, bias, num_valid)
        x = self.self_attention_residual.leave(x, update, None)
        update = self.feed_forward(self.feed_forward_residual.enter(x))
        return self.feed_forward_residual.leave(x, update, None), cache


class DecoderLayer(nnx.Module):
    """Self-attention, attention over the encoder's memory, then the feed-forward network.

    Args:
      config: Sizes and choices.
      rngs: Source of the initial parameters.

    Raises:
      ConfigError: As :func:`check_self_attention`.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.1.
    """

    def __init__(self, config: TransformerLayerConfig, *, rngs: nnx.Rngs) -> None:
        self.remat: Remat = "nothing"
        self.dtype = config.dtype
        self.initial_scale = config.initial_scale
        self.self_attention = _self_attention(config, rngs)
        self.self_attention_residual = Residual(config)
        self.cross_attention = MultiHeadAttention(
            config.model_dim,
            config.num_heads,
            config.num_kv_heads,
            key_value_dim=config.model_dim,
            use_bias=config.attention_bias,
            dropout_rate=config.attention_dropout_rate,
            implementation=config.attention_implementation,
            rngs=rngs,
        )
        self.cross_attention_residual = Residual(config)
        self.feed_forward = _feed_forward(config, rngs)
        self.feed_forward_residual = Residual(config)
        scale_initial_weights(self, config.initial_scale)

    def project_memory(self, memory: _Memory) -> AttentionMemory:
        """The encoder's output as this layer's keys and values."""
        return self.cross_attention.project_memory(memory)

    def __call__(
        self,
        x: _Inputs,
        memory: AttentionMemory,
        *,
        mask: AttentionMask | None,
        memory_mask: AttentionMask | None,
        bias: _Bias | None = None,
        positions: Int[Array, "one_or_batch q_len"] | None = None,
        valid: _Valid | None = None,
        rng_key: jax.Array | None = None,
    ) -> _Inputs:
        """Apply the layer to a whole target.

        Args:
          x: ``[batch, q_len, model]``.
          memory: This layer's :meth:`project_memory`.
          mask: Who may attend to whom among the targets.
          memory_mask: Which memory slots may be attended to.
          bias: Added to the scores of self-attention.
          positions: For rotary turns; ``None`` = arange.
          valid: Which tokens count in the statistics of norms over the batch; ``None`` = all.
          rng_key: Draws dropout; ``None`` = evaluation.

        Returns:
          ``[batch, q_len, model]``.

        Raises:
          ConfigError: In linear self-attention, if there is a bias, or the mask is not a causal one with padding.
        """
        keys, tokens = split_key(rng_key, 6), training_tokens(valid, rng_key)

        def run(own: DecoderLayer, x: _Inputs) -> _Inputs:
            x = in_compute_dtype(x, own.dtype)
            entered = own.self_attention_residual.enter(x, tokens)
            update = _attend(own.self_attention, entered, mask, bias, positions, tokens, keys[0])
            x = own.self_attention_residual.leave(x, update, keys[1], tokens)
            return own._after_self_attention(x, memory, memory_mask, keys[2:], tokens)

        return remat_layer(run, self, x, recomputed=self.remat, tokens=tokens)

    def extend(
        self,
        x: _Inputs,
        memory: AttentionMemory,
        cache: SelfAttentionCache,
        *,
        memory_mask: AttentionMask | None,
        bias: _Bias | None = None,
        num_valid: Int[Array, " batch"] | None = None,
    ) -> tuple[_Inputs, SelfAttentionCache]:
        """Apply the layer to the next tokens only, the others being in the cache; arguments as in a call."""
        x = in_compute_dtype(x, self.dtype)
        entered = self.self_attention_residual.enter(x)
        update, cache = _attend_cached(self.self_attention, entered, cache, bias, num_valid)
        x = self.self_attention_residual.leave(x, update, None)
        return self._after_self_attention(x, memory, memory_mask, [None] * 4), cache

    def extend_with_weights(
        self,
        x: _Inputs,
        memory: AttentionMemory,
        cache: SelfAttentionCache,
        *,
        memory_mask: AttentionMask | None,
        bias: _Bias | None = None,
        num_valid: Int[Array, " batch"] | None = None,
    ) -> tuple[_Inputs, Float[Array, "batch heads q_len memory_len"], SelfAttentionCache]:
        """As :meth:`extend`, and between its results the cross-attention's weights."""
        x = in_compute_dtype(x, self.dtype)
        entered = self.self_attention_residual.enter(x)
        update, cache = _attend_cached(self.self_attention, entered, cache, bias, num_valid)
        x = self.self_attention_residual.leave(x, update, None)
        update, weights = self.cross_attention.attend_memory_with_weights(
            self.cross_attention_residual.enter(x), memory, mask=memory_mask
        )
        return self._after_cross_attention(x, update, [None] * 3), weights, cache

    def attention_weights(
        self,
        x: _Inputs,
        memory: AttentionMemory,
        *,
        mask: AttentionMask | None,
        memory_mask: AttentionMask | None,
        bias: _Bias | None = None,
        valid: _Valid | None = None,
        rng_key: jax.Array | None = None,
    ) -> tuple[_Inputs, Float[Array, "batch heads q_len memory_len"]]:
        """As a call, and the cross-attention's weights too, without dropout of these."""
        keys, tokens = split_key(rng_key, 6), training_tokens(valid, rng_key)
        x = in_compute_dtype(x, self.dtype)
        entered = self.self_attention_residual.enter(x, tokens)
        update = _attend(self.self_attention, entered, mask, bias, None, tokens, keys[0])
        x = self.self_attention_residual.leave(x, update, keys[1], tokens)
        entered = self.cross_attention_residual.enter(x, tokens)
        _, weights = self.cross_attention.attend_memory_with_weights(entered, memory, mask=memory_mask)
        update = self.cross_attention.attend_memory(entered, memory, mask=memory_mask, rng_key=keys[2])
        return self._after_cross_attention(x, update, keys[3:], tokens), weights

    def _after_self_attention(
        self,
        x: Array,
        memory: AttentionMemory,
        memory_mask: AttentionMask | None,
        keys: list[jax.Array | None],
        tokens: TrainingTokens | None = None,
    ) -> Array:
        update = self.cross_attention.attend_memory(
            self.cross_attention_residual.enter(x, tokens), memory, mask=memory_mask, rng_key=keys[0]
        )
        return self._after_cross_attention(x, update, keys[1:], tokens)

    def _after_cross_attention(
        self, x: Array, update: Array, keys: list[jax.Array | None], tokens: TrainingTokens | None = None
    ) -> Array:
        x = self.cross_attention_residual.leave(x, update, keys[0], tokens)
        update = _feed(self.feed_forward, self.feed_forward_residual.enter(x, tokens), tokens, keys[1])
        return self.feed_forward_residual.leave(x, update, keys[2], tokens)


def check_self_attention(config: TransformerLayerConfig) -> None:
    """Raise ``ConfigError`` unless the self-attention is known and can do what else the config asks of it.

    Linear self-attention has no weights to drop, no grouped heads, and no scores that rotary turns would make
    depend on the distance alone.
    """
    known = get_args(SelfAttention)
    name = config.self_attention
    if name not in known:
        raise ConfigError(f"self_attention must be one of {known}, got {name!r}{nearest_hint(name, known)}")
    if name == "softmax":
        return
    for option, wanted in (
        ("attention_dropout_rate", 0.0),
        ("num_kv_heads", config.num_heads),
        ("rotary_base", None),
        ("window_len", None),
        ("num_sinks", 0),
        ("heads", AllHeads()),
    ):
        if getattr(config, option) != wanted:
            raise ConfigError(
                f"{option} must be {wanted} with linear self-attention, got {getattr(config, option)}"
            )


def _self_attention(
    config: TransformerLayerConfig, rngs: nnx.Rngs
) -> MultiHeadAttention | LinearSelfAttention:
    check_self_attention(config)
    if isinstance(config.heads, ExpertHeads):
        check_expert_heads(config.heads, config.num_heads, config.num_kv_heads)
        return ExpertHeadAttention(
            config.model_dim,
            config.num_heads,
            config.heads,
            use_bias=config.attention_bias,
            dropout_rate=config.attention_dropout_rate,
            rotary_base=config.rotary_base,
            window_len=config.window_len,
            num_sinks=config.num_sinks,
            implementation=config.attention_implementation,
            rngs=rngs,
        )
    if config.self_attention == "linear":
        return LinearSelfAttention(
            config.model_dim, config.num_heads, use_bias=config.attention_bias, rngs=rngs
        )
    return MultiHeadAttention(
        config.model_dim,
        config.num_heads,
        config.num_kv_heads,
        use_bias=config.attention_bias,
        dropout_rate=config.attention_dropout_rate,
        rotary_base=config.rotary_base,
        window_len=config.window_len,
        num_sinks=config.num_sinks,
        implementation=config.attention_implementation,
        rngs=rngs,
    )


def empty_cache(
    attention: MultiHeadAttention | LinearSelfAttention,
    batch: int,
    capacity: int,
    dtype: DTypeLike,
    *,
    end: int | None = None,
) -> SelfAttentionCache:
    """Empty decoding state of a layer's self-attention: a cache of ``capacity`` tokens, or a state of constant size.

    Args:
      attention: The layer's.
      batch: Rows.
      capacity: Tokens a row; where a window with its sinks is shorter, the cache is a rolling one of that size.
      dtype: Of keys and values.
      end: How many tokens a rolling cache may be fed; ``None`` = any number.
    """
    if isinstance(attention, LinearSelfAttention):
        return LinearAttentionCache.of(attention.empty_state(batch, dtype))
    sizes = (attention.num_kv_heads, attention.head_dim, dtype)
    if attention.window_len is not None:
        ring = SlotRing(attention.window_len, attention.num_sinks)
        if ring.num_slots < capacity:
            return RollingCache.empty(batch, ring, *sizes, capacity=end)
    return KeyValueCache.empty(batch, capacity, *sizes)


def _attend(
    attention: MultiHeadAttention | LinearSelfAttention,
    x: Array,
    mask: AttentionMask | None,
    bias: _Bias | None,
    positions: Array | None,
    tokens: TrainingTokens | None,
    rng_key: jax.Array | None,
) -> Array:
    if isinstance(attention, LinearSelfAttention):
        _refuse_bias(bias)
        valid = padding_of_causal_mask(mask, x.shape[0], x.shape[1])
        return attention(x, valid=valid, segments=segments_of_mask(mask, x.shape[0], x.shape[1]))
    return attention(x, mask=mask, bias=bias, positions=positions, tokens=tokens, rng_key=rng_key)


def _attend_cached(
    attention: MultiHeadAttention | LinearSelfAttention,
    x: Array,
    cache: SelfAttentionCache,
    bias: _Bias | None,
    num_valid: Array | None,
) -> tuple[Array, SelfAttentionCache]:
    if isinstance(attention, LinearSelfAttention) and isinstance(cache, LinearAttentionCache):
        _refuse_bias(bias)
        update, state = attention.extend(x, cache.state, num_valid=num_valid)
        return update, cache.advance(state, x.shape[1], num_valid=num_valid)
    if isinstance(attention, MultiHeadAttention) and isinstance(cache, BeamCache | RollingBeamCache):
        return attention.attend_beams(x, cache, bias=bias)
    if isinstance(attention, MultiHeadAttention) and isinstance(cache, KeyValueCache | RollingCache):
        return attention.attend_cached(x, cache, bias=bias, num_valid=num_valid)
    raise ConfigError(f"cache must suit {type(attention).__name__}, got {type(cache).__name__}")


def _refuse_bias(bias: _Bias | None) -> None:
    if bias is not None:
        raise ConfigError(f"bias must be None with linear self-attention, got {type(bias).__name__}")


def _feed(
    network: FeedForward | ExpertFeedForward,
    x: Array,
    tokens: TrainingTokens | None,
    rng_key: jax.Array | None,
) -> Array:
    if isinstance(network, ExpertFeedForward):
        return network(x, tokens=tokens, rng_key=rng_key)
    return network(x, rng_key=rng_key)


def _feed_forward(config: TransformerLayerConfig, rngs: nnx.Rngs) -> FeedForward | ExpertFeedForward:
    if isinstance(config.feed_forward, Experts):
        return ExpertFeedForward(
            config.model_dim,
            config.feed_forward_dim,
            config.feed_forward,
            activation=config.activation,
            dropout_rate=config.activation_dropout_rate,
            use_bias=config.feed_forward_bias,
            rngs=rngs,
        )
    return FeedForward(
        config.model_dim,
        config.feed_forward_dim,
        activation=config.activation,
        dropout_rate=config.activation_dropout_rate,
        use_bias=config.feed_forward_bias,
        rngs=rngs,
    )
