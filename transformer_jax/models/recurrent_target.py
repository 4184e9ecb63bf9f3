"""The target side of recurrent models: token embedding, decoder and output projection over any memory."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from transformer_jax.errors import ConfigError
from transformer_jax.functional import dropout, split_key
from transformer_jax.functional.dtypes import in_compute_dtype
from transformer_jax.functional.pointer import CopySource
from transformer_jax.functional.row_shards import RECURRENT_AXES, by_row_shards
from transformer_jax.models.pointer import PointerHead
from transformer_jax.models.recurrent_config import Bahdanau, LastState, RecurrentDecoderConfig
from transformer_jax.models.recurrent_decoders import (
    BahdanauDecoder,
    LastStateDecoder,
    LuongDecoder,
    RecurrentDecoder,
)
from transformer_jax.models.recurrent_state import RecurrentState
from transformer_jax.nn.embeddings import Embedding
from transformer_jax.nn.linear import Linear
from transformer_jax.typing import Array, Float, Int

__all__ = ["RecurrentTarget", "recurrent_decoder"]


class RecurrentTarget(nnx.Module):
    r"""Base of models with a recurrent decoder: all that follows once there is a state to decode from.

    .. math:: p(y_t \mid y_{<t}) = \mathrm{softmax}(E\, \mathrm{decode}(y_{<t}) + b)_{y_t}

    Attributes:
      config: Has ``dropout_rate``, of embeddings and of states before the output projection, and ``dtype``.
      target_embedding: Embedding of the target tokens.
      decoder: The decoder.
      output: Output projection, with a bias.
      pointer: Copies what the attention points at; None = nothing is copied.
    """

    config: Any
    target_embedding: Embedding
    decoder: RecurrentDecoder
    output: Linear
    pointer: PointerHead | None = None

    def output_projection(self) -> tuple[Float[Array, "vocab model"], Float[Array, "vocab"]]:
        """``(E, b)`` with ``logits = hidden @ E.T + b``."""
        bias = self.output.bias
        assert bias is not None
        return in_compute_dtype(self.output.kernel[...].T, self.config.dtype), bias[...]

    def step(
        self, state: RecurrentState, tokens: Int[Array, "batch"]
    ) -> tuple[Float[Array, "batch vocab"], RecurrentState]:
        """Feed one token a row; logits of the next one, float32, and the new state."""
        if self.pointer is not None:
            logits, _, state = self.step_with_attention(state, tokens)
            return logits, state
        hidden, state = self.decoder.step(state, self.target_embedding(tokens))
        return self._logits(hidden), state

    def step_with_attention(
        self, state: RecurrentState, tokens: Int[Array, "batch"]
    ) -> tuple[Float[Array, "batch vocab"], Float[Array, "batch kv_len"], RecurrentState]:
        """As :meth:`step`, and between its results where the step looked.

        Raises:
          ConfigError: If the model has no attention.
        """
        if isinstance(self.decoder, LastStateDecoder):
            raise ConfigError(
                "attention 'last_state' has no weights to tell of: a coverage penalty needs another"
            )
        hidden, weights, state = self.decoder.step_with_attention(state, self._embedded(tokens))
        if self.pointer is None:
            return self._logits(hidden), weights, state
        source = state.memory.copied(hidden.shape[0])
        mixture = self._mixture(hidden[:, None], weights[:, None], source)
        return mixture[:, 0], weights, state

    def _hidden(
        self,
        state: RecurrentState,
        target_inputs: Int[Array, "batch q_len"],
        keys: Sequence[jax.Array | None],
        scheduled_sampling_rate: float | Float[Array, ""] | None,
    ) -> Float[Array, "batch q_len model"]:
        """States before the output projection, from the state before the first token and four keys."""
        embedding_key, decoder_key, readout_key, sampling_key = keys
        if scheduled_sampling_rate is not None:
            if sampling_key is None:
                raise ConfigError("scheduled_sampling_rate needs rng_key, which decides what each step reads")
            rate = jnp.asarray(scheduled_sampling_rate, jnp.float32)
            return self._hidden_by_own_choices(state, target_inputs, rate, sampling_key)
        embedded = self._dropped(self.target_embedding(target_inputs), embedding_key)
        return self._dropped(self._decoded(state, embedded, decoder_key), readout_key)

    def _hidden_with_attention(
        self,
        state: RecurrentState,
        target_inputs: Int[Array, "batch q_len"],
        keys: Sequence[jax.Array | None],
    ) -> tuple[Float[Array, "batch q_len model"], Float[Array, "batch q_len kv_len"]]:
        """As `_hidden` by teacher forcing, and where each step looked."""
        if isinstance(self.decoder, LastStateDecoder):
            raise ConfigError("attention 'last_state' has no weights to tell of: use 'bahdanau' or 'luong'")
        embedding_key, decoder_key, readout_key, _ = keys
        embedded = self._dropped(self._embedded(target_inputs), embedding_key)
        graph, arrays = nnx.split(self.decoder)

        def run(arrays: Any, state: RecurrentState, embedded: Array, rng_key: jax.Array | None) -> Any:
            return nnx.merge(graph, arrays).run_with_weights(state, embedded, rng_key=rng_key)

        run = by_row_shards(run, (None, 0, 0, None), (0, 0), embedded.shape[0], over=RECURRENT_AXES)
        hidden, weights = run(arrays, state, embedded, decoder_key)
        return self._dropped(hidden, readout_key), weights

    def _embedded(self, tokens: Array) -> Array:
        """Embeddings of target tokens, of copied words those of the unknown token."""
        return self.target_embedding(tokens if self.pointer is None else self.pointer.known(tokens))

    def _mixture(self, hidden: Array, weights: Array, source: CopySource) -> Array:
        """Logits of the vocabulary and of what is copied."""
        assert self.pointer is not None
        return self.pointer.log_probs(self._logits(hidden), hidden, weights, source)

    def _decoded(self, state: RecurrentState, embedded: Array, rng_key: jax.Array | None) -> Array:
        """Readouts of all steps; each device of a mesh decodes its own rows."""
        graph, arrays = nnx.split(self.decoder)

        def run(arrays: Any, state: RecurrentState, embedded: Array, rng_key: jax.Array | None) -> Array:
            return nnx.merge(graph, arrays).run(state, embedded, rng_key=rng_key)

        run = by_row_shards(run, (None, 0, 0, None), 0, embedded.shape[0], over=RECURRENT_AXES)
        return run(arrays, state, embedded, rng_key)

    def _hidden_by_own_choices(
        self, state: RecurrentState, target_inputs: Array, rate: Array, rng_key: jax.Array
    ) -> Array:
        """Step by step, each step reading the given token or the model's last choice."""
        batch, num_steps = target_inputs.shape
        choice_key, noise_key = jax.random.split(rng_key)
        reads_own = jax.random.uniform(choice_key, (num_steps, batch)) < rate
        reads_own = reads_own.at[0].set(False)

        def body(carry: tuple[RecurrentState, Array], at_time: tuple[Array, Array, Array]) -> tuple:
            state, chosen = carry
            given, own, key = at_time
            embedding_key, decoder_key, readout_key = split_key(key, 3)
            embedded = self._dropped(self.target_embedding(jnp.where(own, chosen, given)), embedding_key)
            hidden, state = self.decoder.step(state, embedded, rng_key=decoder_key)
            hidden = self._dropped(hidden, readout_key)
            chosen = jnp.argmax(self._logits(lax.stop_gradient(hidden)), axis=-1).astype(given.dtype)
            return (state, chosen), hidden

        given = target_inputs.swapaxes(0, 1)  # [q_len, batch]
        keys = jax.random.split(noise_key, num_steps)
        hidden: Any = lax.scan(body, (state, given[0]), (given, reads_own, keys))[1]
        return hidden.swapaxes(0, 1)

    def _dropped(self, x: Array, rng_key: jax.Array | None) -> Array:
        return dropout(x, self.config.dropout_rate, rng_key)

    def _logits(self, hidden: Array) -> Array:
        if self.config.dtype == "float32":
            return self.output(hidden).astype(jnp.float32)
        embedding, bias = self.output_projection()
        logits = jnp.einsum("...d,vd->...v", hidden, embedding, preferred_element_type=jnp.float32)
        return logits + jnp.broadcast_to(bias, logits.shape)


def recurrent_decoder(config: RecurrentDecoderConfig, *, rngs: nnx.Rngs) -> RecurrentDecoder:
    """The decoder that a config's attention stands for."""
    if isinstance(config.attention, LastState):
        return LastStateDecoder(config, rngs=rngs)
    if isinstance(config.attention, Bahdanau):
        return BahdanauDecoder(config, rngs=rngs)
    return LuongDecoder(config, rngs=rngs)
