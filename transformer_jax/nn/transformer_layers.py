"""Encoder and decoder layers, post-norm as in the paper or pre-norm."""

import dataclasses
from typing import Literal

import jax
from flax import nnx

from transformer_jax.errors import ConfigError
from transformer_jax.functional import AttentionMask, PositionBias, dropout, split_key
from transformer_jax.nn.cache import AttentionMemory, KeyValueCache
from transformer_jax.nn.feed_forward import Activation, FeedForward
from transformer_jax.nn.multi_head import MultiHeadAttention
from transformer_jax.nn.norms import Normalization, make_norm
from transformer_jax.typing import Array, Float, Int

__all__ = ["DecoderLayer", "EncoderLayer", "NormPlacement", "Residual", "TransformerLayerConfig"]

NormPlacement = Literal["post", "pre"]
_Bias = PositionBias | Float[Array, "one_or_batch heads q_len kv_len"]
_Inputs = Float[Array, "batch q_len model"]
_Memory = Float[Array, "batch memory_len model"]


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
      norm_placement: ``"post"``: ``norm(x + f(x))``, the paper's; ``"pre"``: ``x + f(norm(x))``.
      normalization: ``"layer"`` or ``"rms"``.
      norm_epsilon: Added to the variance.
      activation: Of the feed-forward network.
      attention_bias: Whether attention's projections have a bias.
      rotary_base: Rotary positions in self-attention; ``None`` = none.
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


class Residual(nnx.Module):
    r"""The connection around a sublayer: dropout, addition and the norm before or after.

    .. math:: \text{post: } \mathrm{norm}(x + \mathrm{drop}(f(x))), \qquad
       \text{pre: } x + \mathrm{drop}(f(\mathrm{norm}(x)))

    Args:
      config: The layer's sizes and choices.

    Raises:
      ConfigError: If ``norm_placement`` is unknown.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.1; pre-norm: Xiong et al. 2020,
    https://arxiv.org/abs/2002.04745.
    """

    def __init__(self, config: TransformerLayerConfig) -> None:
        if config.norm_placement not in ("post", "pre"):
            raise ConfigError(f"norm_placement must be 'post' or 'pre', got {config.norm_placement!r}")
        self.is_post = config.norm_placement == "post"
        self.dropout_rate = config.dropout_rate
        self.norm = make_norm(config.normalization, config.model_dim, epsilon=config.norm_epsilon)

    def enter(self, x: _Inputs) -> _Inputs:
        """What the sublayer is given."""
        return x if self.is_post else self.norm(x)

    def leave(self, x: _Inputs, update: _Inputs, rng_key: jax.Array | None) -> _Inputs:
        """The stream after the sublayer has answered ``update``."""
        total = x + dropout(update, self.dropout_rate, rng_key)
        return self.norm(total) if self.is_post else total


class EncoderLayer(nnx.Module):
    """Self-attention, then the feed-forward network.

    Args:
      config: Sizes and choices.
      rngs: Source of the initial parameters.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.1.
    """

    def __init__(self, config: TransformerLayerConfig, *, rngs: nnx.Rngs) -> None:
        self.self_attention = _self_attention(config, rngs)
        self.self_attention_residual = Residual(config)
        self.feed_forward = _feed_forward(config, rngs)
        self.feed_forward_residual = Residual(config)

    def __call__(
        self,
        x: _Inputs,
        *,
        mask: AttentionMask | None,
        bias: _Bias | None = None,
        positions: Int[Array, "one_or_batch q_len"] | None = None,
        rng_key: jax.Array | None = None,
    ) -> _Inputs:
        """Apply the layer.

        Args:
          x: ``[batch, q_len, model]``.
          mask: Who may attend to whom.
          bias: Added to the scores.
          positions: For rotary turns; ``None`` = arange.
          rng_key: Draws dropout; ``None`` = evaluation.

        Returns:
          ``[batch, q_len, model]``.
        """
        keys = split_key(rng_key, 4)
        update = self.self_attention(
            self.self_attention_residual.enter(x), mask=mask, bias=bias, positions=positions, rng_key=keys[0]
        )
        x = self.self_attention_residual.leave(x, update, keys[1])
        update = self.feed_forward(self.feed_forward_residual.enter(x), rng_key=keys[2])
        return self.feed_forward_residual.leave(x, update, keys[3])


