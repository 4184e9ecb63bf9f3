"""Recurrent encoder-decoders of Sutskever et al., Cho et al., Bahdanau et al. and Luong et al."""

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional import split_key
from transformer_jax.functional.pointer import CopySource
from transformer_jax.models.pointer import PointerHead, check_one_vocabulary
from transformer_jax.models.recurrent_config import Bahdanau, LastState, Luong, RecurrentSeq2SeqConfig
from transformer_jax.models.recurrent_state import RecurrentState
from transformer_jax.models.recurrent_target import RecurrentTarget, recurrent_decoder
from transformer_jax.nn.embeddings import Embedding
from transformer_jax.nn.linear import Linear
from transformer_jax.nn.recurrent import CarryBridge, RecurrentStack
from transformer_jax.pytree import replace
from transformer_jax.typing import Array, Float, Int

__all__ = ["Bahdanau", "LastState", "Luong", "RecurrentSeq2Seq", "RecurrentSeq2SeqConfig", "RecurrentState"]


class RecurrentSeq2Seq(RecurrentTarget):
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
        check_one_vocabulary(config.pointer, source_vocab_size, target_vocab_size)
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
            normalization=config.normalization,
            norm_placement=config.norm_placement,
            rngs=rngs,
        )
        self.bridge = _bridge(config, rngs=rngs)
        self.decoder = recurrent_decoder(config, rngs=rngs)
        self.output = Linear(config.readout_dim, (target_vocab_size,), use_bias=True, rngs=rngs)
        if config.pointer is not None:
            self.pointer = PointerHead(config.pointer, config.readout_dim, target_vocab_size, rngs=rngs)

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
          Logits, float32; with a pointer log-probabilities of the mixture, see `PointerHead`.

        Raises:
          ConfigError: If there is a ``scheduled_sampling_rate`` but no ``rng_key``, or a pointer.
          ShapeError: If the source is longer than location attention can score.
        """
        if self.pointer is not None and scheduled_sampling_rate is None:
            hidden, weights = self.hidden_with_attention(
                source_tokens, source_lengths, target_inputs, rng_key=rng_key
            )
            source = CopySource(jnp.asarray(source_tokens), jnp.asarray(source_lengths))
            return self._mixture(hidden, weights, source)
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
        encoder_key, *keys = split_key(rng_key, 5)
        if self.pointer is not None:
            if scheduled_sampling_rate is not None:
                raise ConfigError("scheduled_sampling_rate is for models without a pointer: set it to 0")
            return self.hidden_with_attention(source_tokens, source_lengths, target_inputs, rng_key=rng_key)[
                0
            ]
        state = self._encode(source_tokens, source_lengths, rng_key=encoder_key)
        return self._hidden(state, target_inputs, keys, scheduled_sampling_rate)

    def hidden_with_attention(
        self,
        source_tokens: Int[Array, "batch kv_len"],
        source_lengths: Int[Array, "batch"],
        target_inputs: Int[Array, "batch q_len"],
        *,
        rng_key: jax.Array | None = None,
    ) -> tuple[Float[Array, "batch q_len model"], Float[Array, "batch q_len kv_len"]]:
        """States before the output projection, and where each step looked; arguments as in the call.

        Raises:
          ConfigError: If the model has no attention.
        """
        encoder_key, *keys = split_key(rng_key, 5)
        state = self._encode(source_tokens, source_lengths, rng_key=encoder_key)
        return self._hidden_with_attention(state, target_inputs, keys)

    def start(self, inputs: TokenInputs, *, max_len: int) -> RecurrentState:
        """Encode the source; the state before the first token (its size does not depend on ``max_len``)."""
        del max_len
        return self._encode(jnp.asarray(inputs.tokens), jnp.asarray(inputs.lengths))

    def attention_maps(
        self,
        source_tokens: Int[Array, "batch kv_len"],
        source_lengths: Int[Array, "batch"],
        target_inputs: Int[Array, "batch q_len"],
    ) -> dict[str, Float[Array, "batch 1 q_len kv_len"]]:
        """Where each target step looked, under ``"decoder"``; empty without attention."""
        state = self._encode(source_tokens, source_lengths)
        weights = self.decoder.attention_weights(state, self._embedded(target_inputs))
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
        known = source_tokens if self.pointer is None else self.pointer.known(source_tokens)
        embedded = self._dropped(self.source_embedding(known, valid=valid), embedding_key)
        encoded, encoder_carries = self.encoder(embedded, lengths=source_lengths, rng_key=stack_key)
        carries = encoder_carries if self.bridge is None else self.bridge(encoder_carries)
        state = self.decoder.initial_state(encoded, encoder_carries, carries, source_lengths)
        if self.pointer is None:
            return state
        return replace(state, memory=replace(state.memory, tokens=source_tokens))


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
