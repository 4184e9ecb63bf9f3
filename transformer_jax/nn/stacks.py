"""Stacks of encoder and decoder layers with their positions, embedding dropout and last norm."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from transformer_jax.errors import ConfigError
from transformer_jax.functional import AttentionMask, PositionBias, dropout, split_key
from transformer_jax.nn.cache import AttentionMemory, KeyValueCache, LinearAttentionCache
from transformer_jax.nn.norms import TrainingTokens, normalized, training_tokens
from transformer_jax.nn.position_encodings import (
    AlibiPositions,
    Learned,
    PositionalEncoding,
    Positions,
    RelativePositions,
    Rotary,
)
from transformer_jax.nn.residual import layer_norm_of
from transformer_jax.nn.rolling_cache import RollingCache, SelfAttentionCache
from transformer_jax.nn.transformer_layers import (
    DecoderLayer,
    EncoderLayer,
    TransformerLayerConfig,
    check_self_attention,
    empty_cache,
)
from transformer_jax.typing import Array, Bool, Float, Int

__all__ = ["DecoderStack", "EncoderStack", "check_stack", "enter_next", "enter_stack", "make_outer_norm"]


class LayerStack(nnx.Module):
    """Positions, dropout, then layers of one kind, and an optional last norm: what all stacks share.

    Args:
      config: Sizes and choices of every layer.
      num_layers: How many layers.
      positions: How the order is learned; ``config.rotary_base`` belongs to rotary positions.
      final_norm: Whether the output is normalised once more.
      rngs: Source of the initial parameters.

    Attributes:
      layer_class: Class of the layers.
      is_bidirectional: Whether a token sees those after it.

    Raises:
      ConfigError: As :func:`check_stack`.
    """

    layer_class: ClassVar[Any]
    is_bidirectional: ClassVar[bool] = False

    def __init__(
        self,
        config: TransformerLayerConfig,
        num_layers: int,
        *,
        positions: Positions,
        final_norm: bool,
        rngs: nnx.Rngs,
    ) -> None:
        check_stack(config, positions)
        self.dropout_rate = config.dropout_rate
        self.positions = PositionalEncoding(
            positions, config.model_dim, config.num_heads, bidirectional=self.is_bidirectional, rngs=rngs
        )
        self.layers = nnx.List([self.layer_class(config, rngs=rngs) for _ in range(num_layers)])
        self.final_norm = make_outer_norm(config, final_norm)

    def _through(
        self,
        x: Array,
        mask: AttentionMask | None,
        positions: Array | None,
        valid: Array | None,
        rng_key: jax.Array | None,
    ) -> Array:
        """Whole sequences through layers of self-attention."""
        x, positions, bias = enter_stack(self.positions, x, positions)
        keys, tokens = split_key(rng_key, len(self.layers) + 1), training_tokens(valid, rng_key)
        x = dropout(self._normalized(x, tokens), self.dropout_rate, keys[0])
        for layer, key in zip(self.layers, keys[1:], strict=True):
            x = layer(x, mask=mask, bias=bias, positions=positions, valid=valid, rng_key=key)
        return normalized(self.final_norm, x, tokens)

    def _normalized(self, x: Array, tokens: TrainingTokens | None) -> Array:
        """Embeddings with their positions as they enter dropout and the first layer."""
        return x


class CausalLayers(LayerStack):
    """A stack that is decoded token by token, with a cache for each layer."""

    def empty_caches(self, batch: int, capacity: int, dtype: DTypeLike) -> tuple[SelfAttentionCache, ...]:
        """A cache for each layer, with room for ``capacity`` tokens a row.

        Linear attention needs none; attention within a window needs no more than the window, and takes tokens
        beyond ``capacity`` too, up to the learned positions.

        Raises:
          ShapeError: If ``capacity`` is more than the learned positions.
        """
        self.positions.check_len(capacity)
        learned = self.positions.config
        end = learned.max_len if isinstance(learned, Learned) else None
        return tuple(
            empty_cache(layer.self_attention, batch, capacity, dtype, end=end) for layer in self.layers
        )


class EncoderStack(LayerStack):
    """Positions, dropout, then encoder layers; an optional last norm (pre-norm needs one).

    Args:
      config: Sizes and choices of every layer.
      num_layers: How many layers.
      positions: How the order is learned; ``config.rotary_base`` belongs to rotary positions.
      final_norm: Whether the output is normalised once more.
      rngs: Source of the initial parameters.
      embedding_norm: Whether embeddings with their positions are normalised before the first layer (BERT).

    Raises:
      ConfigError: As :func:`check_stack`.
    """

    layer_class = EncoderLayer
    is_bidirectional = True

    def __init__(
        self,
        config: TransformerLayerConfig,
        num_layers: int,
        *,
        positions: Positions,
        final_norm: bool,
        rngs: nnx.Rngs,
        embedding_norm: bool = False,
    ) -> None:
        super().__init__(config, num_layers, positions=positions, final_norm=final_norm, rngs=rngs)
        self.embedding_norm = make_outer_norm(config, embedding_norm)

    def _normalized(self, x: Array, tokens: TrainingTokens | None) -> Array:
        return normalized(self.embedding_norm, x, tokens)

    def __call__(
        self,
        x: Float[Array, "batch q_len model"],
        *,
        mask: AttentionMask | None,
        positions: Int[Array, "one_or_batch q_len"] | None = None,
        valid: Bool[Array, "batch q_len"] | None = None,
        rng_key: jax.Array | None = None,
    ) -> Float[Array, "batch q_len model"]:
        """Encode embeddings.

        Args:
          x: Scaled token embeddings.
          mask: Who may attend to whom.
          positions: Each token's place in its sequence; ``None`` = arange.
          valid: Which tokens count in the statistics of norms over the batch; ``None`` = all.
          rng_key: Draws dropout; ``None`` = evaluation.

        Returns:
          ``[batch, q_len, model]``.

        Raises:
          ShapeError: If there are more tokens than learned positions.
        """
        return self._through(x, mask, positions, valid, rng_key)


class DecoderStack(CausalLayers):
    """Positions, dropout, then decoder layers over a memory; causal.

    Args:
      config: Sizes and choices of every layer.
      num_layers: How many layers.
      positions: How the order is learned; ``config.rotary_base`` belongs to rotary positions.
      final_norm: Whether the output is normalised once more.
      rngs: Source of the initial parameters.

    Raises:
      ConfigError: As :func:`check_stack`.
    """

    layer_class = DecoderLayer

    def project_memory(self, memory: Float[Array, "batch memory_len model"]) -> tuple[AttentionMemory, ...]:
        """The encoder's output as every layer's keys and values."""
        return tuple(layer.project_memory(memory) for layer in self.layers)

    def __call__(
        self,
        x: Float[Array, "batch q_len model"],
        memories: tuple[AttentionMemory, ...],
        *,
        mask: AttentionMask | None = None,
        memory_mask: AttentionMask | None,
        positions: Int[Array, "one_or_batch q_len"] | None = None,
        valid: Bool[Array, "batch q_len"] | None = None,
        rng_key: jax.Array | None = None,
    ) -> Float[Array, "batch q_len model"]:
        """Decode a whole target (teacher forcing).

        Args:
          x: Scaled token embeddings of the targets.
          memories: :meth:`project_memory`.
          mask: What hides targets from each other beside the causal order, as segments of a packed row do.
          memory_mask: Which memory slots may be attended to.
          positions: Each token's place in its sequence; ``None`` = arange.
          valid: Which tokens count in the statistics of norms over the batch; ``None`` = all.
          rng_key: Draws dropout; ``None`` = evaluation.

        Returns:
          ``[batch, q_len, model]``.

        Raises:
          ShapeError: If there are more tokens than learned positions.
        """
        x, positions, bias = enter_stack(self.positions, x, positions)
        causal = AttentionMask.causal() if mask is None else AttentionMask.causal() & mask
        keys = split_key(rng_key, len(self.layers) + 1)
        x = dropout(x, self.dropout_rate, keys[0])
        for layer, memory, key in zip(self.layers, memories, keys[1:], strict=True):
            x = layer(
                x,
                memory,
                mask=causal,
                memory_mask=memory_mask,
                bias=bias,
                positions=positions,
                valid=valid,
                rng_key=key,
            )
        return normalized(self.final_norm, x, training_tokens(valid, rng_key))

    def with_weights(
        self,
        x: Float[Array, "batch q_len model"],
        memories: tuple[AttentionMemory, ...],
        *,
        memory_mask: AttentionMask | None,
        valid: Bool[Array, "batch q_len"] | None = None,
        rng_key: jax.Array | None = None,
    ) -> tuple[Float[Array, "batch q_len model"], Float[Array, "batch heads q_len memory_len"]]:
        """As a call, and the weights of the last layer's cross-attention; its layers are never recomputed."""
        x, positions, bias = enter_stack(self.positions, x, None)
        keys, mask = split_key(rng_key, len(self.layers) + 1), AttentionMask.causal()
        x = dropout(x, self.dropout_rate, keys[0])
        for layer, memory, key in zip(self.layers[:-1], memories[:-1], keys[1:-1], strict=True):
            x = layer(
                x,
                memory,
                mask=mask,
                memory_mask=memory_mask,
                bias=bias,
                positions=positions,
                valid=valid,
                rng_key=key,
            )
        x, weights = self.layers[-1].attention_weights(
            x, memories[-1], mask=mask, memory_mask=memory_mask, bias=bias, valid=valid, rng_key=keys[-1]
        )
        return normalized(self.final_norm, x, training_tokens(valid, rng_key)), weights

    def extend(
        self,
        x: Float[Array, "batch q_len model"],
        memories: tuple[AttentionMemory, ...],
        caches: tuple[SelfAttentionCache, ...],
        *,
        memory_mask: AttentionMask | None,
        num_valid: Int[Array, " batch"] | None = None,
    ) -> tuple[Float[Array, "batch q_len model"], tuple[SelfAttentionCache, ...]]:
        """Decode the next tokens: one while searching, several in a prefill.

        Args:
          x: Scaled token embeddings of the next tokens.
          memories: :meth:`project_memory`.
          caches: The tokens before.
          memory_mask: Which memory slots may be attended to.
          num_valid: How many of the tokens count for each row; ``None`` = all.

        Returns:
          ``[batch, q_len, model]`` and the longer caches.
        """
        x, bias = enter_next(self.positions, x, caches[0], num_valid=num_valid)
        new_caches = []
        for layer, memory, cache in zip(self.layers, memories, caches, strict=True):
            x, cache = layer.extend(x, memory, cache, memory_mask=memory_mask, bias=bias, num_valid=num_valid)
            new_caches.append(cache)
        return normalized(self.final_norm, x), tuple(new_caches)

    def extend_with_weights(
        self,
        x: Float[Array, "batch q_len model"],
        memories: tuple[AttentionMemory, ...],
        caches: tuple[SelfAttentionCache, ...],
        *,
        memory_mask: AttentionMask | None,
        num_valid: Int[Array, " batch"] | None = None,
    ) -> tuple[
        Float[Array, "batch q_len model"],
        Float[Array, "batch heads q_len memory_len"],
        tuple[SelfAttentionCache, ...],
    ]:
        """As :meth:`extend`, and between its results the weights of the last layer's cross-attention."""
        x, bias = enter_next(self.positions, x, caches[0], num_valid=num_valid)
        new_caches = []
        for layer, memory, cache in zip(self.layers[:-1], memories[:-1], caches[:-1], strict=True):
            x, cache = layer.extend(x, memory, cache, memory_mask=memory_mask, bias=bias, num_valid=num_valid)
            new_caches.append(cache)
        x, weights, last = self.layers[-1].extend_with_weights(
            x, memories[-1], caches[-1], memory_mask=memory_mask, bias=bias, num_valid=num_valid
        )
        return normalized(self.final_norm, x), weights, (*new_caches, last)

    def attention_weights(
        self,
        x: Float[Array, "batch q_len model"],
        memories: tuple[AttentionMemory, ...],
        *,
        memory_mask: AttentionMask | None,
    ) -> list[Float[Array, "batch heads q_len memory_len"]]:
        """Every layer's cross-attention weights by teacher forcing, first layer first."""
        x, _, bias = enter_stack(self.positions, x, None)
        maps = []
        for layer, memory in zip(self.layers, memories, strict=True):
            x, weights = layer.attention_weights(
                x, memory, mask=AttentionMask.causal(), memory_mask=memory_mask, bias=bias
            )
            maps.append(weights)
        return maps


