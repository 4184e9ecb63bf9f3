"""Taggers: a label for each word over any text encoder, by itself or in a chain, and a class of the sentence."""

import dataclasses
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.errors import ConfigError, ShapeError, check_choice
from transformer_jax.functional import dropout, split_key
from transformer_jax.functional.crf import ChainScores, crf_decode, crf_marginals
from transformer_jax.functional.dropout import check_rate
from transformer_jax.models.sizes import Sizes
from transformer_jax.models.text_encoders import TextEncoder
from transformer_jax.nn.linear import Linear
from transformer_jax.nn.pooling import MaxPooling, MeanPooling, valid_steps
from transformer_jax.nn.random_field import ConditionalRandomField
from transformer_jax.nn.word_letters import WordLetters
from transformer_jax.typing import Array, Float, Int

__all__ = ["Tagger", "TaggerConfig", "TaggerOutput", "TaggerPrediction"]

_Tokens = Int[Array, "batch len"]
_Lengths = Int[Array, " batch"]

_UNKNOWN_ID, _FIRST_ORDINARY_ID = 1, 4  # of every vocabulary of the library


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaggerConfig:
    """A tagger.

    Attributes:
      kind: Tag of the union of model configs.
      encoder: What turns the words of a sentence into vectors.
      letters: Makes a vector of each word's letters, which is mapped to the width of the word's own and added to it;
        None where words are known by their ids alone.
      crf: Whether labels form a chain whose neighbours have scores (a conditional random field), or each is on its own.
      class_pooling: How the class of a sentence, where the task gives classes, reads the encoder's vectors.
      class_feedback: Whether the probabilities of the classes, where there are any, add to the scores of the labels.
      word_dropout_rate: Share of the words that become unknown in training, so that the unknown id learns what a word
        without a vector of its own may be; letters stay.
      dropout_rate: On the encoder's vectors before labels and class are read.

    Raises:
      ConfigError: If a rate or a name is out of range.

    Example:
      >>> from transformer_jax.models.text_encoders import RecurrentTextEncoder
      >>> encoder = RecurrentTextEncoder(cell="lstm", embedding_dim=4, hidden_dim=6, num_layers=1)
      >>> TaggerConfig(encoder=encoder, crf=True).source_limit is None
      True
    """

    sizes_needed: ClassVar[tuple[str, ...]] = ("vocab_size", "num_labels")

    kind: Literal["tagger"] = "tagger"
    encoder: TextEncoder
    letters: WordLetters | None = None
    crf: bool = False
    class_pooling: Literal["mean", "max"] = "max"
    class_feedback: bool = False
    word_dropout_rate: float = 0.0
    dropout_rate: float = 0.0

    def __post_init__(self) -> None:
        check_rate("word_dropout_rate", self.word_dropout_rate)
        check_rate("dropout_rate", self.dropout_rate)
        check_choice("class_pooling", self.class_pooling, ("mean", "max"))

    @property
    def source_limit(self) -> int | None:
        """The longest sentence that the model can take, in words; None = no limit."""
        return self.encoder.source_limit

    def build(self, sizes: Sizes, *, rngs: nnx.Rngs) -> "Tagger":
        """The model for these sizes; it has a class head where there are classes."""
        return Tagger(
            self,
            vocab_size=sizes.need("vocab_size"),
            num_labels=sizes.need("num_labels"),
            num_classes=sizes.num_classes,
            rngs=rngs,
        )


class TaggerOutput(NamedTuple):
    """Scores before any softmax, float32.

    Attributes:
      labels: ``[batch, len, labels]``; of a chain, the score of each label by itself.
      classes: ``[batch, classes]``; None where sentences have no class.
    """

    labels: Float[Array, "batch len labels"]
    classes: Float[Array, "batch classes"] | None


