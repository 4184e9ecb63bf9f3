"""The decoder-only Transformer (GPT) and its variants as values: one causal stack that predicts the next token."""

import dataclasses
import math
from typing import ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.bounds import Layers, Length, check_at_least
from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional import AttentionMask, segment_positions
from transformer_jax.functional.dtypes import ComputeDtype, in_compute_dtype
from transformer_jax.models.sizes import Sizes
from transformer_jax.models.transformer_choices import (
    TransformerFields,
    check_choices,
    draw_normal_weights,
    layer_config_of,
)
from transformer_jax.nn.causal_stack import CausalStack
from transformer_jax.nn.embeddings import Embedding
from transformer_jax.nn.feed_forward import Activation
from transformer_jax.nn.pooling import valid_steps
from transformer_jax.nn.position_encodings import Learned, Positions
from transformer_jax.nn.rolling_cache import RollingCache, SelfAttentionCache
from transformer_jax.nn.stacks import check_stack
from transformer_jax.nn.transformer_layers import SelfAttention, TransformerLayerConfig
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Float, Int

__all__ = ["DecoderOnly", "DecoderOnlyConfig", "DecoderOnlyState"]

_Tokens = Int[Array, "batch len"]
_PIECE = 128  # tokens of a prompt that a model with a window reads at once, at least


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderOnlyConfig(TransformerFields):
    """Everything of a decoder-only Transformer but the vocabulary; defaults are GPT-2's choices.

    What is not named here is as in `TransformerFields`.

    Attributes:
      kind: Tag of the union of model configs.
      num_layers: Layers.
      positions: How the order of tokens is learned.
      use_bias: Whether linear maps and layer normalisation have a bias.
      self_attention: ``"softmax"``; ``"linear"``: a step of decoding costs the same however long the text is.
      window_len: How many tokens a query sees, the last ones and itself; ``None`` = all before it. Decoding keeps no
        more keys and values than these.
      num_sinks: How many of the first tokens of a text all queries see beside their window, at their positions in
        the text (Xiao et al. 2024).
      tied: Whether the token embedding is the output projection too.
      scale_embeddings: Whether embeddings are multiplied by the root of ``model_dim``, as sinusoidal positions want.
      weight_deviation: Standard deviation of the initial embeddings and matrices, which is divided by
        ``sqrt(2 * num_layers)`` for those that write to the residual stream; ``None`` = Glorot-uniform matrices.
      dtype: Of matrix products and activations; parameters, statistics of norms and softmax are float32.

    Raises:
      ConfigError: If a size is below one or above its bound (`transformer_jax.bounds`), a rate is no probability, a
        name is unknown, or linear self-attention meets grouped heads, dropout of attention weights, a window, or
        positions inside attention.
      ShapeError: If the numbers of heads do not divide.

    Example:
      >>> from transformer_jax.nn.position_encodings import Rotary
      >>> config = DecoderOnlyConfig(
      ...   model_dim=8, num_heads=2, num_kv_heads=1, feed_forward_dim=16, num_layers=1, positions=Rotary())
      >>> config.context_len is None
      True
    """

    sizes_needed: ClassVar[tuple[str, ...]] = ("vocab_size",)

    kind: Literal["decoder_only"] = "decoder_only"
    num_layers: Layers
    positions: Positions
    activation: Activation = "gelu_tanh"
    use_bias: bool = True
    self_attention: SelfAttention = "softmax"
    window_len: Length | None = None
    num_sinks: Length = 0
    tied: bool = True
    scale_embeddings: bool = False
    weight_deviation: float | None = 0.02
    dtype: ComputeDtype = "float32"

    def __post_init__(self) -> None:
        check_choices(
            self,
            counts=("num_layers", "window_len"),
            bidirectional=(False,),
            further={"self_attention": get_args(SelfAttention)},
        )
        check_at_least(0, num_sinks=self.num_sinks)
        if self.num_sinks > 0 and self.window_len is None:
            raise ConfigError(f"num_sinks must be 0 without window_len, got {self.num_sinks}")
        check_stack(self.layer_config(), self.positions)

    @property
    def context_len(self) -> int | None:
        """The longest text that the model can take, in tokens, limited by learned positions; None = no limit."""
        return self.positions.max_len if isinstance(self.positions, Learned) else None

    def build(self, sizes: Sizes, *, rngs: nnx.Rngs) -> "DecoderOnly":
        """The model for these sizes."""
        return DecoderOnly(self, vocab_size=sizes.need("vocab_size"), rngs=rngs)

    def layer_config(self) -> TransformerLayerConfig:
        """Sizes and choices of every layer."""
        return layer_config_of(
            self, attention_bias=self.use_bias, feed_forward_bias=self.use_bias, norm_bias=self.use_bias
        )


