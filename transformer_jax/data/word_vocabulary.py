"""Vocabulary of word vectors: words with their counts, and how a text is cut into them."""

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from transformer_jax.data.huffman_tree import HuffmanPaths, huffman_paths
from transformer_jax.data.subword_buckets import NO_BUCKET, SubwordBuckets
from transformer_jax.data.word_phrases import JOINER, join_known
from transformer_jax.errors import ConfigError, DataError, check_choice
from transformer_jax.files import write_whole

WordUnit = Literal["letters", "spaces"]
"""``letters``: runs of letters with apostrophes inside; ``spaces``: what stands between white space."""

MAX_FILE_BYTES = 256_000_000

_FORMAT = 1
_LETTERS = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordRule:
    """How a line is cut into words.

    Attributes:
      unit: ``letters`` or ``spaces``, see `WordUnit`.
      lowercase: Whether upper case is lowered first.

    Example:
      >>> WordRule().split("He didn't say: 42 Words!")
      ['he', "didn't", 'say', 'words']
      >>> WordRule(unit="spaces", lowercase=False).split("He is 42.")
      ['He', 'is', '42.']
    """

    unit: WordUnit = "letters"
    lowercase: bool = True

    def __post_init__(self) -> None:
        check_choice("unit", self.unit, ("letters", "spaces"))

    def split(self, line: str) -> list[str]:
        """Words of a line, in order."""
        text = line.lower() if self.lowercase else line
        return _LETTERS.findall(text) if self.unit == "letters" else text.split()


