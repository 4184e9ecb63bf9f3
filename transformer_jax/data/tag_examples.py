"""Sentences as arrays: encoded once, then cut into batches by index."""

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from transformer_jax.data.batches import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from transformer_jax.data.tag_set import TagSet
from transformer_jax.data.tagged_text import TaggedSentence
from transformer_jax.data.text_batches import IGNORED, TagBatch, row_values
from transformer_jax.data.word_encoding import PieceEncoder, WordEncoder

IntArray = npt.NDArray[np.int32]


@dataclasses.dataclass(frozen=True, eq=False)
class WordPieceIds:
    """Pieces of words one after another; word ``i`` has those from ``offsets[i]`` to ``offsets[i + 1]``.

    Attributes:
      ids: ``[pieces]``.
      offsets: ``[words + 1]``.
    """

    ids: IntArray
    offsets: npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class TagExamples:
    """Sentences one after another in flat arrays; sentence ``i`` has the words ``offsets[i]`` to ``offsets[i + 1]``.

    Attributes:
      offsets: ``[sentences + 1]``.
      ids: ``[words]``, ids of words; of one in pieces that of its first one, or the unknown id if any is unknown.
      forms: ``[words]``, which row of ``letters`` a word has; None where no model reads letters.
      letters: ``[distinct words, word_len]``.
      labels: ``[words]``, label of each word; -1 where it is not one of the tag set.
      classes: ``[sentences]``, the same of whole sentences; None where they have none.
      pieces: Pieces of the words, where a model reads those; None where it reads words.
    """

    offsets: npt.NDArray[np.int64]
    ids: IntArray
    forms: IntArray | None
    letters: IntArray | None
    labels: IntArray
    classes: IntArray | None
    pieces: WordPieceIds | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @functools.cached_property
    def word_lengths(self) -> npt.NDArray[np.int64]:
        """Words of each sentence."""
        return np.diff(self.offsets)

    @functools.cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each sentence: its words, or their pieces with a start and an end token."""
        if self.pieces is None:
            return self.word_lengths
        return np.diff(self.pieces.offsets[self.offsets]) + 2

    @property
    def num_unknown(self) -> int:
        """Words outside of the vocabulary."""
        return int(np.count_nonzero(self.ids == UNK_ID))

    def batch(self, indices: npt.NDArray[np.int64], num_rows: int, length: int) -> TagBatch:
        """Sentences as the first rows of a batch of a shape; no indices give padding alone.

        Args:
          indices: Which sentences, at most ``num_rows`` of at most ``length`` tokens.
          num_rows: Rows.
          length: Tokens of a row.
        """
        rows, columns, places = _cells(self.offsets[indices], self.word_lengths[indices])

        def filled(values: npt.NDArray[np.integer], fill: int) -> IntArray:
            array = np.full((num_rows, length), fill, np.int32)
            array[rows, columns] = values[places]
            return array

        letters = None
        if self.letters is not None and self.forms is not None:
            letters = np.zeros((num_rows, length, self.letters.shape[1]), np.int32)
            letters[rows, columns] = self.letters[self.forms[places]]
        tokens, first_pieces = filled(self.ids, PAD_ID), None
        if self.pieces is not None:
            tokens = self._piece_tokens(indices, num_rows, length)
            starts = self.pieces.offsets[self.offsets[indices]]
            first_pieces = np.full((num_rows, length), IGNORED, np.int32)
            first_pieces[rows, columns] = self.pieces.offsets[places] - starts[rows] + 1
        return TagBatch(
            tokens=tokens,
            lengths=row_values(self.lengths[indices], num_rows, fill=0),
            labels=filled(self.labels, IGNORED),
            classes=None if self.classes is None else row_values(self.classes[indices], num_rows),
            example_ids=row_values(indices, num_rows),
            letters=letters,
            first_pieces=first_pieces,
        )

    def _piece_tokens(self, indices: npt.NDArray[np.int64], num_rows: int, length: int) -> IntArray:
        """Pieces of sentences between a start and an end token."""
        assert self.pieces is not None
        lengths = self.lengths[indices]
        rows, columns, places = _cells(self.pieces.offsets[self.offsets[indices]], lengths - 2)
        tokens = np.full((num_rows, length), PAD_ID, np.int32)
        tokens[rows, columns + 1] = self.pieces.ids[places]
        tokens[: len(indices), 0] = BOS_ID
        tokens[np.arange(len(indices)), lengths - 1] = EOS_ID
        return tokens


def _cells(
    starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row, column and place in the flat arrays of each element of some stretches of them."""
    rows = np.repeat(np.arange(len(lengths)), lengths)
    columns = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return rows, columns, np.repeat(starts, lengths) + columns


def encode_sentences(
    sentences: Sequence[Sequence[str]],
    encoder: WordEncoder | PieceEncoder,
    *,
    tags: TagSet | None = None,
    labelled: Sequence[TaggedSentence] | None = None,
) -> TagExamples:
    """Sentences as arrays.

    Args:
      sentences: Their words.
      encoder: Turns words into numbers.
      tags: Labels by number; a label that is none of them becomes -1.
      labelled: The same sentences with their labels; None where these are to be found: all are -1 then.

    Example:
      >>> from transformer_jax.data.tokenizers import Tokenizer
      >>> encoder = WordEncoder(Tokenizer("words", ["play", "jazz"]), word_len=2)
      >>> examples = encode_sentences([["play", "jazz"], ["jazz"]], encoder)
      >>> examples.batch(np.array([1, 0]), 2, 2).tokens.tolist()
      [[5, 0], [4, 5]]
    """
    lengths = np.array([len(words) for words in sentences], np.int64)
    words = list(itertools.chain.from_iterable(sentences))
    distinct = {word: place for place, word in enumerate(dict.fromkeys(words))}
    forms = np.array([distinct[word] for word in words], np.int32)
    labels, classes = np.full(len(words), IGNORED, np.int32), None
    if tags is not None and labelled is not None:
        numbers = {label: place for place, label in enumerate(tags.labels.labels)}
        labels = np.array([numbers.get(label, IGNORED) for one in labelled for label in one.labels], np.int32)
        if tags.classes is not None:
            of_classes = {label: place for place, label in enumerate(tags.classes.labels)}
            classes = np.array([of_classes.get(one.label or "", IGNORED) for one in labelled], np.int32)
    letters, pieces = None, None
    if isinstance(encoder, PieceEncoder):
        of_words = encoder.ids(list(distinct))
        pieces = _word_piece_ids([of_words[form] for form in forms.tolist()])
        ids = np.array([UNK_ID if UNK_ID in one else one[0] for one in of_words], np.int32)
    else:
        ids = encoder.ids(list(distinct))
        letters = None if encoder.word_len is None else encoder.letters(list(distinct))
    return TagExamples(
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        ids=ids[forms] if len(words) else np.zeros(0, np.int32),
        forms=None if letters is None else forms,
        letters=letters,
        labels=labels,
        classes=classes,
        pieces=pieces,
    )


def _word_piece_ids(pieces: Sequence[IntArray]) -> WordPieceIds:
    return WordPieceIds(
        ids=np.concatenate([np.zeros(0, np.int32), *pieces]),
        offsets=np.concatenate([[0], np.cumsum([len(one) for one in pieces], dtype=np.int64)]),
    )


def sentences_fingerprint(sentences: Sequence[TaggedSentence]) -> str:
    """Twelve hexadecimal digits that change when any word or label, or their order, does."""
    digest = hashlib.sha256()
    for one in sentences:
        digest.update(repr((one.words, one.labels, one.label)).encode())
    return digest.hexdigest()[:12]
