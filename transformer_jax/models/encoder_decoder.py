"""The Transformer of Vaswani et al. 2017: an encoder, a decoder, and its variants as values."""

import dataclasses
from typing import ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.bounds import Layers, TokenId
from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.errors import ConfigError
from transformer_jax.functional import AttentionMask, segment_positions, split_key
from transformer_jax.functional.deep_norm import deep_scales_of_pair
from transformer_jax.functional.dtypes import ComputeDtype
from transformer_jax.functional.pointer import CopySource
from transformer_jax.models.pointer import Pointer, PointerHead, check_one_vocabulary
from transformer_jax.models.sizes import Sizes
from transformer_jax.models.transformer_choices import TransformerFields, check_choices, layer_config_of
from transformer_jax.models.transformer_target import EncoderDecoderState, TransformerTarget
from transformer_jax.nn.cache import AttentionMemory
from transformer_jax.nn.embeddings import Embedding
from transformer_jax.nn.position_encodings import Learned, Positions, Sinusoidal
from transformer_jax.nn.stacks import DecoderStack, EncoderStack, check_stack
from transformer_jax.nn.transformer_layers import NormPlacement, SelfAttention, TransformerLayerConfig
from transformer_jax.pytree import replace
from transformer_jax.typing import Array, Float, Int

__all__ = ["EncoderDecoder", "EncoderDecoderConfig", "EncoderDecoderState", "ShareEmbeddings"]

