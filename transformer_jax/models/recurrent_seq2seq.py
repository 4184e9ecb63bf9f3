"""Recurrent encoder-decoders of Sutskever et al., Cho et al., Bahdanau et al. and Luong et al."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional import dropout, split_key
from transformer_jax.functional.dtypes import in_compute_dtype
from transformer_jax.functional.row_shards import RECURRENT_AXES, by_row_shards
from transformer_jax.models.recurrent_config import Bahdanau, LastState, Luong, RecurrentSeq2SeqConfig
from transformer_jax.models.recurrent_decoders import (
    BahdanauDecoder,
    LastStateDecoder,
    LuongDecoder,
    RecurrentDecoder,
)
from transformer_jax.models.recurrent_state import RecurrentState
from transformer_jax.nn.embeddings import Embedding
from transformer_jax.nn.linear import Linear
from transformer_jax.nn.recurrent import CarryBridge, RecurrentStack
from transformer_jax.typing import Array, Float, Int

__all__ = ["Bahdanau", "LastState", "Luong", "RecurrentSeq2Seq", "RecurrentSeq2SeqConfig", "RecurrentState"]


class RecurrentSeq2Seq(nnx.Module):
    r"""A recurrent encoder, and a recurrent decoder that starts from the encoder's last state.

    .. math:: p(y \mid x) = \prod_t \mathrm{softmax}(E o_t + b)_{y_t}, \quad
      o_t = \mathrm{decode}(y_{<t}, \mathrm{encode}(x))

    Padding in the source changes nothing. A source of length 0 is a source of which nothing is known.

    Args:
      config: Sizes and variant.
      source_vocab_size: Number of source tokens.
      target_vocab_size: Number of target tokens.
      rngs: Source of the initial parameters.

    Example:
      >>> config = RecurrentSeq2SeqConfig(
      ...   embedding_dim=4, hidden_dim=6, cell="gru", num_encoder_layers=1, num_decoder_layers=1,
      ...   bidirectional=True, attention=Bahdanau(attention_dim=5), dropout_rate=0.0, residual=False,
      ... )
      >>> model = RecurrentSeq2Seq(config, source_vocab_size=7, target_vocab_size=9, rngs=nnx.Rngs(0))
      >>> model(jnp.ones((2, 5), int), jnp.array([5, 3]), jnp.ones((2, 4), int)).shape
      (2, 4, 9)
    """

    def __init__(
        self,
        config: RecurrentSeq2SeqConfig,
        *,
        source_vocab_size: int,
        target_vocab_size: int,
        rngs: nnx.Rngs,
    ):
        self.config = config
        # Unit variance, as the Glorot-uniform weights expect.
        self.source_embedding = Embedding(
            source_vocab_size,
            config.embedding_dim,
            padding_id=None,
            scale="sqrt_dim",
            dtype=config.dtype,
            rngs=rngs,
        )
        self.target_embedding = Embedding(
            target_vocab_size,
            config.embedding_dim,
            padding_id=None,
            scale="sqrt_dim",
            dtype=config.dtype,
            rngs=rngs,
        )
        self.encoder = RecurrentStack(
            config.cell,
            config.embedding_dim,
            config.hidden_dim,
            config.num_encoder_layers,
            bidirectional=config.bidirectional,
            dropout_rate=config.dropout_rate,
            residual=config.residual,
            dtype=config.dtype,
            implementation=config.recurrence_implementation,
            rngs=rngs,
        )
        self.bridge = _bridge(config, rngs=rngs)
        self.decoder = _decoder(config, rngs=rngs)
        self.output = Linear(config.readout_dim, (target_vocab_size,), use_bias=True, rngs=rngs)

    def __call__(
        self,
        source_tokens: Int[Array, "batch kv_len"],
        source_lengths: Int[Array, "batch"],
        target_inputs: Int[Array, "batch q_len"],
        *,
        rng_key: jax.Array | None = None,
        scheduled_sampling_rate: float | Float[Array, ""] | None = None,
    ) -> Float[Array, "batch q_len vocab"]:
        """Logits of the token after each target input.

        Args:
          source_tokens: Source ids, padded at the end.
          source_lengths: Tokens of each source.
          target_inputs: Target ids, the start token first. Ids of the vocabulary, padding too: another id gives NaN
            logits from there on, and NaN gradients even where its loss does not count.
          rng_key: For dropout and scheduled sampling; ``None`` = evaluation.
          scheduled_sampling_rate: Chance that a step reads the model's own last choice (the most probable
            token) instead of the given one; the first step always reads the given one. ``None`` = teacher
            forcing, all steps at once (Bengio et al. 2015, https://arxiv.org/abs/1506.03099).

        Returns:
          Logits, float32.

        Raises:
          ConfigError: If there is a ``scheduled_sampling_rate`` but no ``rng_key``.
          ShapeError: If the source is longer than location attention can score.
        """
        hidden = self.hidden(
            source_tokens,
            source_lengths,
            target_inputs,
            rng_key=rng_key,
            scheduled_sampling_rate=scheduled_sampling_rate,
        )
        return self._logits(hidden)

    def hidden(
        self,
        source_tokens: Int[Array, "batch kv_len"],
        source_lengths: Int[Array, "batch"],
        target_inputs: Int[Array, "batch q_len"],
        *,
        rng_key: jax.Array | None = None,
        scheduled_sampling_rate: float | Float[Array, ""] | None = None,
    ) -> Float[Array, "batch q_len model"]:
        """States before the output projection; arguments as in the call, and NaN where its logits are."""
        encoder_key, embedding_key, decoder_key, readout_key, sampling_key = split_key(rng_key, 5)
        state = self._encode(source_tokens, source_lengths, rng_key=encoder_key)
        if scheduled_sampling_rate is not None:
            if sampling_key is None:
                raise ConfigError("scheduled_sampling_rate needs rng_key, which decides what each step reads")
            rate = jnp.asarray(scheduled_sampling_rate, jnp.float32)
            return self._hidden_by_own_choices(state, target_inputs, rate, sampling_key)
        embedded = self._dropped(self.target_embedding(target_inputs), embedding_key)
        return self._dropped(self._decoded(state, embedded, decoder_key), readout_key)

    def _decoded(self, state: RecurrentState, embedded: Array, rng_key: jax.Array | None) -> Array:
        """Readouts of all steps; each device of a mesh decodes its own rows."""
        graph, arrays = nnx.split(self.decoder)

        def run(arrays: Any, state: RecurrentState, embedded: Array, rng_key: jax.Array | None) -> Array:
            return nnx.merge(graph, arrays).run(state, embedded, rng_key=rng_key)

        run = by_row_shards(run, (None, 0, 0, None), 0, embedded.shape[0], over=RECURRENT_AXES)
        return run(arrays, state, embedded, rng_key)

    def output_projection(self) -> tuple[Float[Array, "vocab model"], Float[Array, "vocab"]]:
        """``(E, b)`` with ``logits = hidden @ E.T + b``."""
        bias = self.output.bias
        assert bias is not None
        return in_compute_dtype(self.output.kernel[...].T, self.config.dtype), bias[...]

    def start(self, inputs: TokenInputs, *, max_len: int) -> RecurrentState:
        """Encode the source; the state before the first token (its size does not depend on ``max_len``)."""
        del max_len
        return self._encode(jnp.asarray(inputs.tokens), jnp.asarray(inputs.lengths))

    def step(
        self, state: RecurrentState, tokens: Int[Array, "batch"]
    ) -> tuple[Float[Array, "batch vocab"], RecurrentState]:
        """Feed one token a row; logits of the next one, float32, and the new state."""
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
        hidden, weights, state = self.decoder.step_with_attention(state, self.target_embedding(tokens))
        return self._logits(hidden), weights, state

    def attention_maps(
        self,
        source_tokens: Int[Array, "batch kv_len"],
        source_lengths: Int[Array, "batch"],
        target_inputs: Int[Array, "batch q_len"],
    ) -> dict[str, Float[Array, "batch 1 q_len kv_len"]]:
        """Where each target step looked, under ``"decoder"``; empty without attention."""
        state = self._encode(source_tokens, source_lengths)
        weights = self.decoder.attention_weights(state, self.target_embedding(target_inputs))
        return {} if weights is None else {"decoder": weights}

    def _encode(
        self, source_tokens: Array, source_lengths: Array, *, rng_key: jax.Array | None = None
    ) -> RecurrentState:
        source_tokens, source_lengths = jnp.asarray(source_tokens), jnp.asarray(source_lengths)
        attention = self.config.attention
        max_len = attention.max_len if isinstance(attention, Luong) else None
        if max_len is not None and source_tokens.shape[1] > max_len:
            raise ShapeError(
                f"source_tokens has {source_tokens.shape[1]} positions; location attention scores {max_len}: "
                "raise max_len or shorten the source"
            )
        embedding_key, stack_key = split_key(rng_key, 2)
        valid = jnp.arange(source_tokens.shape[1], dtype=jnp.int32)[None] < source_lengths[:, None]
        embedded = self._dropped(self.source_embedding(source_tokens, valid=valid), embedding_key)
        encoded, encoder_carries = self.encoder(embedded, lengths=source_lengths, rng_key=stack_key)
        carries = encoder_carries if self.bridge is None else self.bridge(encoder_carries)
        return self.decoder.initial_state(encoded, encoder_carries, carries, source_lengths)

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


def _decoder(config: RecurrentSeq2SeqConfig, *, rngs: nnx.Rngs) -> RecurrentDecoder:
    if isinstance(config.attention, LastState):
        return LastStateDecoder(config, rngs=rngs)
    if isinstance(config.attention, Bahdanau):
        return BahdanauDecoder(config, rngs=rngs)
    return LuongDecoder(config, rngs=rngs)


def _bridge(config: RecurrentSeq2SeqConfig, *, rngs: nnx.Rngs) -> CarryBridge | None:
    """``None`` where the decoder's carries have the encoder's shapes and are copied."""
    if not config.bidirectional and config.num_encoder_layers == config.num_decoder_layers:
        return None
    return CarryBridge(
        config.cell,
        config.encoder_dim,
        config.hidden_dim,
        config.num_encoder_layers,
        config.num_decoder_layers,
        bidirectional=config.bidirectional,
        rngs=rngs,
    )
