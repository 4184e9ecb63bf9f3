"""Words that stand together more often than by chance, joined into phrases: ``new york`` to ``new_york``."""

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from transformer_jax.bounds import Count, Layers, check_at_least, check_bounds
from transformer_jax.errors import ConfigError

JOINER = "_"
"""Stands between the words of a phrase."""

Ids = npt.NDArray[np.int32]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phrases:
    r"""Pairs of neighbours that become one word where

    .. math:: N \, \frac{n_{ab} - \delta}{n_a \, n_b} > \text{threshold}

    with the counts :math:`n` and the number :math:`N` of words of the text.

    Attributes:
      threshold: Lower joins more.
      min_count: Discount :math:`\delta`: rarer pairs are never joined.
      passes: Passes over the text; two make phrases of up to four words.

    Raises:
      ConfigError: If a value is out of range.

    Source: Mikolov et al. 2013, https://arxiv.org/abs/1310.4546, equation 6; the factor :math:`N` is ``word2phrase``'s.
    """

    threshold: float = 100.0
    min_count: Count = 5
    passes: Layers = 1

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(1, min_count=self.min_count, passes=self.passes)
        if not (math.isfinite(self.threshold) and self.threshold > 0):
            raise ConfigError(f"threshold must be above 0, got {self.threshold}")


def join_phrases(ids: Ids, sentences: Ids, words: list[str], phrases: Phrases) -> tuple[Ids, Ids, list[str]]:
    """Join the phrases of a text, from left to right.

    Args:
      ids: Word of each place, an index into ``words``.
      sentences: Number of each place's sentence; no phrase crosses from one to another.
      words: The distinct words.
      phrases: Which pairs to join.

    Returns:
      Ids and sentences of the shorter text, and the words with the phrases at their end.

    Example:
      >>> ids = np.array([0, 1, 2, 0, 1], np.int32)
      >>> found = join_phrases(ids, np.zeros(5, np.int32), ["new", "york", "is"], Phrases(threshold=0.5, min_count=1))
      >>> [found[2][one] for one in found[0]]
      ['new_york', 'is', 'new_york']
    """
    for _ in range(phrases.passes):
        if len(ids) < 2:
            break
        counts = np.bincount(ids, minlength=len(words)).astype(np.float64)
        codes = ids[:-1].astype(np.int64) * len(words) + ids[1:]
        is_pair = sentences[:-1] == sentences[1:]
        pairs, places, frequencies = np.unique(codes[is_pair], return_inverse=True, return_counts=True)
        first, second = np.divmod(pairs, len(words))
        scores = len(ids) * (frequencies - phrases.min_count) / (counts[first] * counts[second])
        is_phrase = scores > phrases.threshold
        joins = np.zeros(len(ids), bool)
        joins[:-1][is_pair] = is_phrase[places]
        joins = _every_second(joins)
        new_ids = np.full(len(pairs), -1, np.int64)
        chosen = np.flatnonzero(is_phrase)
        new_ids[chosen] = len(words) + np.arange(len(chosen))
        words = [*words, *(f"{words[first[one]]}{JOINER}{words[second[one]]}" for one in chosen)]
        place_of_pair = np.zeros(len(ids), np.int64)
        place_of_pair[:-1][is_pair] = places
        ids = np.where(joins, new_ids[place_of_pair], ids).astype(np.int32)
        is_kept = np.ones(len(ids), bool)
        is_kept[1:] = ~joins[:-1]
        ids, sentences = ids[is_kept], sentences[is_kept]
    return ids, sentences, words


def _every_second(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Of each run of true flags the first, the third and so on: a word belongs to one phrase.

    Example:
      >>> _every_second(np.array([True, True, True, False, True])).astype(int).tolist()
      [1, 0, 1, 0, 1]
    """
    places = np.arange(len(flags))
    last_false = np.maximum.accumulate(np.where(flags, -1, places))
    return flags & ((places - last_false) % 2 == 1)


def join_known(words: list[str], known: frozenset[str], passes: int) -> list[str]:
    """Join the words of one sentence into phrases that are known.

    Example:
      >>> join_known(["in", "new", "york", "city"], frozenset({"new_york", "new_york_city"}), 2)
      ['in', 'new_york_city']
    """
    for _ in range(passes):
        joined: list[str] = []
        place = 0
        while place < len(words):
            pair = JOINER.join(words[place : place + 2])
            is_phrase = place + 1 < len(words) and pair in known
            joined.append(pair if is_phrase else words[place])
            place += 2 if is_phrase else 1
        words = joined
    return words
