"""The target side of Transformers with a memory: token embedding, decoder and output projection."""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from transformer_jax.functional import AttentionMask
from transformer_jax.functional.dtypes import in_compute_dtype
from transformer_jax.functional.pointer import CopySource
from transformer_jax.models.pointer import PointerHead
from transformer_jax.nn.cache import AttentionMemory
from transformer_jax.nn.embeddings import Embedding
from transformer_jax.nn.rolling_cache import SelfAttentionCache
from transformer_jax.nn.stacks import DecoderStack
from transformer_jax.pytree import pytree_dataclass, replace
from transformer_jax.typing import Array, Float, Int

__all__ = ["EncoderDecoderState", "TransformerTarget"]


@pytree_dataclass
class EncoderDecoderState:
    """Decoding state: the batch is axis 0 of every leaf.

    Attributes:
      memories: Each decoder layer's keys and values of the source, projected once.
      source_lengths: Source tokens of each row.
      caches: What each decoder layer keeps of the target so far: keys and values, or a state of one size.
      source_tokens: Ids of each row's source, for a model that copies them; ``None`` for others.
    """

    memories: tuple[AttentionMemory, ...]
    source_lengths: Int[Array, " batch"]
    caches: tuple[SelfAttentionCache, ...]
    source_tokens: Int[Array, "batch source_len"] | None = None

    def memory_mask(self) -> AttentionMask:
        """Which memory slots hold source tokens."""
        num_sources, _, kv_len, _ = self.memories[0].stored_values.shape
        num_rows = self.source_lengths.shape[0]
        num_beams = num_rows // num_sources if num_sources else 1  # hypotheses of one source share its memory
        return AttentionMask.from_lengths(self.source_lengths[::num_beams], kv_len)


class TransformerTarget(nnx.Module):
    r"""Base of models with a Transformer decoder: all that follows once there are memories to decode from.

    .. math:: p(y_t \mid y_{<t}) = \mathrm{softmax}(E\, \mathrm{decode}(y_{<t}))_{y_t}

    Attributes:
      config: Has ``dtype``, ``padding_id`` and ``counts_tokens``.
      target_embedding: Embedding of the target tokens.
      output_embedding: Output projection; None = the target embedding.
      decoder: The decoder.
      pointer: Copies what the last layer's cross-attention points at; None = nothing is copied.
    """

    config: Any
    target_embedding: Embedding
    output_embedding: Embedding | None
    decoder: DecoderStack
    pointer: PointerHead | None = None

    def output_projection(self) -> tuple[Float[Array, "vocab model"], Float[Array, " vocab"] | None]:
        """The table whose product with the hidden states is the logits, and no bias."""
        output = self.target_embedding if self.output_embedding is None else self.output_embedding
        return in_compute_dtype(output.table(), self.config.dtype), None

    def step(
        self, state: EncoderDecoderState, tokens: Int[Array, " batch"]
    ) -> tuple[Float[Array, "batch vocab"], EncoderDecoderState]:
        """Feed one token a row; logits of the next one, and the state after."""
        logits, state = self.extend(state, jnp.asarray(tokens)[:, None])
        return logits[:, 0], state

    def step_with_attention(
        self, state: EncoderDecoderState, tokens: Int[Array, " batch"]
    ) -> tuple[Float[Array, "batch vocab"], Float[Array, "batch kv_len"], EncoderDecoderState]:
        """As :meth:`step`, and between its results where the last layer looked, the mean of its heads."""
        logits, weights, state = self._extend_with_weights(state, jnp.asarray(tokens)[:, None], None)
        return logits[:, 0], weights[:, 0], state

    def extend(
        self,
        state: EncoderDecoderState,
        tokens: Int[Array, "batch q_len"],
        *,
        num_valid: Int[Array, " batch"] | None = None,
    ) -> tuple[Float[Array, "batch q_len vocab"], EncoderDecoderState]:
        """Feed several tokens a row at once (prefill), by the same code as :meth:`step`.

        Args:
          state: The state before.
          tokens: The next tokens, ``[batch, q_len]``.
          num_valid: How many of them count for each row; ``None`` = all.

        Returns:
          Logits after each token, ``[batch, q_len, vocab]``, and the state after.
        """
        if self.pointer is not None:
            logits, _, state = self._extend_with_weights(state, tokens, num_valid)
            return logits, state
        hidden, caches = self.decoder.extend(
            self.target_embedding(tokens),
            state.memories,
            state.caches,
            memory_mask=state.memory_mask(),
            num_valid=num_valid,
        )
        return self._logits(hidden), EncoderDecoderState(state.memories, state.source_lengths, caches)

    def _extend_with_weights(
        self, state: EncoderDecoderState, tokens: Array, num_valid: Array | None
    ) -> tuple[Array, Array, EncoderDecoderState]:
        """Logits, the mean over heads of where the last layer looked, ``[batch, q_len, source_len]``, and the state."""
        hidden, by_head, caches = self.decoder.extend_with_weights(
            self._embedded(tokens),
            state.memories,
            state.caches,
            memory_mask=state.memory_mask(),
            num_valid=num_valid,
        )
        weights, after = by_head.mean(axis=1), replace(state, caches=caches)
        if self.pointer is None:
            return self._logits(hidden), weights, after
        assert state.source_tokens is not None
        source = CopySource(state.source_tokens, state.source_lengths)
        return self.pointer.log_probs(self._logits(hidden), hidden, weights, source), weights, after

    def _embedded(self, tokens: Array) -> Array:
        """Embeddings of target tokens, of copied words those of the unknown token."""
        return self.target_embedding(tokens if self.pointer is None else self.pointer.known(tokens))

    def _real_targets(self, tokens: Array) -> Array | None:
        """Target tokens that count in statistics of the batch, all but padding; ``None`` where there are none."""
        return tokens != self.config.padding_id if self.config.counts_tokens else None

    def _start(
        self, memories: tuple[AttentionMemory, ...], source_lengths: Array, max_len: int
    ) -> EncoderDecoderState:
        """The state before the first target token, with room for ``max_len`` tokens."""
        caches = self.decoder.empty_caches(source_lengths.shape[0], max_len, memories[0].stored_keys.dtype)
        return EncoderDecoderState(memories, source_lengths, caches)

    def _maps(
        self, memories: tuple[AttentionMemory, ...], memory_mask: AttentionMask, target_inputs: Array
    ) -> dict[str, Array]:
        """Cross-attention weights by teacher forcing, ``decoder_layer_0`` first."""
        embedded = self._embedded(target_inputs)
        maps = self.decoder.attention_weights(embedded, memories, memory_mask=memory_mask)
        return {f"decoder_layer_{index}": weights for index, weights in enumerate(maps)}

    def _logits(self, hidden: Array) -> Array:
        output = self.target_embedding if self.output_embedding is None else self.output_embedding
        return output.attend(hidden).astype(jnp.float32)
