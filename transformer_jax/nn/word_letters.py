"""Vectors of words from their letters: by a convolution, or by a recurrent layer in both directions.

Letters are ids of bytes, 0 where a word has no more, see `transformer_jax.data.word_encoding`. A word without letters,
as in the padding of a batch, has a vector of zeros.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from transformer_jax.bounds import Width, check_at_least, check_bounds
from transformer_jax.errors import ConfigError
from transformer_jax.functional.dropout import check_rate, dropout
from transformer_jax.functional.recurrent import cell_class
from transformer_jax.nn.embeddings import Embedding
from transformer_jax.nn.linear import Linear
from transformer_jax.nn.recurrent import RecurrentLayer, carry_hidden
from transformer_jax.typing import Array, Float, Int

__all__ = ["LetterConvolution", "LetterRecurrence", "WordLetters"]

NUM_LETTER_IDS = 257
"""Bytes, and 0 for none."""

_Letters = Int[Array, "batch len letters"]
_Vectors = Float[Array, "batch len features"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LetterConvolution:
    """Filters over a few neighbouring letters, and of each filter the largest value in the word.

    Attributes:
      kind: Tag of the union of letter models.
      embedding_dim: Width of a letter's vector.
      num_filters: Filters of each width.
      widths: How many letters a filter sees, for each kind of filter.
      dropout_rate: On the letters' vectors.

    Raises:
      ConfigError: If a number is out of range.

    Example:
      >>> LetterConvolution(num_filters=8, widths=(2, 3)).output_dim
      16
    """

    kind: Literal["convolution"] = "convolution"
    embedding_dim: Width = 32
    num_filters: Width = 64
    widths: tuple[Width, ...] = (3,)
    dropout_rate: float = 0.0

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(1, embedding_dim=self.embedding_dim, num_filters=self.num_filters)
        check_rate("dropout_rate", self.dropout_rate)
        if not self.widths or min(self.widths) < 1:
            raise ConfigError(f"widths must be at least one number of at least 1, got {self.widths}")

    @property
    def output_dim(self) -> int:
        """Width of a word's vector."""
        return self.num_filters * len(self.widths)

    def build(self, *, rngs: nnx.Rngs) -> "WordConvolution":
        """The module."""
        return WordConvolution(self, rngs=rngs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LetterRecurrence:
    """A recurrent layer over the letters in both directions, and its last states.

    Attributes:
      kind: Tag of the union of letter models.
      cell: The cell, one of :func:`~transformer_jax.functional.recurrent.cell_kinds`.
      embedding_dim: Width of a letter's vector.
      hidden_dim: Width of each direction's state.
      dropout_rate: On the letters' vectors.

    Raises:
      ConfigError: If a number is out of range, or there is no such cell.

    Example:
      >>> LetterRecurrence(hidden_dim=25).output_dim
      50
    """

    kind: Literal["recurrence"] = "recurrence"
    cell: str = "lstm"
    embedding_dim: Width = 25
    hidden_dim: Width = 25
    dropout_rate: float = 0.0

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(1, embedding_dim=self.embedding_dim, hidden_dim=self.hidden_dim)
        check_rate("dropout_rate", self.dropout_rate)
        cell_class(self.cell)

    @property
    def output_dim(self) -> int:
        """Width of a word's vector."""
        return 2 * self.hidden_dim

    def build(self, *, rngs: nnx.Rngs) -> "WordRecurrence":
        """The module."""
        return WordRecurrence(self, rngs=rngs)


WordLetters = LetterConvolution | LetterRecurrence
"""Union of the letter models' configs."""


class WordConvolution(nnx.Module):
    r"""A convolution over letters with max pooling.

    .. math:: y_f = \max_{p} \mathrm{ReLU}(W_f [e_{p - a}; \dots; e_{p - a + w - 1}] + b_f)

    with :math:`a` half of the width :math:`w`, over the places :math:`p` of the word's letters; before the first and
    behind the last one there are zeros.

    Args:
      config: Sizes.
      rngs: Source of the initial parameters.

    Example:
      >>> letters = LetterConvolution(embedding_dim=4, num_filters=3).build(rngs=nnx.Rngs(0))
      >>> letters(jnp.array([[[98, 99, 0], [0, 0, 0]]])).shape
      (1, 2, 3)

    Source: dos Santos & Zadrozny 2014, https://proceedings.mlr.press/v32/santos14.html, section 2.2; Ma & Hovy 2016,
    https://arxiv.org/abs/1603.01354, section 2.1.
    """

    def __init__(self, config: LetterConvolution, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.embedding = _letter_embedding(config.embedding_dim, rngs)
        self.filters = nnx.List(
            [
                Linear(width * config.embedding_dim, (config.num_filters,), use_bias=True, rngs=rngs)
                for width in config.widths
            ]
        )

    def __call__(self, letters: _Letters, *, rng_key: jax.Array | None = None) -> _Vectors:
        """A vector for each word.

        Args:
          letters: ``[batch, len, letters]``, 0 behind each word's last one.
          rng_key: Draws dropout; ``None`` = evaluation.
        """
        batch, length, num_letters = letters.shape
        letters = rearrange(jnp.asarray(letters), "batch len letters -> (batch len) letters")
        exists = (letters > 0)[..., None]
        embedded = dropout(self.embedding(letters), self.config.dropout_rate, rng_key)
        embedded = jnp.where(exists, embedded, 0.0)
        found = []
        for width, filters in zip(self.config.widths, self.filters, strict=True):
            before = width // 2
            padded = jnp.pad(embedded, ((0, 0), (before, width - 1 - before), (0, 0)))
            windows = [padded[:, start : start + num_letters] for start in range(width)]
            values = jax.nn.relu(filters(jnp.concatenate(windows, axis=-1)))
            # ReLU's least value is what a word without letters has.
            found.append(jnp.max(jnp.where(exists, values, 0.0), axis=1))
        return jnp.concatenate(found, axis=-1).reshape(batch, length, self.config.output_dim)


class WordRecurrence(nnx.Module):
    r"""A bidirectional recurrent layer over letters, read at both ends.

    .. math:: y = [\overrightarrow{h}_n; \overleftarrow{h}_1]

    Args:
      config: Sizes.
      rngs: Source of the initial parameters.

    Example:
      >>> letters = LetterRecurrence(cell="gru", embedding_dim=4, hidden_dim=3).build(rngs=nnx.Rngs(0))
      >>> letters(jnp.array([[[98, 99, 0], [0, 0, 0]]])).shape
      (1, 2, 6)

    Source: Ling et al. 2015, https://aclanthology.org/D15-1176; Lample et al. 2016,
    https://arxiv.org/abs/1603.01360, section 4.1.
    """

    def __init__(self, config: LetterRecurrence, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.embedding = _letter_embedding(config.embedding_dim, rngs)
        self.layer = RecurrentLayer(
            config.cell, config.embedding_dim, config.hidden_dim, bidirectional=True, rngs=rngs
        )

    def __call__(self, letters: _Letters, *, rng_key: jax.Array | None = None) -> _Vectors:
        """A vector for each word, see `WordConvolution`."""
        batch, length, _ = letters.shape
        letters = rearrange(jnp.asarray(letters), "batch len letters -> (batch len) letters")
        embedded = dropout(self.embedding(letters), self.config.dropout_rate, rng_key)
        num_letters = (letters > 0).sum(axis=1, dtype=jnp.int32)
        _, (ahead, back) = self.layer(embedded, lengths=num_letters)
        states = jnp.concatenate([carry_hidden(ahead), carry_hidden(back)], axis=-1)
        return states.reshape(batch, length, self.config.output_dim)


def _letter_embedding(width: int, rngs: nnx.Rngs) -> Embedding:
    # Unit variance, as the Glorot-uniform weights expect.
    return Embedding(NUM_LETTER_IDS, width, padding_id=0, scale="sqrt_dim", rngs=rngs)