class TaggerPrediction(NamedTuple):
    """The most probable labels and class.

    Attributes:
      labels: ``[batch, len]``, the best path of a chain, else the best label of each word; -1 in the padding.
      probabilities: ``[batch, len]``, marginal probability of each of these labels; 0 in the padding.
      classes: ``[batch]``; None where sentences have none.
      class_probabilities: ``[batch]``.
    """

    labels: Int[Array, "batch len"]
    probabilities: Float[Array, "batch len"]
    classes: Int[Array, " batch"] | None
    class_probabilities: Float[Array, " batch"] | None


class Tagger(nnx.Module):
    r"""Heads over a text encoder.

    .. math::
      h = \mathrm{encoder}(E_x + V\,\mathrm{letters}(x)), \quad s_t = W h_t + b, \quad
      c = W' \mathrm{pool}(h) + b'

    With ``class_feedback`` the scores of labels are :math:`s_t + U\,\mathrm{softmax}(c)`.

    Args:
      config: Sizes and choices.
      vocab_size: Words of the vocabulary.
      num_labels: Labels of words.
      num_classes: Classes of sentences; None where they have none.
      rngs: Source of the initial parameters.

    Example:
      >>> from transformer_jax.models.text_encoders import TokenVectors
      >>> config = TaggerConfig(encoder=TokenVectors(embedding_dim=4), crf=True)
      >>> model = Tagger(config, vocab_size=9, num_labels=3, num_classes=2, rngs=nnx.Rngs(0))
      >>> output = model(jnp.ones((2, 5), int), lengths=jnp.array([5, 2]))
      >>> output.labels.shape, output.classes.shape
      ((2, 5, 3), (2, 2))

    Source: Huang et al. 2015, https://arxiv.org/abs/1508.01991; Lample et al. 2016, https://arxiv.org/abs/1603.01360;
    slots and intent together: Liu & Lane 2016, https://arxiv.org/abs/1609.01454; labels that know the class: Qin et al.
    2019, https://aclanthology.org/D19-1214, section 3.2, there for each word.
    """

    def __init__(
        self,
        config: TaggerConfig,
        *,
        vocab_size: int,
        num_labels: int,
        num_classes: int | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        self.config = config
        self.encoder = config.encoder.build(vocab_size, rngs=rngs)
        width = self.encoder.embedding.embedding.shape[1]
        self.letters = None if config.letters is None else config.letters.build(rngs=rngs)
        self.letter_map = (
            None
            if config.letters is None
            else Linear(config.letters.output_dim, (width,), use_bias=False, rngs=rngs)
        )
        self.label_head = Linear(config.encoder.output_dim, (num_labels,), use_bias=True, rngs=rngs)
        self.chain = ConditionalRandomField(num_labels) if config.crf else None
        self.class_head = (
            None
            if num_classes is None
            else Linear(config.encoder.output_dim, (num_classes,), use_bias=True, rngs=rngs)
        )
        self.class_map = (
            Linear(num_classes, (num_labels,), use_bias=False, rngs=rngs)
            if config.class_feedback and num_classes is not None
            else None
        )
        self.num_labels = num_labels

    def __call__(
        self,
        tokens: _Tokens,
        *,
        lengths: _Lengths,
        letters: Int[Array, "batch len letters"] | None = None,
        first_pieces: Int[Array, "batch len"] | None = None,
        rng_key: jax.Array | None = None,
    ) -> TaggerOutput:
        """Scores of labels and classes.

        Args:
          tokens: ``[batch, len]``, ids of words, or of pieces of words.
          lengths: Tokens of each row; what lies behind them changes nothing.
          letters: ``[batch, len, letters]``, for a model that reads them.
          first_pieces: ``[batch, len]``, the place of each word's first piece, -1 behind the last word: labels are read
            there, and are those of words; None where tokens are words.
          rng_key: Draws dropout; ``None`` = evaluation.

        Raises:
          ConfigError: If the model reads letters and none are given, or the reverse.
        """
        if (letters is None) != (self.letters is None):
            raise ConfigError(
                "the model reads the letters of words, and the batch has none: give word_len"
                if letters is None
                else "the batch has the letters of words, and the model reads none: leave them out"
            )
        tokens, lengths = jnp.asarray(tokens), jnp.asarray(lengths)
        if lengths.shape != tokens.shape[:1]:
            raise ShapeError(f"lengths must have shape {tokens.shape[:1]}, got {lengths.shape}")
        word_key, letter_key, encoder_key, head_key = split_key(rng_key, 4)
        if word_key is not None and self.config.word_dropout_rate > 0.0:
            unknown = jax.random.bernoulli(word_key, self.config.word_dropout_rate, tokens.shape)
            unknown &= tokens >= _FIRST_ORDINARY_ID
            tokens = jnp.where(unknown, jnp.asarray(_UNKNOWN_ID, tokens.dtype), tokens)
        added = None
        if self.letters is not None and self.letter_map is not None and letters is not None:
            valid = valid_steps(lengths, tokens.shape[1])[..., None]
            added = self.letter_map(
                self.letters(jnp.where(valid, jnp.asarray(letters), 0), rng_key=letter_key)
            )
        hidden = self.encoder(tokens, lengths=lengths, added=added, rng_key=encoder_key)
        hidden = dropout(hidden, self.config.dropout_rate, head_key)
        classes = None
        if self.class_head is not None:
            pooling = MaxPooling() if self.config.class_pooling == "max" else MeanPooling()
            classes = self.class_head(pooling(hidden, lengths=lengths)).astype(jnp.float32)
        if first_pieces is not None:
            hidden = jnp.take_along_axis(hidden, jnp.maximum(first_pieces, 0)[..., None], axis=1)
        labels = self.label_head(hidden).astype(jnp.float32)
        if self.class_map is not None and classes is not None:
            labels = labels + self.class_map(jax.nn.softmax(classes, axis=-1))[:, None]
        return TaggerOutput(labels, classes)

    def chain_scores(self) -> ChainScores:
        """Scores of neighbouring labels: learned, or zeros where labels are on their own."""
        return ChainScores.zeros(self.num_labels) if self.chain is None else self.chain.chain

    def predict(
        self,
        tokens: _Tokens,
        *,
        lengths: _Lengths,
        letters: Int[Array, "batch len letters"] | None = None,
        first_pieces: Int[Array, "batch len"] | None = None,
        allowed: ChainScores | None = None,
    ) -> TaggerPrediction:
        """The most probable labels and class, and their probabilities.

        Args:
          tokens: As in a call.
          lengths: As in a call.
          letters: As in a call.
          first_pieces: As in a call.
          allowed: Scores added to those of neighbouring labels: 0, or `FORBIDDEN` where labels must not follow each
            other, as the IOB scheme says. Probabilities are those among the paths that are allowed.

        Returns:
          Labels and class with their probabilities.
        """
        output = self(tokens, lengths=lengths, letters=letters, first_pieces=first_pieces)
        lengths = jnp.asarray(lengths) if first_pieces is None else (first_pieces >= 0).sum(axis=1)
        chain = self.chain_scores()
        chain = chain if allowed is None else chain + allowed
        labels, _ = crf_decode(output.labels, chain, lengths)
        marginals = crf_marginals(output.labels, chain, lengths)
        chosen = jnp.take_along_axis(marginals, jnp.maximum(labels, 0)[..., None], axis=2)[..., 0]
        probabilities = jnp.where(labels >= 0, chosen, 0.0)
        if output.classes is None:
            return TaggerPrediction(labels, probabilities, None, None)
        of_classes = jax.nn.softmax(output.classes, axis=-1)
        return TaggerPrediction(
            labels, probabilities, jnp.argmax(of_classes, axis=-1).astype(jnp.int32), of_classes.max(axis=-1)
        )
