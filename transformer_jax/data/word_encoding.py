"""Words as numbers: the id of a word in a vocabulary, and its bytes, from which a model can know what it never saw."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from transformer_jax.data.batches import NUM_SPECIAL_IDS, UNK_ID
from transformer_jax.data.tokenizers import Tokenizer, encodable
from transformer_jax.errors import DataError

NUM_LETTERS = 257
"""Letter ids: 0 for none, else a byte of the word in UTF-8 plus one."""

IntArray = npt.NDArray[np.int32]


@dataclasses.dataclass(frozen=True)
class WordEncoder:
    """From words to ids, and to letters.

    A word is a text between the white space of its sentence; white space inside of one, which some treebanks have,
    reads as ``_``.

    Args:
      tokenizer: Vocabulary of words.
      lowercase: Whether words are looked up in lower case; letters keep their case.
      word_len: Bytes of a word that are read: of a longer one the first and the last half; None for no letters.

    Raises:
      DataError: If the tokenizer is not one of words.

    Example:
      >>> encoder = WordEncoder(Tokenizer("words", ["the", "cat"]), lowercase=True, word_len=4)
      >>> encoder.ids(["The", "dog", "cat"]).tolist(), encoder.letters(["ab", "abcdef"]).tolist()
      ([4, 1, 5], [[98, 99, 0, 0], [98, 99, 102, 103]])
    """

    tokenizer: Tokenizer
    lowercase: bool = False
    word_len: int | None = None

    def __post_init__(self) -> None:
        if self.tokenizer.unit != "words":
            raise DataError(
                f"words with labels need a tokenizer of words, got one of {self.tokenizer.unit}: choose kind 'words'"
            )

    @functools.cached_property
    def _known(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.tokenizer.symbols, NUM_SPECIAL_IDS)}

    def form(self, word: str) -> str:
        """The word as the vocabulary has it."""
        return vocabulary_form(word, lowercase=self.lowercase)

    def ids(self, words: Sequence[str]) -> IntArray:
        """The id of each word, the unknown id for those outside of the vocabulary."""
        known = self._known
        return np.array([known.get(self.form(word), UNK_ID) for word in words], np.int32)

    def is_known(self, word: str) -> bool:
        """Whether a word is in the vocabulary."""
        return self.form(word) in self._known

    def letters(self, words: Sequence[str]) -> IntArray:
        """The bytes of each word, ``[words, word_len]``, filled up with 0.

        Raises:
          DataError: If no ``word_len`` is given.
        """
        if self.word_len is None:
            raise DataError("word_len is None: words are read without their letters")
        found = np.zeros((len(words), self.word_len), np.int32)
        for row, word in enumerate(words):
            letters = np.frombuffer(encodable(word).encode(), np.uint8)
            if len(letters) > self.word_len:
                last = self.word_len // 2
                letters = np.concatenate([letters[: self.word_len - last], letters[len(letters) - last :]])
            found[row, : len(letters)] = letters.astype(np.int32) + 1
        return found


@dataclasses.dataclass(frozen=True)
class PieceEncoder:
    """From words to the ids of their pieces.

    Args:
      tokenizer: One of pieces of words that says where words begin, such as WordPiece.
      lowercase: Whether words are written in lower case first; a tokenizer may do so itself.

    Raises:
      DataError: If the tokenizer's tokens do not say where words begin.

    Example:
      >>> from transformer_jax.data.word_piece_tokenizer import WordPieceTokenizer
      >>> encoder = PieceEncoder(WordPieceTokenizer(["play", "##ing", "jazz"], lowercase=True))
      >>> [ids.tolist() for ids in encoder.ids(["Playing", "jazz", "?"])]
      [[5, 6], [7], [1]]
    """

    tokenizer: Tokenizer
    lowercase: bool = False

    def __post_init__(self) -> None:
        self.tokenizer.continuations()  # raises

    @property
    def word_len(self) -> None:
        """None: letters go with whole words."""
        return

    def ids(self, words: Sequence[str]) -> list[IntArray]:
        """The ids of each word's pieces, at least one: the unknown one for a word of which nothing is left."""
        forms = [vocabulary_form(word, lowercase=self.lowercase) for word in words]
        return [np.array(ids or [UNK_ID], np.int32) for ids in self.tokenizer.encode_batch(forms)]

    def is_known(self, word: str) -> bool:
        """Whether all pieces of a word are in the vocabulary."""
        return UNK_ID not in self.ids([word])[0]


def vocabulary_form(word: str, *, lowercase: bool) -> str:
    """A word as vocabularies have it: white space inside reads as ``_``.

    Example:
      >>> vocabulary_form("New York", lowercase=True)
      'new_york'
    """
    form = "_".join(encodable(word).split()) or "_"
    return form.lower() if lowercase else form


def vocabulary_lines(sentences: Iterable[Sequence[str]], *, lowercase: bool) -> list[str]:
    """Sentences as lines that a tokenizer of words is trained on."""
    return [" ".join(vocabulary_form(word, lowercase=lowercase) for word in words) for words in sentences]
