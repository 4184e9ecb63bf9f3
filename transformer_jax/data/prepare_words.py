"""From a `WordsConfig` to everything that training and evaluating word vectors read."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from transformer_jax.data.documents import Document
from transformer_jax.data.sources.text_sources import load_texts
from transformer_jax.data.word_phrases import join_phrases
from transformer_jax.data.word_vocabulary import WordVocabulary, count_words
from transformer_jax.data.words_config import WordsConfig
from transformer_jax.errors import DataError

Ids = npt.NDArray[np.int32]


class WordStream(NamedTuple):
    """The words of a text that are in the vocabulary, one after another.

    Attributes:
      ids: Ids of the words.
      sentences: Number of each word's sentence, from 0.
      num_words: Words of the text, those outside of the vocabulary included.
    """

    ids: Ids
    sentences: Ids
    num_words: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedWords:
    """Everything that training and evaluating word vectors read.

    Attributes:
      config: The config that it was prepared from.
      vocabulary: Words and counts.
      train: The training text.
      development: The development text; without words where there is none.
      test: The test text; likewise.
      notes: Remarks on how the parts were made, for reports.
    """

    config: WordsConfig
    vocabulary: WordVocabulary
    train: WordStream
    development: WordStream
    test: WordStream
    notes: tuple[str, ...]


def prepare_words(config: WordsConfig, *, vocabulary: WordVocabulary | None = None) -> PreparedWords:
    """Read the texts, count the words and number them.

    Args:
      config: Config of the data.
      vocabulary: Of a run to resume; None counts the words of the training text.

    Raises:
      DataError: If a file is missing or bad, or fewer than two distinct words are left.
    """
    splits = load_texts(config.datasets)
    if vocabulary is None:
        vocabulary, stream = _counted(config, splits.train)
    else:
        stream = encode_words(splits.train, vocabulary, sentences=config.sentences)
    return PreparedWords(
        config=config,
        vocabulary=vocabulary,
        train=stream,
        development=encode_words(splits.development, vocabulary, sentences=config.sentences),
        test=encode_words(splits.test, vocabulary, sentences=config.sentences),
        notes=splits.notes,
    )


def encode_words(documents: Sequence[Document], vocabulary: WordVocabulary, *, sentences: str) -> WordStream:
    """The words of documents that are in a vocabulary.

    Args:
      documents: The documents.
      vocabulary: Words, phrases and how lines are cut.
      sentences: ``lines`` or ``documents``, see `WordsConfig`.

    Example:
      >>> vocabulary = WordVocabulary(["a", "cat"], [3, 2])
      >>> stream = encode_words([Document("one", "A black\\ncat a")], vocabulary, sentences="lines")
      >>> stream.ids.tolist(), stream.sentences.tolist(), stream.num_words
      ([0, 1, 0], [0, 1, 1], 4)
    """
    found = [vocabulary.split(text) for text in _sentences(documents, sentences)]
    known = [vocabulary.known_ids(words) for words in found]
    return WordStream(*_flat(known), num_words=sum(map(len, found)))


def _counted(config: WordsConfig, documents: Sequence[Document]) -> tuple[WordVocabulary, WordStream]:
    """The vocabulary of a text, and the text in its ids: each word is cut out and looked up once."""
    index: collections.defaultdict[str, int] = collections.defaultdict()
    index.default_factory = index.__len__
    rule = config.rule
    lines = [[index[word] for word in rule.split(text)] for text in _sentences(documents, config.sentences)]
    ids, sentences = _flat(lines)
    words = list(index)
    if config.phrases is not None:
        ids, sentences, joined = join_phrases(ids, sentences, words, config.phrases)
        index = collections.defaultdict()  # two pairs may make one phrase
        index.default_factory = index.__len__
        ids = np.asarray([index[word] for word in joined], np.int32)[ids]
        words = list(index)
    counts = np.bincount(ids, minlength=len(words))
    kept = count_words(words, counts, min_count=config.min_count, max_words=config.max_words)
    if len(kept) < 2:
        shown = "no word" if not kept else f"one distinct word, {words[kept[0]]!r}"
        raise DataError(
            f"the training text has {shown}, of {len(words):,}, that stands in it at least {config.min_count} times: "
            "nothing can be told apart; take a longer text or a smaller min_count"
        )
    new_ids = np.full(len(words), -1, np.int32)
    new_ids[kept] = np.arange(len(kept), dtype=np.int32)
    ids_kept = new_ids[ids]
    is_known = ids_kept >= 0
    vocabulary = WordVocabulary(
        [words[place] for place in kept],
        counts[kept],
        rule=rule,
        phrase_passes=0 if config.phrases is None else config.phrases.passes,
        subwords=config.subwords,
    )
    if config.phrases is not None:  # words of phrases that are too rare stand alone again
        return vocabulary, encode_words(documents, vocabulary, sentences=config.sentences)
    return vocabulary, WordStream(ids_kept[is_known], sentences[is_known], num_words=len(ids))


def _sentences(documents: Sequence[Document], kind: str) -> list[str]:
    if kind == "documents":
        return [document.text for document in documents]
    return [line for document in documents for line in document.text.split("\n")]


def _flat(lines: Sequence[Sequence[int]]) -> tuple[Ids, Ids]:
    """Ids of all lines, and the number of the line of each."""
    lengths = [len(line) for line in lines]
    ids = np.fromiter((one for line in lines for one in line), np.int32, sum(lengths))
    return ids, np.repeat(np.arange(len(lines), dtype=np.int32), lengths)