class DecoderLayer(nnx.Module):
    """Self-attention, attention over the encoder's memory, then the feed-forward network.

    Args:
      config: Sizes and choices.
      rngs: Source of the initial parameters.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.1.
    """

    def __init__(self, config: TransformerLayerConfig, *, rngs: nnx.Rngs) -> None:
        self.self_attention = _self_attention(config, rngs)
        self.self_attention_residual = Residual(config)
        self.cross_attention = MultiHeadAttention(
            config.model_dim,
            config.num_heads,
            config.num_kv_heads,
            key_value_dim=config.model_dim,
            use_bias=config.attention_bias,
            dropout_rate=config.attention_dropout_rate,
            rngs=rngs,
        )
        self.cross_attention_residual = Residual(config)
        self.feed_forward = _feed_forward(config, rngs)
        self.feed_forward_residual = Residual(config)

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
          rng_key: Draws dropout; ``None`` = evaluation.

        Returns:
          ``[batch, q_len, model]``.
        """
        keys = split_key(rng_key, 6)
        update = self.self_attention(
            self.self_attention_residual.enter(x), mask=mask, bias=bias, positions=positions, rng_key=keys[0]
        )
        x = self.self_attention_residual.leave(x, update, keys[1])
        return self._after_self_attention(x, memory, memory_mask, keys[2:])

    def extend(
        self,
        x: _Inputs,
        memory: AttentionMemory,
        cache: KeyValueCache,
        *,
        memory_mask: AttentionMask | None,
        bias: _Bias | None = None,
        num_valid: Int[Array, " batch"] | None = None,
    ) -> tuple[_Inputs, KeyValueCache]:
        """Apply the layer to the next tokens only, the others being in the cache; arguments as in a call."""
        update, cache = self.self_attention.attend_cached(
            self.self_attention_residual.enter(x), cache, bias=bias, num_valid=num_valid
        )
        x = self.self_attention_residual.leave(x, update, None)
        return self._after_self_attention(x, memory, memory_mask, [None] * 4), cache

    def attention_weights(
        self,
        x: _Inputs,
        memory: AttentionMemory,
        *,
        mask: AttentionMask | None,
        memory_mask: AttentionMask | None,
        bias: _Bias | None = None,
    ) -> tuple[_Inputs, Float[Array, "batch heads q_len memory_len"]]:
        """As a call without dropout, and the cross-attention's weights too."""
        update = self.self_attention(self.self_attention_residual.enter(x), mask=mask, bias=bias)
        x = self.self_attention_residual.leave(x, update, None)
        _, weights = self.cross_attention.attend_memory_with_weights(
            self.cross_attention_residual.enter(x), memory, mask=memory_mask
        )
        return self._after_self_attention(x, memory, memory_mask, [None] * 4), weights

    def _after_self_attention(
        self,
        x: Array,
        memory: AttentionMemory,
        memory_mask: AttentionMask | None,
        keys: list[jax.Array | None],
    ) -> Array:
        update = self.cross_attention.attend_memory(
            self.cross_attention_residual.enter(x), memory, mask=memory_mask, rng_key=keys[0]
        )
        x = self.cross_attention_residual.leave(x, update, keys[1])
        update = self.feed_forward(self.feed_forward_residual.enter(x), rng_key=keys[2])
        return self.feed_forward_residual.leave(x, update, keys[3])


def _self_attention(config: TransformerLayerConfig, rngs: nnx.Rngs) -> MultiHeadAttention:
    return MultiHeadAttention(
        config.model_dim,
        config.num_heads,
        config.num_kv_heads,
        use_bias=config.attention_bias,
        dropout_rate=config.attention_dropout_rate,
        rotary_base=config.rotary_base,
        rngs=rngs,
    )


def _feed_forward(config: TransformerLayerConfig, rngs: nnx.Rngs) -> FeedForward:
    return FeedForward(
        config.model_dim,
        config.feed_forward_dim,
        activation=config.activation,
        dropout_rate=config.activation_dropout_rate,
        rngs=rngs,
    )
