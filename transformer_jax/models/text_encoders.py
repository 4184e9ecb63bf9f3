"""Text encoders: one vector for each token, by a Transformer, a recurrent stack, or the embeddings alone.

Classifiers, taggers and masked language models are heads over one of these. The attribute names are the same in every
model that has one (``encoder``, and ``encoder.embedding`` for the table), so that the weights of a pre-trained encoder
fit wherever the same encoder stands.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.bounds import Layers, Width, check_at_least, check_bounds
from transformer_jax.functional import AttentionMask, dropout, split_key
from transformer_jax.functional.dropout import check_rate
from transformer_jax.functional.dtypes import ComputeDtype, check_compute_dtype
from transformer_jax.functional.recurrent import cell_class, check_recurrence_implementation
from transformer_jax.models.transformer_choices import (
    TransformerFields,
    check_choices,
    draw_normal_weights,
    layer_config_of,
)
from transformer_jax.nn.embeddings import Embedding
from transformer_jax.nn.feed_forward import Activation
from transformer_jax.nn.pooling import valid_steps
from transformer_jax.nn.position_encodings import Learned, Positions
from transformer_jax.nn.recurrent import (
    RecurrentNormalization,
    RecurrentNormPlacement,
    RecurrentStack,
    check_recurrent_norm,
)
from transformer_jax.nn.stacks import EncoderStack, check_stack
from transformer_jax.nn.transformer_layers import NormPlacement, TransformerLayerConfig
from transformer_jax.typing import Array, Float, Int

__all__ = [
    "RecurrentEncoder",
    "RecurrentTextEncoder",
    "TextEncoder",
    "TokenVectors",
    "TransformerEncoder",
    "TransformerTextEncoder",
    "VectorEncoder",
]

_Tokens = Int[Array, "batch len"]
_Lengths = Int[Array, " batch"]
_Vectors = Float[Array, "batch len features"]
_Added = Float[Array, "batch len embedding"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerTextEncoder(TransformerFields):
    """A Transformer in which each token sees all others; defaults are BERT's choices.

    What is not named here is as in `TransformerFields`.

    Attributes:
      kind: Tag of the union of text encoders.
      num_layers: Layers.
      positions: How the order of tokens is learned.
      use_bias: Whether linear maps and layer normalisation have a bias.
      embedding_norm: Whether the sum of embeddings and positions is normalised before the first layer, as in BERT.
      scale_embeddings: Whether embeddings are multiplied by the root of ``model_dim``, as sinusoidal positions want.
      weight_deviation: Standard deviation of the initial embeddings and matrices; ``None`` = Glorot-uniform matrices.
      dtype: Of matrix products and activations; parameters, statistics of norms and softmax are float32.

    Raises:
      ConfigError: If a size is below one or above its bound, a rate is no probability, or a name is unknown.
      ShapeError: If the numbers of heads do not divide.

    Example:
      >>> TransformerTextEncoder(
      ...   model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=16, num_layers=1,
      ...   positions=Learned(max_len=64)).source_limit
      64
    """

    kind: Literal["transformer"] = "transformer"
    num_layers: Layers
    positions: Positions
    attention_dropout_rate: float = 0.1
    norm_placement: NormPlacement = "post"
    norm_epsilon: float = 1e-12
    activation: Activation = "gelu"
    use_bias: bool = True
    embedding_norm: bool = True
    scale_embeddings: bool = False
    weight_deviation: float | None = 0.02
    dtype: ComputeDtype = "float32"

    def __post_init__(self) -> None:
        check_choices(self, counts=("num_layers",), bidirectional=(True,))
        check_stack(self.layer_config(), self.positions)

    @property
    def output_dim(self) -> int:
        """Width of a token's vector."""
        return self.model_dim

    @property
    def source_limit(self) -> int | None:
        """The longest text that the encoder can take, in tokens, limited by learned positions; None = no limit."""
        return self.positions.max_len if isinstance(self.positions, Learned) else None

    def layer_config(self) -> TransformerLayerConfig:
        """Sizes and choices of every layer."""
        return layer_config_of(
            self,
            self_attention="softmax",
            attention_bias=self.use_bias,
            feed_forward_bias=self.use_bias,
            norm_bias=self.use_bias,
        )

    def build(self, vocab_size: int, *, rngs: nnx.Rngs) -> "TransformerEncoder":
        """The encoder for a vocabulary of this size."""
        return TransformerEncoder(self, vocab_size=vocab_size, rngs=rngs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurrentTextEncoder:
    """A recurrent stack over the embeddings, in one direction or in both.

    Attributes:
      kind: Tag of the union of text encoders.
      cell: The cell of all layers, one of :func:`~transformer_jax.functional.recurrent.cell_kinds`.
      embedding_dim: Width of the token embeddings.
      hidden_dim: Width of a cell's state, in each direction.
      num_layers: Layers.
      bidirectional: Whether a second cell reads from the end; the vectors are twice as wide then.
      dropout_rate: On embeddings and between layers.
      token_dropout_rate: Of whole tokens: the share whose vectors are zero in training (word dropout).
      residual: Add the input of every layer but the first to its output.
      dtype: Of matrix products and activations; parameters, gates and carries are float32.
      recurrence_implementation: See :func:`~transformer_jax.functional.recurrent.recurrence`; ``None`` = the first that
        can.
      normalization: Of what goes from layer to layer, ``"layer"`` or ``"rms"``; ``"none"`` = as it is.
      norm_placement: ``"post"``: of each layer's output, after ``residual`` was added; ``"pre"``: of the input of every
        layer but the first.

    Raises:
      ConfigError: If a size, a rate or a name is out of range.

    Example:
      >>> RecurrentTextEncoder(cell="lstm", embedding_dim=4, hidden_dim=6, num_layers=1).output_dim
      12
    """

    kind: Literal["recurrent"] = "recurrent"
    cell: str
    embedding_dim: Width
    hidden_dim: Width
    num_layers: Layers
    bidirectional: bool = True
    dropout_rate: float = 0.0
    token_dropout_rate: float = 0.0
    residual: bool = False
    dtype: ComputeDtype = "float32"
    recurrence_implementation: str | None = None
    normalization: RecurrentNormalization = "none"
    norm_placement: RecurrentNormPlacement = "post"

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(
            1, embedding_dim=self.embedding_dim, hidden_dim=self.hidden_dim, num_layers=self.num_layers
        )
        cell_class(self.cell)
        check_rate("dropout_rate", self.dropout_rate)
        check_rate("token_dropout_rate", self.token_dropout_rate)
        check_recurrent_norm(self.normalization, self.norm_placement, num_layers=self.num_layers)
        check_compute_dtype("dtype", self.dtype)
        check_recurrence_implementation("recurrence_implementation", self.recurrence_implementation)

    @property
    def output_dim(self) -> int:
        """Width of a token's vector."""
        return self.hidden_dim * (2 if self.bidirectional else 1)

    @property
    def source_limit(self) -> int | None:
        """None: a recurrent encoder reads texts of any length."""
        return None

    def build(self, vocab_size: int, *, rngs: nnx.Rngs) -> "RecurrentEncoder":
        """The encoder for a vocabulary of this size."""
        return RecurrentEncoder(self, vocab_size=vocab_size, rngs=rngs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenVectors:
    """The embeddings alone: no token knows of another.

    Attributes:
      kind: Tag of the union of text encoders.
      embedding_dim: Width of the token embeddings, and of the vectors.
      dropout_rate: On the embeddings.

    Example:
      >>> TokenVectors(embedding_dim=4).output_dim
      4
    """

    kind: Literal["vectors"] = "vectors"
    embedding_dim: Width
    dropout_rate: float = 0.0

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(1, embedding_dim=self.embedding_dim)
        check_rate("dropout_rate", self.dropout_rate)

    @property
    def output_dim(self) -> int:
        """Width of a token's vector."""
        return self.embedding_dim

    @property
    def source_limit(self) -> int | None:
        """None: texts of any length."""
        return None

    def build(self, vocab_size: int, *, rngs: nnx.Rngs) -> "VectorEncoder":
        """The encoder for a vocabulary of this size."""
        return VectorEncoder(self, vocab_size=vocab_size, rngs=rngs)


TextEncoder = TransformerTextEncoder | RecurrentTextEncoder | TokenVectors
"""Union of the text encoders' configs."""


class TransformerEncoder(nnx.Module):
    r"""Embeddings and positions through layers of self-attention over the whole text.

    .. math:: h = \mathrm{stack}(\mathrm{norm}(E_x + P))

    Args:
      config: Sizes and choices.
      vocab_size: Tokens of the vocabulary.
      rngs: Source of the initial parameters.

    Example:
      >>> from transformer_jax.nn.position_encodings import Rotary
      >>> config = TransformerTextEncoder(
      ...   model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=16, num_layers=1, positions=Rotary())
      >>> encoder = config.build(7, rngs=nnx.Rngs(0))
      >>> encoder(jnp.ones((2, 5), int), lengths=jnp.array([5, 2])).shape
      (2, 5, 8)

    Source: Devlin et al. 2019, https://arxiv.org/abs/1810.04805, section 3.
    """

    def __init__(self, config: TransformerTextEncoder, *, vocab_size: int, rngs: nnx.Rngs) -> None:
        self.config = config
        self.embedding = Embedding(
            vocab_size,
            config.model_dim,
            padding_id=None,
            scale="sqrt_dim" if config.scale_embeddings else "none",
            dtype=config.dtype,
            rngs=rngs,
        )
        self.stack = EncoderStack(
            config.layer_config(),
            config.num_layers,
            positions=config.positions,
            final_norm=config.has_final_norm,
            embedding_norm=config.embedding_norm,
            rngs=rngs,
        )
        if config.weight_deviation is not None:
            deviation = config.weight_deviation
            draw_normal_weights(
                [self.embedding], self.stack.layers, deviation=deviation, into_stream=deviation, rngs=rngs
            )

    def __call__(
        self,
        tokens: _Tokens,
        *,
        lengths: _Lengths,
        added: _Added | None = None,
        rng_key: jax.Array | None = None,
    ) -> _Vectors:
        """A vector for each token.

        Args:
          tokens: ``[batch, len]``. An id outside of the vocabulary gives NaN in its row.
          lengths: Tokens of each row; what lies behind them may be anything and changes nothing.
          added: Added to the embedding of each token, as what else is known of it; of the embedding's width.
          rng_key: Draws dropout; ``None`` = evaluation.

        Returns:
          ``[batch, len, output_dim]``, zeros behind each row's length.

        Raises:
          ShapeError: If there are more tokens than learned positions.
        """
        tokens, lengths = jnp.asarray(tokens), jnp.asarray(lengths)
        valid = valid_steps(lengths, tokens.shape[1])
        mask = AttentionMask.from_lengths(lengths, tokens.shape[1])
        embedded = _plus(self.embedding(tokens, valid=valid), added)
        encoded = self.stack(embedded, mask=mask, valid=valid, rng_key=rng_key)
        return jnp.where(valid[..., None], encoded, jnp.zeros_like(encoded))


class RecurrentEncoder(nnx.Module):
    r"""Embeddings through a recurrent stack.

    .. math:: h_t = [\overrightarrow{h}_t; \overleftarrow{h}_t]

    Args:
      config: Sizes and choices.
      vocab_size: Tokens of the vocabulary.
      rngs: Source of the initial parameters.

    Example:
      >>> config = RecurrentTextEncoder(cell="gru", embedding_dim=4, hidden_dim=6, num_layers=1)
      >>> encoder = config.build(7, rngs=nnx.Rngs(0))
      >>> encoder(jnp.ones((2, 5), int), lengths=jnp.array([5, 2])).shape
      (2, 5, 12)

    Source: Schuster & Paliwal 1997, https://doi.org/10.1109/78.650093; word dropout: Iyyer et al. 2015,
    https://aclanthology.org/P15-1162, section 4.
    """

    def __init__(self, config: RecurrentTextEncoder, *, vocab_size: int, rngs: nnx.Rngs) -> None:
        self.config = config
        # Unit variance, as the Glorot-uniform weights expect.
        self.embedding = Embedding(
            vocab_size,
            config.embedding_dim,
            padding_id=None,
            scale="sqrt_dim",
            dtype=config.dtype,
            rngs=rngs,
        )
        self.stack = RecurrentStack(
            config.cell,
            config.embedding_dim,
            config.hidden_dim,
            config.num_layers,
            bidirectional=config.bidirectional,
            dropout_rate=config.dropout_rate,
            residual=config.residual,
            dtype=config.dtype,
            implementation=config.recurrence_implementation,
            normalization=config.normalization,
            norm_placement=config.norm_placement,
            rngs=rngs,
        )

    def __call__(
        self,
        tokens: _Tokens,
        *,
        lengths: _Lengths,
        added: _Added | None = None,
        rng_key: jax.Array | None = None,
    ) -> _Vectors:
        """A vector for each token, see `TransformerEncoder`."""
        tokens, lengths = jnp.asarray(tokens), jnp.asarray(lengths)
        embedding_key, stack_key = split_key(rng_key, 2)
        embedded = _plus(self.embedding(tokens, valid=valid_steps(lengths, tokens.shape[1])), added)
        embedded = dropout(embedded, self.config.dropout_rate, embedding_key)
        if rng_key is not None and self.config.token_dropout_rate:
            # A key of its own, so that runs without it draw what they drew before there was such a rate.
            token_key = jax.random.fold_in(rng_key, 2)
            kept = dropout(jnp.ones_like(embedded[..., :1]), self.config.token_dropout_rate, token_key)
            embedded = embedded * jnp.broadcast_to(kept, embedded.shape)
        outputs, _ = self.stack(embedded, lengths=lengths, rng_key=stack_key)
        return outputs


class VectorEncoder(nnx.Module):
    r"""The embeddings alone.

    .. math:: h_t = E_{x_t}

    Args:
      config: Width and dropout.
      vocab_size: Tokens of the vocabulary.
      rngs: Source of the initial parameters.

    Example:
      >>> encoder = TokenVectors(embedding_dim=4).build(7, rngs=nnx.Rngs(0))
      >>> encoder(jnp.ones((1, 2), int), lengths=jnp.array([1]))[0, 1].tolist()
      [0.0, 0.0, 0.0, 0.0]
    """

    def __init__(self, config: TokenVectors, *, vocab_size: int, rngs: nnx.Rngs) -> None:
        self.config = config
        self.embedding = Embedding(
            vocab_size, config.embedding_dim, padding_id=None, scale="sqrt_dim", rngs=rngs
        )

    def __call__(
        self,
        tokens: _Tokens,
        *,
        lengths: _Lengths,
        added: _Added | None = None,
        rng_key: jax.Array | None = None,
    ) -> _Vectors:
        """A vector for each token, see `TransformerEncoder`."""
        tokens = jnp.asarray(tokens)
        valid = valid_steps(jnp.asarray(lengths), tokens.shape[1])
        vectors = _plus(self.embedding(tokens, valid=valid), added)
        vectors = dropout(vectors, self.config.dropout_rate, rng_key)
        return jnp.where(valid[..., None], vectors, jnp.zeros_like(vectors))


def _plus(embedded: Array, added: Array | None) -> Array:
    return embedded if added is None else embedded + added.astype(embedded.dtype)