ShareEmbeddings = Literal["none", "target", "all"]
_Tokens = Int[Array, "batch source_len"]
_Lengths = Int[Array, " batch"]
_Targets = Int[Array, "batch target_len"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig(TransformerFields):
    """Everything of an encoder-decoder Transformer but the vocabularies; defaults are the paper's choices.

    What is not named here is as in `TransformerFields`.

    Raises:
      ConfigError: If a size is below one or above its bound (`transformer_jax.bounds`), a rate is no probability,
        ``norm_epsilon`` or ``padding_id`` is out of range, a name is unknown, relative positions do not suit both
        stacks, or linear self-attention of the decoder meets grouped heads, dropout of attention weights, or positions
        inside attention.
      ShapeError: If the numbers of heads do not divide.

    Attributes:
      kind: Tag of the union of model configs.
      num_encoder_layers: Layers of the encoder.
      num_decoder_layers: Layers of the decoder.
      attention_bias: Whether attention's projections have a bias (the paper's have none).
      positions: How the order of tokens is learned.
      decoder_self_attention: ``"softmax"``, the paper's; ``"linear"``: a step of decoding costs the same however
        long the target is, and the state has one size.
      share_embeddings: ``"none"``; ``"target"``: target embedding and output projection are one table;
        ``"all"``: the source embedding too (one vocabulary).
      padding_id: The token of padding, whose embedding is zero.
      dtype: Of matrix products and activations; parameters, statistics of norms and softmax are float32.
      pointer: A gate that may copy what the last layer's cross-attention points at (See et al. 2017); ``None`` = no
        copying.
    """

    sizes_needed: ClassVar[tuple[str, ...]] = ("source_vocab_size", "target_vocab_size")

    kind: Literal["encoder_decoder"] = "encoder_decoder"
    num_encoder_layers: Layers
    num_decoder_layers: Layers
    norm_placement: NormPlacement = "post"
    attention_bias: bool = False
    positions: Positions = dataclasses.field(default_factory=Sinusoidal)
    decoder_self_attention: SelfAttention = "softmax"
    share_embeddings: ShareEmbeddings = "none"
    padding_id: TokenId = 0
    dtype: ComputeDtype = "float32"
    pointer: Pointer | None = None

    def __post_init__(self) -> None:
        check_choices(
            self,
            counts=("num_encoder_layers", "num_decoder_layers"),
            bidirectional=(True, False),
            further={
                "decoder_self_attention": get_args(SelfAttention),
                "share_embeddings": get_args(ShareEmbeddings),
            },
        )
        if self.padding_id < 0:  # that it is in the vocabularies is checked by their embeddings
            raise ConfigError(f"padding_id must be at least 0, got {self.padding_id}")
        check_stack(self.decoder_layer_config(), self.positions)

    @property
    def source_limit(self) -> int | None:
        """The longest source that the model can take, in tokens, limited by learned positions; None = no limit."""
        return self.positions.max_len if isinstance(self.positions, Learned) else None

    @property
    def target_limit(self) -> int | None:
        """The same of targets, the end token included."""
        return self.source_limit

    def build(self, sizes: Sizes, *, rngs: nnx.Rngs) -> "EncoderDecoder":
        """The model for these sizes."""
        return EncoderDecoder(
            self,
            source_vocab_size=sizes.need("source_vocab_size"),
            target_vocab_size=sizes.need("target_vocab_size"),
            rngs=rngs,
        )

    def encoder_layer_config(self) -> TransformerLayerConfig:
        """Config of the encoder's layers."""
        deep = deep_scales_of_pair(self.num_encoder_layers, self.num_decoder_layers)[0]
        return layer_config_of(self, deep=deep, self_attention="softmax")

    def decoder_layer_config(self) -> TransformerLayerConfig:
        """Config of the decoder's layers."""
        deep = deep_scales_of_pair(self.num_encoder_layers, self.num_decoder_layers)[1]
        return layer_config_of(self, deep=deep, self_attention=self.decoder_self_attention)


class EncoderDecoder(TransformerTarget):
    """The Transformer: encodes a source, scores or writes a target.

    Args:
      config: Sizes and choices.
      source_vocab_size: Tokens of the source vocabulary.
      target_vocab_size: Tokens of the target vocabulary.
      rngs: Source of the initial parameters.

    Raises:
      ConfigError: If ``share_embeddings="all"`` meets two vocabulary sizes, or ``padding_id`` is in none.

    Example:
      >>> config = EncoderDecoderConfig(
      ...   model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=16,
      ...   num_encoder_layers=1, num_decoder_layers=1)
      >>> model = EncoderDecoder(config, source_vocab_size=7, target_vocab_size=9, rngs=nnx.Rngs(0))
      >>> model(jnp.ones((2, 5), int), jnp.array([5, 3]), jnp.ones((2, 4), int)).shape
      (2, 4, 9)

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762.
    """

    def __init__(
        self, config: EncoderDecoderConfig, *, source_vocab_size: int, target_vocab_size: int, rngs: nnx.Rngs
    ) -> None:
        if config.share_embeddings == "all" and source_vocab_size != target_vocab_size:
            raise ConfigError(
                "share_embeddings='all' needs one vocabulary, got source_vocab_size "
                f"{source_vocab_size} and target_vocab_size {target_vocab_size}"
            )
        check_one_vocabulary(config.pointer, source_vocab_size, target_vocab_size)
        self.config = config

        def embedding(vocab_size: int) -> Embedding:
            return Embedding(
                vocab_size,
                config.model_dim,
                padding_id=config.padding_id,
                scale="sqrt_dim",
                dtype=config.dtype,
                rngs=rngs,
            )

        self.target_embedding = embedding(target_vocab_size)
        self.source_embedding = None if config.share_embeddings == "all" else embedding(source_vocab_size)
        self.output_embedding = (
            Embedding(target_vocab_size, config.model_dim, padding_id=None, scale="none", rngs=rngs)
            if config.share_embeddings == "none"
            else None
        )
        self.encoder = EncoderStack(
            config.encoder_layer_config(),
            config.num_encoder_layers,
            positions=config.positions,
            final_norm=config.has_final_norm,
            rngs=rngs,
        )
        self.decoder = DecoderStack(
            config.decoder_layer_config(),
            config.num_decoder_layers,
            positions=config.positions,
            final_norm=config.has_final_norm,
            rngs=rngs,
        )
        if config.pointer is not None:
            self.pointer = PointerHead(config.pointer, config.model_dim, target_vocab_size, rngs=rngs)

    def __call__(
        self,
        source_tokens: _Tokens,
        source_lengths: _Lengths,
        target_inputs: _Targets,
        *,
        source_segments: _Tokens | None = None,
        target_segments: _Targets | None = None,
        rng_key: jax.Array | None = None,
        scheduled_sampling_rate: Float[Array, ""] | None = None,
    ) -> Float[Array, "batch target_len vocab"]:
        """Logits of the next token after each target input (teacher forcing).

        Args:
          source_tokens: ``[batch, source_len]``.
          source_lengths: Source tokens of each row; what lies behind them changes nothing.
          target_inputs: The target shifted right, ``[batch, target_len]``. Ids of the vocabulary, padding too: another
            id gives NaN logits from there on, and NaN gradients even where its loss does not count.
          source_segments: Where a row holds several pairs, the number of the pair of each source token, in growing
            order and 0 behind the last; ``None`` = one pair a row.
          target_segments: The same of the target tokens; goes with ``source_segments``. Which tokens segment 0 has
            changes nothing.
          rng_key: Draws dropout; ``None`` = evaluation.
          scheduled_sampling_rate: Must be ``None``.

        Returns:
          ``[batch, target_len, vocab]``, float32; with a pointer log-probabilities of the mixture, see `PointerHead`.

        Raises:
          NotImplementedError: If ``scheduled_sampling_rate`` is given, or segments meet linear self-attention.
          ConfigError: If only one side has segments, or segments meet a pointer.
        """
        if self.pointer is not None and scheduled_sampling_rate is None and source_segments is None:
            hidden, weights = self.hidden_with_attention(
                source_tokens, source_lengths, target_inputs, rng_key=rng_key
            )
            source = CopySource(jnp.asarray(source_tokens), jnp.asarray(source_lengths))
            return self.pointer.log_probs(self._logits(hidden), hidden, weights, source)
        hidden = self.hidden(
            source_tokens,
            source_lengths,
            target_inputs,
            source_segments=source_segments,
            target_segments=target_segments,
            rng_key=rng_key,
            scheduled_sampling_rate=scheduled_sampling_rate,
        )
        return self._logits(hidden)

    def hidden(
        self,
        source_tokens: _Tokens,
        source_lengths: _Lengths,
        target_inputs: _Targets,
        *,
        source_segments: _Tokens | None = None,
        target_segments: _Targets | None = None,
        rng_key: jax.Array | None = None,
        scheduled_sampling_rate: Float[Array, ""] | None = None,
    ) -> Float[Array, "batch target_len model"]:
        """As a call, but before the output projection; NaN where the call's logits are."""
        if scheduled_sampling_rate is not None:
            raise NotImplementedError(
                "scheduled_sampling_rate: all target positions are computed at once, so none can feed the "
                "next; leave it None for the Transformer"
            )
        if self.pointer is not None:
            if source_segments is not None or target_segments is not None:
                raise ConfigError(
                    "pointer copies from one source a row: leave the segments of both sides None"
                )
            return self.hidden_with_attention(source_tokens, source_lengths, target_inputs, rng_key=rng_key)[
                0
            ]
        encoder_key, decoder_key = split_key(rng_key, 2)
        if source_segments is None and target_segments is None:
            memories, memory_mask = self._memories(source_tokens, source_lengths, encoder_key)
            embedded, valid = self.target_embedding(target_inputs), self._real_targets(target_inputs)
            return self.decoder(embedded, memories, memory_mask=memory_mask, valid=valid, rng_key=decoder_key)
        if source_segments is None or target_segments is None:
            raise ConfigError("source_segments and target_segments go together; one of them is None")
        if self.config.decoder_self_attention == "linear":
            raise NotImplementedError(
                "target_segments: linear self-attention cannot keep the pairs of a packed row apart; leave them "
                "None, or choose decoder_self_attention='softmax'"
            )
        encoded = self.encoder(
            self._source_embedding()(source_tokens, valid=source_segments > 0),
            mask=AttentionMask.segments(source_segments, source_segments),
            positions=segment_positions(source_segments),
            valid=source_segments > 0,
            rng_key=encoder_key,
        )
        return self.decoder(
            self.target_embedding(target_inputs, valid=target_segments > 0),
            self.decoder.project_memory(encoded),
            mask=AttentionMask.segments(target_segments, target_segments),
            memory_mask=AttentionMask.segments(target_segments, source_segments),
            positions=segment_positions(target_segments),
            valid=target_segments > 0,
            rng_key=decoder_key,
        )

    def hidden_with_attention(
        self,
        source_tokens: _Tokens,
        source_lengths: _Lengths,
        target_inputs: _Targets,
        *,
        rng_key: jax.Array | None = None,
    ) -> tuple[Float[Array, "batch target_len model"], Float[Array, "batch target_len source_len"]]:
        """States before the output projection, and where the last layer looked, the mean of its heads."""
        encoder_key, decoder_key = split_key(rng_key, 2)
        memories, memory_mask = self._memories(source_tokens, source_lengths, encoder_key)
        embedded = self._embedded(target_inputs)
        hidden, weights = self.decoder.with_weights(
            embedded,
            memories,
            memory_mask=memory_mask,
            valid=self._real_targets(target_inputs),
            rng_key=decoder_key,
        )
        return hidden, weights.mean(axis=1)

    def encode(
        self, source_tokens: _Tokens, source_lengths: _Lengths, *, rng_key: jax.Array | None = None
    ) -> Float[Array, "batch source_len model"]:
        """The encoder's output; rows of padding hold numbers without meaning."""
        source_tokens, source_lengths = jnp.asarray(source_tokens), jnp.asarray(source_lengths)
        length = source_tokens.shape[1]
        valid = jnp.arange(length, dtype="int32")[None] < source_lengths[:, None]
        known = source_tokens if self.pointer is None else self.pointer.known(source_tokens)
        embedded = self._source_embedding()(known, valid=valid)
        return self.encoder(
            embedded,
            mask=AttentionMask.from_lengths(source_lengths, length),
            valid=valid,
            rng_key=rng_key,
        )

    def _source_embedding(self) -> Embedding:
        return self.target_embedding if self.source_embedding is None else self.source_embedding

    def start(self, inputs: TokenInputs, *, max_len: int) -> EncoderDecoderState:
        """Read the source and make room for a target.

        Args:
          inputs: The sources ``[batch, source_len]`` and their lengths.
          max_len: How many tokens will be fed to :meth:`step` at most.

        Returns:
          The state before the first target token.

        Raises:
          ShapeError: If learned positions are fewer than ``max_len``.
        """
        source_tokens, source_lengths = jnp.asarray(inputs.tokens), jnp.asarray(inputs.lengths)
        memories, _ = self._memories(source_tokens, source_lengths, None)
        state = self._start(memories, source_lengths, max_len)
        return state if self.pointer is None else replace(state, source_tokens=source_tokens)

    def attention_maps(
        self, source_tokens: _Tokens, source_lengths: _Lengths, target_inputs: _Targets
    ) -> dict[str, Float[Array, "batch heads target_len source_len"]]:
        """Cross-attention weights by teacher forcing, ``decoder_layer_0`` first."""
        memories, memory_mask = self._memories(source_tokens, source_lengths, None)
        return self._maps(memories, memory_mask, target_inputs)

    def _memories(
        self, source_tokens: Array, source_lengths: Array, rng_key: jax.Array | None
    ) -> tuple[tuple[AttentionMemory, ...], AttentionMask]:
        memory = self.encode(source_tokens, source_lengths, rng_key=rng_key)
        mask = AttentionMask.from_lengths(jnp.asarray(source_lengths), memory.shape[1])
        return self.decoder.project_memory(memory), mask
