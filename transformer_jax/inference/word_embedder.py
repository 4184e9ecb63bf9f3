"""Trained word vectors: vectors of words and lines, neighbours and analogies."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import numpy.typing as npt
from flax import nnx

from transformer_jax.data.vector_files import VectorFormat, write_vectors
from transformer_jax.data.word_vocabulary import WordVocabulary
from transformer_jax.errors import DataError, nearest_hint, require, shortened
from transformer_jax.evaluate.vector_scores import unit_rows

Floats = npt.NDArray[np.float32]

_CHUNK = 8192
"""Words whose vectors are composed at once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A word and its cosine with what was looked for."""

    word: str
    similarity: float


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Embedded:
    """The vector of a text: the mean of those of its words.

    Attributes:
      text: The text.
      vector: ``[width]``, float32; zeros where no word of the text has a vector.
      num_words: Words of the text.
      num_known: Those that have a vector.
    """

    text: str
    vector: Floats
    num_words: int
    num_known: int


class WordEmbedder:
    """Vectors of words, of any number and order, each answer by itself.

    Args:
      name: Name in messages.
      vocabulary: Words of the vectors.
      vectors: ``[words, width]``.
      bucket_vectors: Of hashed n-grams, for words outside of the vocabulary; None without them.
      model: The model that they are of; None where there is none.

    Example:
      >>> vocabulary = WordVocabulary(["king", "queen", "cat"], [3, 2, 1])
      >>> vectors = np.array([[1.0, 1.0], [1.0, 0.8], [-1.0, 0.2]], np.float32)
      >>> embedder = WordEmbedder(name="tiny", vocabulary=vocabulary, vectors=vectors)
      >>> embedder.nearest("king", num_neighbours=1)[0].word
      'queen'
      >>> embedder.embed(["King cat", "dog"])[0].vector.round(1).tolist()
      [0.0, 0.6000000238418579]
    """

    verbs: ClassVar[tuple[str, ...]] = ("embed", "nearest", "analogy", "similarity", "save_vectors")

    def __init__(
        self,
        *,
        name: str,
        vocabulary: WordVocabulary,
        vectors: Floats,
        bucket_vectors: Floats | None = None,
        model: Any = None,
    ) -> None:
        self.name, self.vocabulary, self.model = name, vocabulary, model
        self.vectors, self._bucket_vectors = np.asarray(vectors, np.float32), bucket_vectors
        self.units = unit_rows(self.vectors)

    @classmethod
    def of_model(cls, model: Any, vocabulary: WordVocabulary, *, name: str) -> "WordEmbedder":
        """The vectors of a trained model, those of n-grams taken in."""
        table, size = vocabulary.subword_table, vocabulary.size
        graph, state = nnx.split(model)
        compose = jax.jit(lambda state, words, rows: nnx.merge(graph, state)(words, subwords=rows))
        chunk, parts = min(size, _CHUNK), []
        for start in range(0, size, chunk):
            words = (
                np.arange(start, start + chunk, dtype=np.int32) % size
            )  # behind the last one from the first on
            found = compose(state, words, None if table is None else table[words])
            parts.append(np.asarray(found)[: size - start])
        whole = np.asarray(model.embedding.embedding[...])
        buckets = whole[size:] if len(whole) > size else None
        return cls(
            name=name,
            vocabulary=vocabulary,
            vectors=np.concatenate(parts),
            bucket_vectors=buckets,
            model=model,
        )

    def vector(self, word: str) -> Floats | None:
        """Vector of a word; None for one outside of the vocabulary without n-grams that have vectors."""
        place = self.vocabulary.id_of(word)
        if place is not None:
            return self.vectors[place]
        subwords = self.vocabulary.subwords
        if subwords is None or self._bucket_vectors is None:
            return None
        text = word.lower() if self.vocabulary.rule.lowercase else word
        buckets = subwords.of_word(text)
        return self._bucket_vectors[buckets].mean(axis=0) if buckets else None

    def embed(self, texts: Sequence[str]) -> list[Embedded]:
        """Vectors of texts, in their order.

        Args:
          texts: Words or lines.
        """
        require(not isinstance(texts, str), "embed wants a list of texts, got one text: put it into a list")
        return [self._embedded(text) for text in texts]

    def nearest(self, text: str, *, num_neighbours: int = 10) -> list[Neighbour]:
        """Words whose vectors have the largest cosines with that of a word or line, its own words left out.

        Args:
          text: A word or a line.
          num_neighbours: How many.

        Raises:
          DataError: If no word of the text has a vector.
        """
        require(num_neighbours >= 1, f"num_neighbours must be at least 1, got {num_neighbours}")
        found = self._embedded(text)
        if not found.num_known:
            raise DataError(self._unknown(text))
        own = {
            place
            for word in self.vocabulary.split(text)
            if (place := self.vocabulary.id_of(word)) is not None
        }
        return self._neighbours(found.vector, own, num_neighbours)

    def analogy(self, first: str, second: str, third: str, *, num_neighbours: int = 10) -> list[Neighbour]:
        r"""Words that are to ``third`` as ``second`` is to ``first``: the nearest to :math:`b - a + c` of unit vectors.

        Args:
          first: :math:`a`, such as ``man``.
          second: :math:`b`, such as ``king``.
          third: :math:`c`, such as ``woman``.
          num_neighbours: How many.

        Raises:
          DataError: If a word has no vector.

        Source: Mikolov et al. 2013, https://aclanthology.org/N13-1090 (3CosAdd).
        """
        require(num_neighbours >= 1, f"num_neighbours must be at least 1, got {num_neighbours}")
        given = (first, second, third)
        vectors = [unit_rows(self._known(word)[None])[0] for word in given]
        own = {place for word in given if (place := self.vocabulary.id_of(word)) is not None}
        return self._neighbours(vectors[1] - vectors[0] + vectors[2], own, num_neighbours)

    def similarity(self, first: str, second: str) -> float:
        """Cosine of two words.

        Raises:
          DataError: If one has no vector.
        """
        one, other = (unit_rows(self._known(word)[None])[0] for word in (first, second))
        return float(one @ other)

    def save_vectors(self, path: Path | str, *, kind: VectorFormat | None = None) -> None:
        """Write the vectors of the vocabulary in word2vec's text or binary format, see `write_vectors`."""
        write_vectors(Path(path), self.vocabulary.words, self.vectors, kind=kind)

    def _embedded(self, text: str) -> Embedded:
        words = self.vocabulary.split(text)
        found = [vector for word in words if (vector := self.vector(word)) is not None]
        zeros = np.zeros(self.vectors.shape[1], np.float32)
        vector = np.mean(found, axis=0, dtype=np.float32) if found else zeros
        return Embedded(text=text, vector=vector, num_words=len(words), num_known=len(found))

    def _known(self, word: str) -> Floats:
        vector = self.vector(word)
        if vector is None:
            raise DataError(self._unknown(word))
        return vector

    def _unknown(self, text: str) -> str:
        near = nearest_hint(text.lower(), self.vocabulary.words[:20_000]) if len(text) < 50 else ""
        return f"{self.name}: {shortened(text, 40)!r} has no word of the {self.vocabulary.size:,} with a vector{near}"

    def _neighbours(self, vector: Floats, own: set[int], num_neighbours: int) -> list[Neighbour]:
        cosines = self.units @ unit_rows(vector[None])[0]
        cosines[list(own)] = -np.inf
        num_found = min(num_neighbours, len(cosines) - len(own))
        # Ties by the order of the vocabulary, so that an answer does not depend on how a sort goes about it.
        places = np.lexsort((np.arange(len(cosines)), -cosines))[:num_found]
        return [
            Neighbour(word=self.vocabulary.words[place], similarity=float(cosines[place])) for place in places
        ]
