"""Classifiers: any text encoder, a pooling, and a linear map to the classes, with or without a hidden layer."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.bounds import Width, check_at_least, check_bounds
from transformer_jax.functional import dropout, split_key
from transformer_jax.functional.dropout import check_rate
from transformer_jax.models.poolings import MeanPool, Pool
from transformer_jax.models.sizes import Sizes
from transformer_jax.models.text_encoders import TextEncoder
from transformer_jax.nn.linear import Linear
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Float, Int

__all__ = ["Classifier", "ClassifierConfig", "ClassifierOutput"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """A classifier of whole texts.

    Attributes:
      kind: Tag of the union of model configs.
      encoder: What turns tokens into vectors.
      pooling: How the vectors of a text become one.
      hidden_dim: Width of a hidden layer of rectified units behind the pooling; ``None`` = none.
      dropout_rate: On the pooled vector, and on the hidden layer.

    Raises:
      ConfigError: If a size or a rate is out of range.

    Example:
      >>> from transformer_jax.models.poolings import StructuredPool
      >>> from transformer_jax.models.text_encoders import RecurrentTextEncoder
      >>> encoder = RecurrentTextEncoder(cell="lstm", embedding_dim=8, hidden_dim=8, num_layers=1)
      >>> ClassifierConfig(encoder=encoder, pooling=StructuredPool(num_hops=2)).source_limit is None
      True
    """

    sizes_needed: ClassVar[tuple[str, ...]] = ("vocab_size", "num_classes")

    kind: Literal["classifier"] = "classifier"
    encoder: TextEncoder
    pooling: Pool = dataclasses.field(default_factory=MeanPool)
    hidden_dim: Width | None = None
    dropout_rate: float = 0.0

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(1, hidden_dim=self.hidden_dim)
        check_rate("dropout_rate", self.dropout_rate)

    @property
    def source_limit(self) -> int | None:
        """The longest text that the encoder can take, in tokens; None = no limit."""
        return self.encoder.source_limit

    def build(self, sizes: Sizes, *, rngs: nnx.Rngs) -> "Classifier":
        """The model for these sizes."""
        return Classifier(
            self, vocab_size=sizes.need("vocab_size"), num_classes=sizes.need("num_classes"), rngs=rngs
        )


@pytree_dataclass
class ClassifierOutput:
    """What a classifier makes of a batch.

    Attributes:
      logits: ``[batch, classes]``, float32.
      weights: ``[batch, hops, len]``: how much of the pooled vector is of each token; one hop but for structured
        self-attention.
    """

    logits: Float[Array, "batch classes"]
    weights: Float[Array, "batch hops len"]


class Classifier(nnx.Module):
    r"""One class of each text.

    .. math:: p(c \mid x) = \mathrm{softmax}(W\, \mathrm{pool}(\mathrm{encoder}(x)) + b)_c

    With a hidden layer, :math:`\max(0, V \mathrm{pool}(\cdot) + a)` stands in the place of the pooled vector.

    Args:
      config: Encoder, pooling and head.
      vocab_size: Tokens of the vocabulary.
      num_classes: Classes.
      rngs: Source of the initial parameters.

    Example:
      >>> from transformer_jax.models.text_encoders import TokenVectors
      >>> model = Classifier(
      ...   ClassifierConfig(encoder=TokenVectors(embedding_dim=4)), vocab_size=7, num_classes=3, rngs=nnx.Rngs(0))
      >>> model(jnp.ones((2, 5), int), lengths=jnp.array([5, 2])).shape
      (2, 3)

    Source: Lin et al. 2017, https://arxiv.org/abs/1703.03130, for structured self-attention over a bidirectional LSTM.
    """

    def __init__(
        self, config: ClassifierConfig, *, vocab_size: int, num_classes: int, rngs: nnx.Rngs
    ) -> None:
        self.config = config
        self.encoder = config.encoder.build(vocab_size, rngs=rngs)
        self.pooling = config.pooling.build(config.encoder, rngs=rngs)
        width = config.pooling.output_dim(config.encoder.output_dim)
        self.hidden = (
            None
            if config.hidden_dim is None
            else Linear(width, (config.hidden_dim,), use_bias=True, rngs=rngs)
        )
        self.output = Linear(config.hidden_dim or width, (num_classes,), use_bias=True, rngs=rngs)

    def __call__(
        self,
        tokens: Int[Array, "batch len"],
        *,
        lengths: Int[Array, " batch"],
        rng_key: jax.Array | None = None,
    ) -> Float[Array, "batch classes"]:
        """Logits of the classes, see `outputs`."""
        return self.outputs(tokens, lengths=lengths, rng_key=rng_key).logits

    def outputs(
        self,
        tokens: Int[Array, "batch len"],
        *,
        lengths: Int[Array, " batch"],
        rng_key: jax.Array | None = None,
    ) -> ClassifierOutput:
        """Logits, and the tokens that the pooling looked at.

        Args:
          tokens: ``[batch, len]``. An id outside of the vocabulary gives NaN in its row.
          lengths: Tokens of each row; what lies behind them changes nothing. A text of no tokens is given the logits
            of a pooled vector of zeros.
          rng_key: Draws dropout; ``None`` = evaluation.

        Returns:
          Logits and weights.

        Raises:
          ShapeError: If there are more tokens than learned positions.
        """
        keys = split_key(rng_key, 3)
        encoded = self.encoder(tokens, lengths=lengths, rng_key=keys[0])
        pooled, weights = self.pooling.with_weights(encoded, lengths=jnp.asarray(lengths))
        pooled = dropout(pooled, self.config.dropout_rate, keys[1])
        if self.hidden is not None:
            pooled = dropout(jax.nn.relu(self.hidden(pooled)), self.config.dropout_rate, keys[2])
        logits = self.output(pooled).astype(jnp.float32)
        return ClassifierOutput(logits, weights if weights.ndim == 3 else weights[:, None, :])
