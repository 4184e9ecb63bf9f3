"""Words with all their pronunciations: phonemes without stress, and the pairs and items made of them.

A word is lower-cased; a pronunciation is phonemes between single spaces, without stress digits. Two pronunciations
that differ in stress alone become one.
"""

import functools
import re
from collections.abc import Mapping, Sequence

from transformer_jax.data.hash_fraction import hash_fraction
from transformer_jax.data.line_pairs import EvaluationItem, Pair, PairSplits
from transformer_jax.errors import DataError

Pronunciations = Mapping[str, tuple[str, ...]]

_PHONEME = re.compile("([A-Z]{1,2})[0-2]?")


def without_stress(phonemes: Sequence[str], where: str) -> str:
    """A pronunciation of phonemes such as ``AH0``, as text without their stress digits.

    Args:
      phonemes: The phonemes, at least one.
      where: File and line, for messages.

    Raises:
      DataError: If there is none, or one is not a phoneme.

    Example:
      >>> without_stress(["HH", "AH0", "L", "OW1"], "line 1")
      'HH AH L OW'
    """
    if not phonemes:
        raise DataError(f"{where}: a word without phonemes")
    plain = [_plain_phoneme(phoneme) for phoneme in phonemes]
    if None in plain:
        raise DataError(f"{where}: {phonemes[plain.index(None)]!r} is not a phoneme such as 'AH0' or 'T'")
    return " ".join(map(str, plain))


@functools.lru_cache(maxsize=1024)
def _plain_phoneme(phoneme: str) -> str | None:
    match = _PHONEME.fullmatch(phoneme)
    return match[1] if match else None


def pronunciation_splits(
    train: Pronunciations, development: Pronunciations, test: Pronunciations, *, notes: tuple[str, ...]
) -> PairSplits:
    """One training pair for each pronunciation, in the dictionary's order, and one item for each word held out."""
    return PairSplits(
        train=[Pair(word, target) for word, targets in train.items() for target in targets],
        development=_evaluation_items(development),
        test=_evaluation_items(test),
        notes=notes,
    )


def _evaluation_items(pronunciations: Pronunciations) -> list[EvaluationItem]:
    """One item for each word, in the order of the words' hashes: a first part is a random sample."""
    words = sorted(pronunciations, key=lambda word: (hash_fraction(word), word))
    return [EvaluationItem(word, pronunciations[word]) for word in words]