@pytree_dataclass
class DecoderOnlyState:
    """Decoding state: the batch is axis 0 of every leaf.

    Attributes:
      caches: Each layer's keys and values of the tokens so far, or linear attention's state of one size.
    """

    caches: tuple[SelfAttentionCache, ...]


class DecoderOnly(nnx.Module):
    r"""A causal Transformer over one text.

    .. math:: p(x) = \prod_t \mathrm{softmax}(E\, h_t)_{x_{t+1}}, \quad h = \mathrm{stack}(E_{x_{\le t}} + P)

    Args:
      config: Sizes and choices.
      vocab_size: Tokens of the vocabulary.
      rngs: Source of the initial parameters.

    Example:
      >>> config = DecoderOnlyConfig(
      ...   model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=16, num_layers=1,
      ...   positions=Learned(max_len=6))
      >>> model = DecoderOnly(config, vocab_size=7, rngs=nnx.Rngs(0))
      >>> model(jnp.ones((2, 5), int)).shape
      (2, 5, 7)

    Source: Radford et al. 2019, "Language models are unsupervised multitask learners", section 2.3.
    """

    def __init__(self, config: DecoderOnlyConfig, *, vocab_size: int, rngs: nnx.Rngs) -> None:
        self.config = config
        scale = "sqrt_dim" if config.scale_embeddings else "none"
        self.embedding = Embedding(
            vocab_size, config.model_dim, padding_id=None, scale=scale, dtype=config.dtype, rngs=rngs
        )
        self.stack = CausalStack(
            config.layer_config(),
            config.num_layers,
            positions=config.positions,
            final_norm=config.has_final_norm,
            rngs=rngs,
        )
        self.output_embedding = (
            None
            if config.tied
            else Embedding(
                vocab_size, config.model_dim, padding_id=None, scale="none", dtype=config.dtype, rngs=rngs
            )
        )
        if config.weight_deviation is not None:
            # As GPT-2 begins: what writes to the residual stream adds up over the layers.
            draw_normal_weights(
                [self.embedding]
                if self.output_embedding is None
                else [self.embedding, self.output_embedding],
                self.stack.layers,
                deviation=config.weight_deviation,
                into_stream=config.weight_deviation / math.sqrt(2 * config.num_layers),
                rngs=rngs,
            )

    def __call__(
        self,
        tokens: _Tokens,
        *,
        segments: _Tokens | None = None,
        lengths: Int[Array, " batch"] | None = None,
        rng_key: jax.Array | None = None,
    ) -> Float[Array, "batch len vocab"]:
        """Logits of the next token after each token.

        Args:
          tokens: ``[batch, len]``. Ids of the vocabulary, padding too: another id gives NaN logits from there on.
          segments: Where a row holds several documents, the number of each token's document, in growing order and 0 at
            padding; no token sees another document, and positions start again in each. ``None`` = one text a row.
          lengths: Real tokens of each row, which count in the statistics of norms over the batch; ``None`` = all.
          rng_key: Draws dropout; ``None`` = evaluation.

        Returns:
          ``[batch, len, vocab]``, float32.

        Raises:
          ShapeError: If there are more tokens than learned positions.
        """
        return self._logits(self.hidden(tokens, segments=segments, lengths=lengths, rng_key=rng_key))

    def hidden(
        self,
        tokens: _Tokens,
        *,
        segments: _Tokens | None = None,
        lengths: Int[Array, " batch"] | None = None,
        rng_key: jax.Array | None = None,
    ) -> Float[Array, "batch len model"]:
        """As a call, but before the output projection."""
        tokens = jnp.asarray(tokens)
        if segments is None:
            valid = None if lengths is None else valid_steps(jnp.asarray(lengths), tokens.shape[1])
            return self.stack(self.embedding(tokens), valid=valid, rng_key=rng_key)
        segments = jnp.asarray(segments)
        mask, places = AttentionMask.segments(segments, segments), segment_positions(segments)
        if self.config.num_sinks > 0:  # those of each document
            mask &= AttentionMask.positions(places, places)
        return self.stack(
            self.embedding(tokens, valid=segments > 0),
            mask=mask,
            positions=places,
            valid=segments > 0,
            rng_key=rng_key,
        )

    def output_projection(self) -> tuple[Float[Array, "vocab model"], Float[Array, " vocab"] | None]:
        """The table whose product with the hidden states is the logits, and no bias."""
        return in_compute_dtype(self._output().table(), self.config.dtype), None

    def start(self, inputs: TokenInputs, *, max_len: int) -> DecoderOnlyState:
        """Read the prompts, all rows in one pass, and make room for what follows.

        Args:
          inputs: Tokens ``[batch, prompt_len]``, and how many of them each row has; none is allowed. A long prompt is
            read piece by piece where there is a window.
          max_len: How many tokens will be fed to :meth:`step` at most.

        Returns:
          The state after the prompts.

        Raises:
          ShapeError: If learned positions are fewer than the prompt's tokens or than ``max_len``. Where only both
            together are too many, a token too many gives NaN logits, since the lengths may be traced.
        """
        tokens, lengths = jnp.asarray(inputs.tokens), jnp.asarray(inputs.lengths)
        batch, prompt_len = tokens.shape
        limit = self.config.context_len
        for name, needed in (("the prompt has", prompt_len), ("max_len asks for", max_len)):
            if limit is not None and needed > limit:
                raise ShapeError(f"{name} {needed} tokens, the model has {limit} learned positions")
        capacity = prompt_len + max_len
        if limit is not None:
            capacity = min(capacity, limit)
        dtype = in_compute_dtype(self.embedding.embedding[...], self.config.dtype).dtype
        state = DecoderOnlyState(self.stack.empty_caches(batch, capacity, dtype))
        if prompt_len == 0:
            return state
        valid = jnp.arange(prompt_len, dtype=lengths.dtype)[None, :] < lengths[:, None]
        embedded = self.embedding(tokens, valid=valid)
        first = state.caches[0]
        if isinstance(first, RollingCache):
            piece = max(_PIECE, first.ring.num_slots)
            if prompt_len > 2 * piece:
                return DecoderOnlyState(self._read_by_pieces(embedded, lengths, state.caches, piece))
        return DecoderOnlyState(self.stack.extend(embedded, state.caches, num_valid=lengths)[1])

    def step(
        self, state: DecoderOnlyState, tokens: Int[Array, " batch"]
    ) -> tuple[Float[Array, "batch vocab"], DecoderOnlyState]:
        """Feed one token a row; logits of the next one, and the state after."""
        logits, state = self.extend(state, jnp.asarray(tokens)[:, None])
        return logits[:, 0], state

    def extend(
        self,
        state: DecoderOnlyState,
        tokens: Int[Array, "batch q_len"],
        *,
        num_valid: Int[Array, " batch"] | None = None,
    ) -> tuple[Float[Array, "batch q_len vocab"], DecoderOnlyState]:
        """Feed several tokens a row at once, by the same code as :meth:`step`.

        Args:
          state: The state before.
          tokens: The next tokens, ``[batch, q_len]``.
          num_valid: How many of them count for each row; ``None`` = all.

        Returns:
          Logits after each token, ``[batch, q_len, vocab]``, and the state after.
        """
        hidden, caches = self.stack.extend(self.embedding(tokens), state.caches, num_valid=num_valid)
        return self._logits(hidden), DecoderOnlyState(caches)

    def _read_by_pieces(
        self, embedded: Array, lengths: Array, caches: tuple[SelfAttentionCache, ...], piece: int
    ) -> tuple[SelfAttentionCache, ...]:
        """Caches after a prompt read piece by piece, at a cost linear in its length: a window sees no farther."""
        batch, prompt_len, width = embedded.shape
        count = -(-prompt_len // piece)
        padded = jnp.pad(embedded, ((0, 0), (0, count * piece - prompt_len), (0, 0)))
        pieces = jnp.moveaxis(padded.reshape(batch, count, piece, width), 1, 0)

        def read(
            caches: tuple[SelfAttentionCache, ...], at: tuple[Array, Array]
        ) -> tuple[tuple[SelfAttentionCache, ...], None]:
            index, x = at
            num_valid = jnp.clip(lengths - index * piece, 0, piece)
            return self.stack.extend(x, caches, num_valid=num_valid)[1], None

        return jax.lax.scan(read, caches, (jnp.arange(count, dtype=lengths.dtype), pieces))[0]

    def _output(self) -> Embedding:
        return self.embedding if self.output_embedding is None else self.output_embedding

    def _logits(self, hidden: Array) -> Array:
        return self._output().attend(hidden).astype(jnp.float32)