class WordVocabulary:
    """Words from the most frequent to the least, with their counts in the training text.

    Args:
      words: The words; the id of one is its place.
      counts: How often each stands in the text, never rising.
      rule: How a line is cut into words.
      phrase_passes: How often neighbours are joined into phrases of the vocabulary; 0 for no phrases.
      subwords: Character n-grams that have vectors too; None for none.

    Raises:
      DataError: If a word is given twice, or the counts are not those of a vocabulary.

    Example:
      >>> vocabulary = WordVocabulary(["the", "cat"], [5, 2])
      >>> vocabulary.encode("The black cat").tolist(), vocabulary.size
      ([0, 1], 2)
    """

    def __init__(
        self,
        words: Sequence[str],
        counts: npt.ArrayLike,
        *,
        rule: WordRule | None = None,
        phrase_passes: int = 0,
        subwords: SubwordBuckets | None = None,
    ) -> None:
        self.words, self.counts = tuple(words), np.asarray(counts, np.int64)
        self.rule, self.phrase_passes, self.subwords = rule or WordRule(), phrase_passes, subwords
        self._index = {word: place for place, word in enumerate(self.words)}
        if len(self._index) != len(self.words):
            raise DataError("vocabulary: a word is given twice")
        if (
            self.counts.shape != (len(self.words),)
            or (self.counts < 1).any()
            or (np.diff(self.counts) > 0).any()
        ):
            raise DataError(
                "vocabulary: wanted a count of at least 1 for each word, from the largest to the least"
            )

    @property
    def size(self) -> int:
        """Number of words."""
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._index

    def id_of(self, word: str) -> int | None:
        """Id of a word; None if it is not in the vocabulary, in lower case neither where that is the rule."""
        text = word.lower() if self.rule.lowercase else word
        return self._index.get(text)

    def split(self, line: str) -> list[str]:
        """Words and phrases of a line, known or not."""
        words = self.rule.split(line)
        return join_known(words, self._phrases, self.phrase_passes) if self.phrase_passes else words

    def known_ids(self, words: Sequence[str]) -> list[int]:
        """Ids of those words that are in the vocabulary, as `split` gives them."""
        index = self._index
        return [index[word] for word in words if word in index]

    def encode(self, line: str) -> npt.NDArray[np.int32]:
        """Ids of the words of a line; those outside of the vocabulary are left out."""
        return np.asarray(self.known_ids(self.split(line)), np.int32)

    def keep_rates(self, sample: float) -> npt.NDArray[np.float32]:
        r"""Probability with which each word stays in the text when frequent words are subsampled.

        .. math:: \min\Big(1, \big(\sqrt{f / t} + 1\big) \frac{t}{f}\Big)

        Args:
          sample: Threshold :math:`t` of the frequency :math:`f`; 0 keeps all.

        Example:
          >>> WordVocabulary(["the", "cat"], [9, 1]).keep_rates(0.1).round(3).tolist()
          [0.4440000057220459, 1.0]

        Source: ``word2vec.c`` and gensim; Mikolov et al. 2013, equation 5, has :math:`1 - \sqrt{t / f}` dropped.
        """
        if sample == 0:
            return np.ones(self.size, np.float32)
        ratio = sample * self.counts.sum() / self.counts
        return np.minimum(1.0, np.sqrt(ratio) + ratio).astype(np.float32)

    def noise_rates(self, exponent: float) -> npt.NDArray[np.float64]:
        r"""Noise distribution of negative sampling, :math:`n_w^\alpha / \sum_v n_v^\alpha`.

        Example:
          >>> WordVocabulary(["the", "cat"], [16, 1]).noise_rates(0.75).round(3).tolist()
          [0.889, 0.111]

        Source: Mikolov et al. 2013, section 2.2.
        """
        powers = self.counts.astype(np.float64) ** exponent
        return powers / powers.sum()

    @functools.cached_property
    def paths(self) -> HuffmanPaths:
        """Paths of the Huffman tree of the counts."""
        return huffman_paths(self.counts)

    @functools.cached_property
    def subword_table(self) -> npt.NDArray[np.int32] | None:
        """Rows of each word's n-grams in a table that has the buckets behind the words, ``[words, most n-grams]``.

        -1 fills up the rows of words with fewer; None without subwords.
        """
        if self.subwords is None:
            return None
        buckets = self.subwords.table(self.words)
        return np.where(buckets == NO_BUCKET, -1, buckets + self.size).astype(np.int32)

    @functools.cached_property
    def _phrases(self) -> frozenset[str]:
        return frozenset(word for word in self.words if JOINER in word)

    def save(self, path: Path) -> None:
        """Write it to a JSON file, whole or not at all."""
        write_whole(path, json.dumps(self._document(), ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> "WordVocabulary":
        """Read the file that `save` wrote.

        Raises:
          DataError: If it cannot be read or is no vocabulary; one line that says why.
        """
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise DataError(f"{path}: larger than {MAX_FILE_BYTES:,} bytes, no vocabulary")
            document = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{path}: cannot read the file: {error.strerror}") from None
        except (ValueError, RecursionError):
            raise DataError(f"{path}: not a saved vocabulary: no whole JSON document in UTF-8") from None
        return _vocabulary_of(document, path)

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any word, count or rule does."""
        content = json.dumps(self._document(), ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:12]

    def _document(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "rule": dataclasses.asdict(self.rule),
            "phrase_passes": self.phrase_passes,
            "subwords": None if self.subwords is None else dataclasses.asdict(self.subwords),
            "words": list(self.words),
            "counts": self.counts.tolist(),
        }


def _vocabulary_of(document: Any, path: Path) -> WordVocabulary:
    wanted = {"format", "rule", "phrase_passes", "subwords", "words", "counts"}
    if not isinstance(document, dict) or document.keys() != wanted or document["format"] != _FORMAT:
        raise DataError(f"{path}: not a saved vocabulary of format {_FORMAT}")
    words, counts = document["words"], document["counts"]
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise DataError(f"{path}: not a saved vocabulary: 'words' must be a list of texts")
    if type(document["phrase_passes"]) is not int:
        raise DataError(f"{path}: not a saved vocabulary: 'phrase_passes' must be a whole number")
    if not isinstance(counts, list) or not all(type(count) is int and count < 2**62 for count in counts):
        raise DataError(f"{path}: not a saved vocabulary: 'counts' must be a list of whole numbers")
    try:
        return WordVocabulary(
            words,
            np.asarray(counts, np.int64),
            rule=WordRule(**document["rule"]),
            phrase_passes=document["phrase_passes"],
            subwords=None if document["subwords"] is None else SubwordBuckets(**document["subwords"]),
        )
    except (TypeError, ConfigError, DataError) as error:
        raise DataError(f"{path}: not a saved vocabulary: {error}") from None


def count_words(
    words: Iterable[str], counts: npt.ArrayLike, *, min_count: int, max_words: int | None
) -> list[int]:
    """Places of the words that a vocabulary keeps, from the most frequent to the least, ties by the alphabet.

    Args:
      words: Distinct words.
      counts: How often each stands in the text.
      min_count: Rarer words are left out.
      max_words: Most words that are kept; None for all.

    Example:
      >>> count_words(["b", "a", "rare", "c"], [2, 2, 1, 5], min_count=2, max_words=None)
      [3, 1, 0]
    """
    listed = list(zip(words, np.asarray(counts).tolist()))
    kept = [place for place, (_, count) in enumerate(listed) if count >= min_count]
    return sorted(kept, key=lambda place: (-listed[place][1], listed[place][0]))[:max_words]