def check_stack(config: TransformerLayerConfig, positions: Positions) -> None:
    """Raise ``ConfigError`` unless the layers' self-attention suits the other choices and the positions."""
    inside_attention = (AlibiPositions, RelativePositions, Rotary)
    if config.self_attention == "linear" and isinstance(positions, inside_attention):
        raise ConfigError(
            "positions must be 'sinusoidal', 'learned' or 'none' with linear self-attention, "
            f"got '{positions.kind}'"
        )
    check_self_attention(config)


def enter_stack(
    encoding: PositionalEncoding, x: Array, positions: Array | None
) -> tuple[Array, Array, PositionBias | Array | None]:
    """Embeddings with their positions added, the positions, and what they add to the scores."""
    encoding.check_len(x.shape[1])
    if positions is None:
        positions = _arange(x.shape[1])
    return encoding.add(x, positions), positions, encoding.bias(positions, positions)


def enter_next(
    encoding: PositionalEncoding,
    x: Array,
    first: SelfAttentionCache,
    *,
    num_valid: Int[Array, " batch"] | None = None,
) -> tuple[Array, PositionBias | Array | None]:
    """Embeddings of the tokens behind those held, their positions added, and what these add to the scores."""
    positions = first.next_positions(x.shape[1])
    bias = None
    if isinstance(first, KeyValueCache | RollingCache):
        bias = encoding.bias(positions, first.attended_positions(x.shape[1], num_valid=num_valid))
    elif not isinstance(first, LinearAttentionCache):
        # All hypotheses of a source are equally long.
        bias = encoding.bias(first.length[:, None], first.attended_positions())
    return encoding.add(x, positions), bias


def _arange(length: int) -> Int[Array, "1 length"]:
    return jnp.arange(length, dtype=jnp.int32)[None, :]


def make_outer_norm(config: TransformerLayerConfig, wanted: bool) -> nnx.Module | None:
    """A norm before the first layer or behind the last, where one is wanted."""
    return layer_norm_of(config) if wanted else None
