"""Hashed character n-grams of words, as fastText has them: vectors for words that were never seen."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from transformer_jax.bounds import Length, Vocabulary, check_at_least, check_bounds
from transformer_jax.errors import ConfigError

NO_BUCKET = -1
"""Fills the rows of words with fewer n-grams than others."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubwordBuckets:
    r"""Character n-grams of ``<word>``, each hashed into a bucket that has a vector.

    A word's vector is the mean of its own and those of its n-grams; a word outside of the vocabulary has the mean of
    its n-grams' alone.

    Attributes:
      min_len: Fewest characters of an n-gram, the marks ``<`` and ``>`` included.
      max_len: Most characters of an n-gram.
      num_buckets: Vectors that all n-grams share.

    Raises:
      ConfigError: If a size is out of range.

    Source: Bojanowski et al. 2017, https://arxiv.org/abs/1607.04606, section 3.2.
    """

    min_len: Length = 3
    max_len: Length = 6
    num_buckets: Vocabulary = 100_000

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(1, min_len=self.min_len, num_buckets=self.num_buckets)
        if self.max_len < self.min_len:
            raise ConfigError(f"max_len must be at least min_len ({self.min_len}), got {self.max_len}")

    def of_word(self, word: str) -> list[int]:
        """Buckets of a word's n-grams, in fastText's order.

        Example:
          >>> SubwordBuckets(min_len=3, max_len=3, num_buckets=1000).of_word("as")
          [31, 177]
        """
        marked = f"<{word}>"
        return [
            fnv_hash(marked[start : start + length]) % self.num_buckets
            for start in range(len(marked))
            for length in range(self.min_len, self.max_len + 1)
            if start + length <= len(marked) and not (length == 1 and start in (0, len(marked) - 1))
        ]

    def table(self, words: Sequence[str]) -> npt.NDArray[np.int32]:
        """Buckets of many words, ``[words, most n-grams]``, filled up with `NO_BUCKET`.

        Example:
          >>> SubwordBuckets(min_len=3, max_len=3, num_buckets=1000).table(["a", "as"]).tolist()
          [[600, -1], [31, 177]]
        """
        found = [self.of_word(word) for word in words]
        table = np.full((len(words), max(map(len, found), default=0)), NO_BUCKET, np.int32)
        for row, buckets in zip(table, found):
            row[: len(buckets)] = buckets
        return table


def fnv_hash(text: str) -> int:
    """32-bit FNV-1a of the text in UTF-8, bytes from 128 on taken as signed, as fastText does.

    Example:
      >>> fnv_hash("a")
      3826002220
    """
    found = 2166136261
    for byte in text.encode():
        found ^= byte if byte < 128 else byte | 0xFFFFFF00
        found = (found * 16777619) & 0xFFFFFFFF
    return found
