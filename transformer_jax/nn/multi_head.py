"""Multi-head attention with its projections: self- and cross-attention, grouped heads, caches, memories."""

import jax
import numpy as np
from einops import rearrange
from flax import nnx

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional import (
    AttentionDropout,
    AttentionMask,
    PositionBias,
    PreparedKey,
    ScaledDot,
    SinkWindow,
    attention,
    attention_with_weights,
    prepare_key,
    rotary,
)
from transformer_jax.functional.attention import check_attention_implementation
from transformer_jax.functional.attention.stored import attend_stored, attend_stored_with_weights
from transformer_jax.functional.routing import Routes
from transformer_jax.nn.cache import AttentionMemory, BeamCache, KeyValueCache, nan_past_the_end
from transformer_jax.nn.linear import Linear
from transformer_jax.nn.norms import TrainingTokens
from transformer_jax.nn.rolling_cache import RollingBeamCache, RollingCache
from transformer_jax.typing import Array, Float, Int

__all__ = ["MultiHeadAttention", "check_heads"]

_Bias = PositionBias | Float[Array | np.ndarray, "#batch #heads #q_len #kv_len"]
_SCORE = ScaledDot()


class MultiHeadAttention(nnx.Module):
    r"""Several attentions side by side, each in a narrow space of its own.

    .. math:: \mathrm{MultiHead}(Q, K, V) = \mathrm{Concat}(h_1 \dots h_n) W^O, \quad
       h_i = \mathrm{Attention}(Q W_i^Q, K W_i^K, V W_i^V)

    With fewer key/value heads than query heads, each is shared by a group of query heads (one: multi-query;
    some: grouped-query). ``key_value_dim=None`` makes self-attention, whose three projections are one
    product; a number makes cross-attention over a memory of that width, whose key and value projections are
    one product.

    Args:
      model_dim: Width of query inputs and of the output.
      num_heads: Query heads; must divide ``model_dim``.
      num_kv_heads: Key and value heads; must divide ``num_heads``.
      key_value_dim: Width of the memory, or ``None`` for self-attention.
      use_bias: Whether the projections have a bias (the paper's have none).
      dropout_rate: Dropout of the attention weights.
      rotary_base: Turn queries and keys of self-attention by their position; ``None`` = do not.
      window_len: How many tokens a query of self-attention sees, the last ones and itself; ``None`` = as the mask says.
      num_sinks: How many of the first positions all queries see beside their window.
      implementation: As in :func:`~transformer_jax.functional.attention`.
      rngs: Source of the initial parameters.

    Raises:
      ShapeError: If the numbers of heads do not divide.
      ConfigError: If cross-attention is given rotary positions or a window, the window is empty, or there are
        sinks without a window.

    Example:
      >>> layer = MultiHeadAttention(8, 4, 2, use_bias=False, dropout_rate=0.0, rngs=nnx.Rngs(0))
      >>> layer(jax.numpy.ones((2, 3, 8)), mask=AttentionMask.causal()).shape
      (2, 3, 8)

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2.2; grouped heads: Ainslie et
    al. 2023, https://arxiv.org/abs/2305.13245.
    """

    def __init__(
        self,
        model_dim: int,
        num_heads: int,
        num_kv_heads: int,
        *,
        key_value_dim: int | None = None,
        use_bias: bool,
        dropout_rate: float,
        rotary_base: float | None = None,
        window_len: int | None = None,
        num_sinks: int = 0,
        implementation: str | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        check_heads(model_dim, num_heads, num_kv_heads)
        check_attention_implementation("implementation", implementation)
        if rotary_base is not None and key_value_dim is not None:
            raise ConfigError("rotary_base is for self-attention: a memory's positions are not the queries'")
        if window_len is not None and (window_len < 1 or key_value_dim is not None):
            raise ConfigError(f"window_len must be at least 1 and is for self-attention, got {window_len}")
        if num_sinks < 0 or (num_sinks > 0 and window_len is None):
            raise ConfigError(f"num_sinks must be at least 0, and 0 without window_len, got {num_sinks}")
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = model_dim // num_heads
        if rotary_base is not None and self.head_dim % 2:
            raise ShapeError(
                f"rotary positions need an even head_dim, got model_dim {model_dim} / num_heads {num_heads} "
                f"= {self.head_dim}"
            )
        self.dropout_rate = dropout_rate
        self.rotary_base = rotary_base
        self.window_len = window_len
        self.num_sinks = num_sinks
        self.implementation = implementation
        self.is_self_attention = key_value_dim is None
        self._make_projections(model_dim, key_value_dim, use_bias=use_bias, rngs=rngs)

    def _make_projections(
        self, model_dim: int, key_value_dim: int | None, *, use_bias: bool, rngs: nnx.Rngs
    ) -> None:
        kv_width = self.num_kv_heads * self.head_dim
        if key_value_dim is None:
            self.query_key_value = Linear(
                model_dim, (model_dim, kv_width, kv_width), use_bias=use_bias, rngs=rngs
            )
        else:
            self.query = Linear(model_dim, (model_dim,), use_bias=use_bias, rngs=rngs)
            self.key_value = Linear(key_value_dim, (kv_width, kv_width), use_bias=use_bias, rngs=rngs)
        self.output = Linear(model_dim, (model_dim,), use_bias=use_bias, rngs=rngs)

    def __call__(
        self,
        query_input: Float[Array, "batch q_len model"],
        key_value_input: Float[Array, "batch kv_len memory"] | None = None,
        *,
        mask: AttentionMask | None = None,
        bias: _Bias | None = None,
        positions: Int[Array, "one_or_batch q_len"] | None = None,
        tokens: TrainingTokens | None = None,
        rng_key: jax.Array | None = None,
    ) -> Float[Array, "batch q_len model"]:
        """Attend over the whole of a sequence.

        Args:
          query_input: What asks, ``[batch, q_len, model]``.
          key_value_input: The memory of cross-attention; ``None`` in self-attention.
          mask: Who may attend to whom.
          bias: Added to the scores.
          positions: Positions of the tokens, for rotary turns; ``None`` = arange.
          tokens: Marks a call that trains, for routers of heads.
          rng_key: Draws dropout; ``None`` = evaluation.

        Returns:
          ``[batch, q_len, model]``.

        Raises:
          ConfigError: If ``key_value_input`` is given to self-attention, or not given to cross-attention.
        """
        query, key, value, routes = self._project(query_input, key_value_input, positions, tokens)
        return self._attend(query, key, value, self._within_window(mask), bias, rng_key, routes)

    def attention_weights(
        self,
        query_input: Float[Array, "batch q_len model"],
        key_value_input: Float[Array, "batch kv_len memory"] | None = None,
        *,
        mask: AttentionMask | None = None,
        bias: _Bias | None = None,
        positions: Int[Array, "one_or_batch q_len"] | None = None,
    ) -> tuple[Float[Array, "batch q_len model"], Float[Array, "batch heads q_len kv_len"]]:
        """As a call without dropout, and the weights too; arguments as there."""
        query, key, value, routes = self._project(query_input, key_value_input, positions)
        return self._attend_with_weights(query, key, value, self._within_window(mask), bias, routes)

    def attend_cached(
        self,
        query_input: Float[Array, "batch q_len model"],
        cache: KeyValueCache | RollingCache,
        *,
        bias: _Bias | None = None,
        num_valid: Int[Array, " batch"] | None = None,
    ) -> tuple[Float[Array, "batch q_len model"], KeyValueCache | RollingCache]:
        """Self-attention of the next tokens over themselves and those in the cache.

        Args:
          query_input: The next tokens, ``[batch, q_len, model]``; one while decoding, more in a prefill.
          cache: The tokens before; its keys were turned before they were stored. A rolling one must be of the layer's
            window and sinks.
          bias: Added to the scores, for keys at the cache's ``attended_positions``.
          num_valid: How many of the tokens count for each row; ``None`` = all.

        Returns:
          The output and the longer cache; NaN for tokens that the cache has no room for.

        Raises:
          ShapeError: If there are more new tokens than the cache has slots.
          ConfigError: If a rolling cache is of another window.
        """
        positions = cache.next_positions(query_input.shape[1])
        key_positions = cache.attended_positions(query_input.shape[1], num_valid=num_valid)
        query, key, value, routes = self._project(query_input, None, positions)
        before = cache
        cache = cache.append(key.array, value, num_valid=num_valid)
        causal = AttentionMask.causal() & AttentionMask.positions(positions, key_positions)
        mask = self._within_window(causal)
        assert mask is not None
        if isinstance(cache, RollingCache):
            self._check_ring(cache)
        if key_positions.shape[1] == cache.stored_values.shape[2] and query.shape[1] == 1:
            added = _written_out(bias, positions, key_positions)
            visible = mask.materialize(1, key_positions.shape[1])[:, 0]
            context = attend_stored(query, cache.stored_keys, cache.stored_values, visible, added)
            output = self._joined(context, routes)
        elif isinstance(before, RollingCache):
            # The last of the new tokens may have taken the slots of keys that the first of them sees.
            keys = jax.numpy.concatenate(
                [before.keys.array, key.array.astype(before.keys.array.dtype)], axis=1
            )
            values = jax.numpy.concatenate([before.values, value.astype(before.values.dtype)], axis=1)
            output = self._attend(query, PreparedKey(keys), values, mask, bias, None, routes)
        else:
            output = self._attend(query, cache.keys, cache.values, mask, bias, None, routes)
        if cache.capacity is None:
            return output, cache
        return nan_past_the_end(output, positions, cache.capacity), cache

    def attend_beams(
        self,
        query_input: Float[Array, "rows 1 model"],
        cache: BeamCache | RollingBeamCache,
        *,
        bias: _Bias | None = None,
    ) -> tuple[Float[Array, "rows 1 model"], BeamCache | RollingBeamCache]:
        """Self-attention of the next token of each hypothesis of a beam search, over its own ancestors.

        Args:
          query_input: The next tokens, the hypotheses of one source side by side.
          cache: The tokens before.
          bias: Added to the scores, for keys at the cache's ``attended_positions``.

        Returns:
          The output and the longer cache; NaN where the cache has no room.
        """
        if isinstance(cache, RollingBeamCache):
            self._check_ring(cache)
        added = _written_out(bias, cache.length[:, None], cache.attended_positions())
        if added is not None:  # the same in every beam
            added = jax.numpy.tile(added, (1, 1, 1, cache.num_beams))
        positions = cache.next_positions(1)
        query, key, value, routes = self._project(query_input, None, positions)
        cache = cache.append(key.array, value)
        by_source = query.reshape(cache.length.shape[0], cache.num_beams, *query.shape[2:])
        visible = cache.visible(self.window_len, self.num_sinks)
        context = attend_stored(by_source, *cache.flat(), visible, added).reshape(query.shape)
        output = self._joined(context, routes)
        if cache.capacity is None:
            return output, cache
        return nan_past_the_end(output, positions, cache.capacity), cache

    def project_memory(self, memory: Float[Array, "batch kv_len memory"]) -> AttentionMemory:
        """Keys and values of a memory, projected and prepared once.

        Raises:
          ConfigError: In self-attention.
        """
        return AttentionMemory.of(*self._memory_arrays(memory))

    def attend_memory(
        self,
        query_input: Float[Array, "batch q_len model"],
        memory: AttentionMemory,
        *,
        mask: AttentionMask | None = None,
        rng_key: jax.Array | None = None,
    ) -> Float[Array, "batch q_len model"]:
        """Cross-attention over a projected memory; arguments as in a call.

        A memory of fewer rows than the queries serves a beam search: its row ``i`` is that of the queries from
        ``i * n`` on, ``n`` hypotheses of one token each. The mask then goes with the memory's rows.
        """
        query = self._heads(self.query(query_input), self.num_heads)
        if query.shape[1] == 1 and rng_key is None:
            stored = self._attend_stored_memory(query, memory, mask)
            if stored is not None:
                return stored[0]
        return self._attend(query, memory.keys, memory.values, mask, None, rng_key)

    def attend_memory_with_weights(
        self,
        query_input: Float[Array, "batch q_len model"],
        memory: AttentionMemory,
        *,
        mask: AttentionMask | None = None,
    ) -> tuple[Float[Array, "batch q_len model"], Float[Array, "batch heads q_len kv_len"]]:
        """As :meth:`attend_memory` without dropout, and the weights too."""
        query = self._heads(self.query(query_input), self.num_heads)
        stored = self._attend_stored_memory(query, memory, mask) if query.shape[1] == 1 else None
        if stored is not None:
            return stored
        return self._attend_with_weights(query, memory.keys, memory.values, mask, None)

    def _attend_stored_memory(
        self, query: Array, memory: AttentionMemory, mask: AttentionMask | None
    ) -> tuple[Array, Array] | None:
        """Output and weights of one query a row over the memory as it lies; ``None`` if heads have own masks."""
        num_sources, _, kv_len, _ = memory.stored_values.shape
        visible = (AttentionMask() if mask is None else mask).materialize(1, kv_len)
        if visible.shape[1] != 1:
            return None
        num_hypotheses = query.shape[0] // num_sources if num_sources else 1  # of each source
        by_source = query.reshape(num_sources, num_hypotheses, *query.shape[2:])
        context, weights = attend_stored_with_weights(
            by_source, memory.stored_keys, memory.stored_values, visible[:, 0]
        )
        by_row = jax.numpy.moveaxis(weights, 2, 1).reshape(query.shape[0], self.num_heads, 1, kv_len)
        return self._joined(context.reshape(query.shape)), by_row

    def _project(
        self,
        query_input: Array,
        key_value_input: Array | None,
        positions: Array | None,
        tokens: TrainingTokens | None = None,
    ) -> tuple[Array, PreparedKey, Array, Routes | None]:
        """Queries, prepared keys and values in heads, and which experts made the queries, where there are any."""
        if not self.is_self_attention:
            if key_value_input is None:
                raise ConfigError("key_value_input is missing: this layer was made with key_value_dim")
            key, value = self._memory_arrays(key_value_input)
            return self._heads(self.query(query_input), self.num_heads), PreparedKey(key), value, None
        if key_value_input is not None:
            raise ConfigError("key_value_input needs a layer made with key_value_dim; this is self-attention")
        fused = self._heads(self.query_key_value(query_input), self.num_heads + 2 * self.num_kv_heads)
        split = self.num_heads + self.num_kv_heads
        query, key, value = (
            fused[:, :, : self.num_heads],
            fused[:, :, self.num_heads : split],
            fused[:, :, split:],
        )
        query, key = self._turned(query, key, positions)
        return query, prepare_key(_SCORE, key), value, None

    def _turned(self, query: Array, key: Array, positions: Array | None) -> tuple[Array, Array]:
        if self.rotary_base is None:
            return query, key
        if positions is None:
            positions = jax.numpy.arange(query.shape[1], dtype="int32")[None, :]
        return rotary(query, positions, base=self.rotary_base), rotary(key, positions, base=self.rotary_base)

    def _within_window(self, mask: AttentionMask | None) -> AttentionMask | None:
        if self.window_len is None:
            return mask
        if self.num_sinks > 0:
            return (AttentionMask() if mask is None else mask) & SinkWindow(self.window_len, self.num_sinks)
        window = AttentionMask.window(self.window_len - 1, None)
        return window if mask is None else mask & window

    def _check_ring(self, cache: RollingCache | RollingBeamCache) -> None:
        ring = cache.ring
        if (ring.window_len, ring.num_sinks) != (self.window_len, self.num_sinks):
            raise ConfigError(
                f"cache is of window_len {ring.window_len} and num_sinks {ring.num_sinks}, the layer has "
                f"{self.window_len} and {self.num_sinks}"
            )

    def _memory_arrays(self, memory: Array) -> tuple[Array, Array]:
        if self.is_self_attention:
            raise ConfigError("a memory needs a layer made with key_value_dim; this is self-attention")
        fused = self._heads(self.key_value(memory), 2 * self.num_kv_heads)
        key, value = fused[:, :, : self.num_kv_heads], fused[:, :, self.num_kv_heads :]
        return prepare_key(_SCORE, key).array, value

    def _heads(self, x: Array, num_heads: int) -> Array:
        return rearrange(
            x, "batch len (heads dim) -> batch len heads dim", heads=num_heads, dim=self.head_dim
        )

    def _attend(
        self,
        query: Array,
        key: PreparedKey,
        value: Array,
        mask: AttentionMask | None,
        bias: _Bias | None,
        rng_key: jax.Array | None,
        routes: Routes | None = None,
    ) -> Array:
        drops = self.dropout_rate > 0.0 and rng_key is not None
        context = attention(
            query,
            key,
            value,
            score=_SCORE,
            mask=mask,
            bias=_as_bias(bias),
            dropout=AttentionDropout(self.dropout_rate, rng_key) if drops else None,
            implementation=self.implementation,
        )
        return self._joined(context, routes)

    def _joined(self, context: Array, routes: Routes | None = None) -> Array:
        del routes  # all heads have one output map
        return self.output(rearrange(context, "batch len heads dim -> batch len (heads dim)"))

    def _attend_with_weights(
        self,
        query: Array,
        key: PreparedKey,
        value: Array,
        mask: AttentionMask | None,
        bias: _Bias | None,
        routes: Routes | None = None,
    ) -> tuple[Array, Array]:
        context, weights = attention_with_weights(
            query, key, value, score=_SCORE, mask=mask, bias=_as_bias(bias)
        )
        return self._joined(context, routes), weights


def _written_out(bias: _Bias | None, query_positions: Array, key_positions: Array) -> Array | None:
    """A bias as an array, ``[batch|1, heads, q_len, kv_len]``."""
    bias = _as_bias(bias)
    if isinstance(bias, PositionBias):
        return bias.block(query_positions, key_positions)
    return bias


def _as_bias(bias: _Bias | None) -> PositionBias | Array | None:
    """A bias as a JAX array or a position bias."""
    return bias if bias is None or isinstance(bias, PositionBias) else jax.numpy.asarray(bias)


def check_heads(model_dim: int, num_heads: int, num_kv_heads: int) -> None:
    """Raise ``ShapeError`` unless heads divide the width, and key/value heads the query heads.

    Example:
      >>> check_heads(8, 4, 2)
    """
    if num_heads < 1 or model_dim % num_heads:
        raise ShapeError(f"model_dim {model_dim} must be divisible by num_heads {num_heads}")
    if num_kv_heads < 1 or num_heads % num_kv_heads:
        raise ShapeError(f"num_heads {num_heads} must be divisible by num_kv_heads {num_kv_heads}")
