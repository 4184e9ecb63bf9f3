"""Masked language models: any text encoder with a head for hidden tokens, and one for the order of two parts."""

import dataclasses
from typing import ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.bounds import check_bounds
from transformer_jax.errors import ConfigError, check_choice
from transformer_jax.models.sizes import Sizes
from transformer_jax.models.text_encoders import TextEncoder
from transformer_jax.nn.feed_forward import ACTIVATIONS, Activation
from transformer_jax.nn.linear import Linear
from transformer_jax.nn.norms import LayerNorm
from transformer_jax.typing import Array, Float, Int

__all__ = ["EncoderOnly", "EncoderOnlyConfig"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderOnlyConfig:
    """A masked language model; with a `TransformerTextEncoder` and its defaults it is BERT.

    Attributes:
      kind: Tag of the union of model configs.
      encoder: What turns tokens into vectors.
      activation: Of the head for hidden tokens.
      norm_epsilon: Added to the variance in the head's normalisation.
      order_head: Whether there is a head for the order of the two parts of a text, as ``data.sentence_order`` wants it.

    Raises:
      ConfigError: If a value is out of range, or the activation is a gated one.

    Example:
      >>> from transformer_jax.models.presets import bert_encoder
      >>> EncoderOnlyConfig(encoder=bert_encoder("tiny", max_len=128)).source_limit
      128
    """

    sizes_needed: ClassVar[tuple[str, ...]] = ("vocab_size",)

    kind: Literal["encoder_only"] = "encoder_only"
    encoder: TextEncoder
    activation: Activation = "gelu"
    norm_epsilon: float = 1e-12
    order_head: bool = False

    def __post_init__(self) -> None:
        check_bounds(self)
        check_choice("activation", self.activation, get_args(Activation))
        if self.activation not in ACTIVATIONS:
            raise ConfigError(f"activation of the head must not be gated, got {self.activation!r}")
        if not 0.0 < self.norm_epsilon < 1.0:
            raise ConfigError(f"norm_epsilon must be above 0 and below 1, got {self.norm_epsilon}")

    @property
    def source_limit(self) -> int | None:
        """The longest text that the encoder can take, in tokens; None = no limit."""
        return self.encoder.source_limit

    def build(self, sizes: Sizes, *, rngs: nnx.Rngs) -> "EncoderOnly":
        """The model for these sizes."""
        return EncoderOnly(self, vocab_size=sizes.need("vocab_size"), rngs=rngs)


class EncoderOnly(nnx.Module):
    r"""Probabilities of the token at each place of a text, from all of the text.

    .. math::
      p(x_t \mid \tilde x) = \mathrm{softmax}\bigl(E\, \mathrm{norm}(\phi(W h_t + b)) + c\bigr), \qquad
      h = \mathrm{encoder}(\tilde x)

    :math:`E` is the encoder's own table of embeddings. The head for the order reads the vector of the start token
    through a layer with tanh, as BERT's pooler does.

    Args:
      config: Encoder and heads.
      vocab_size: Tokens of the vocabulary.
      rngs: Source of the initial parameters.

    Example:
      >>> from transformer_jax.models.presets import bert_encoder
      >>> model = EncoderOnly(EncoderOnlyConfig(encoder=bert_encoder("tiny")), vocab_size=9, rngs=nnx.Rngs(0))
      >>> model(jnp.ones((2, 5), int), lengths=jnp.array([5, 2])).shape
      (2, 5, 9)

    Source: Devlin et al. 2019, https://arxiv.org/abs/1810.04805, section 3.1; the order of two parts: Lan et al. 2020,
    https://arxiv.org/abs/1909.11942, section 3.1.
    """

    def __init__(self, config: EncoderOnlyConfig, *, vocab_size: int, rngs: nnx.Rngs) -> None:
        self.config = config
        self.encoder = config.encoder.build(vocab_size, rngs=rngs)
        width = self.encoder.embedding.embedding.shape[1]
        features = config.encoder.output_dim
        self.head = Linear(features, (width,), use_bias=True, rngs=rngs)
        self.head_norm = LayerNorm(width, epsilon=config.norm_epsilon)
        self.output_bias = nnx.Param(jnp.zeros(vocab_size, jnp.float32))
        self.pooler = Linear(features, (features,), use_bias=True, rngs=rngs) if config.order_head else None
        self.order = Linear(features, (2,), use_bias=True, rngs=rngs) if config.order_head else None

    def __call__(
        self,
        tokens: Int[Array, "batch len"],
        *,
        lengths: Int[Array, " batch"],
        rng_key: jax.Array | None = None,
    ) -> Float[Array, "batch len vocab"]:
        """Logits of the token at each place.

        Args:
          tokens: ``[batch, len]``. An id outside of the vocabulary gives NaN in its row.
          lengths: Tokens of each row; what lies behind them changes nothing.
          rng_key: Draws dropout; ``None`` = evaluation.

        Raises:
          ShapeError: If there are more tokens than learned positions.
        """
        return self.logits(self.encoder(tokens, lengths=lengths, rng_key=rng_key))

    def hidden(self, vectors: Float[Array, "*batch features"]) -> Float[Array, "*batch embedding"]:
        """The encoder's vectors of some places as they meet the table of embeddings.

        Args:
          vectors: Of any places, so that only those are computed that a loss counts.
        """
        return self.head_norm(ACTIVATIONS[self.config.activation](self.head(vectors)))

    def logits(self, vectors: Float[Array, "*batch features"]) -> Float[Array, "*batch vocab"]:
        """Logits of the tokens at some places, float32."""
        logits = self.encoder.embedding.attend(self.hidden(vectors))
        return logits + jnp.broadcast_to(self.output_bias[...], logits.shape)

    def output_projection(self) -> tuple[Float[Array, "vocab embedding"], Float[Array, " vocab"]]:
        """The table and the bias that turn `hidden` into logits."""
        return self.encoder.embedding.table(), self.output_bias[...]

    def order_logits(self, vectors: Float[Array, "batch len features"]) -> Float[Array, "batch two"]:
        """Logits of the parts' order: kept, exchanged.

        Args:
          vectors: The encoder's.

        Raises:
          ConfigError: If the model has no head for it.
        """
        if self.pooler is None or self.order is None:
            raise ConfigError(
                "the model has no head for the order of two parts: build it with order_head=True"
            )
        return self.order(jnp.tanh(self.pooler(vectors[:, 0]))).astype(jnp.float32)
