"""Pronouncing dictionaries: words with all their pronunciations, and splits by a hash of the word.

A word is lower-cased and kept only if it is made of the letters a to z and the apostrophe, with at least
one letter; a pronunciation is phonemes between single spaces, without stress digits. Two pronunciations that
differ in stress alone become one.
"""

import functools
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from transformer_jax.data.examples import EvaluationItem, Pair
from transformer_jax.errors import DataError

Pronunciations = Mapping[str, tuple[str, ...]]

DEVELOPMENT_SHARE = 0.05
TEST_SHARE = 0.05
G2P_DEVELOPMENT_SHARE = 0.025

_WORD = re.compile("[a-z']*[a-z][a-z']*")
_PHONEME = re.compile("([A-Z]{1,2})[0-2]?")
_ALTERNATIVE = re.compile(r"\(\d+\)$")


def parse_cmudict(lines: Iterable[str], where: str = "cmudict") -> Pronunciations:
    """Words of the CMU dictionary's own format, ``word(2) P1 P2 # comment``.

    Example:
      >>> parse_cmudict(["read R EH1 D # past", "read(2) R IY1 D", "a.m. EY2 EH1 M"])
      {'read': ('R EH D', 'R IY D')}

    Raises:
      DataError: If a line has no phonemes or one that is not a phoneme, naming the line.
    """
    found: dict[str, dict[str, None]] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split("#", 1)[0].split()
        if not fields or line.startswith(";;;"):
            continue
        word = _ALTERNATIVE.sub("", fields[0]).lower()
        pronunciation = _without_stress(fields[1:], f"{where}, line {number}")
        if _WORD.fullmatch(word):
            found.setdefault(word, {})[pronunciation] = None
    return {word: tuple(pronunciations) for word, pronunciations in found.items()}


def parse_g2p(lines: Iterable[str], where: str = "g2p") -> Pronunciations:
    """Words of the benchmark's format, ``WORD<TAB>P1 P2 ...``, one pronunciation a line.

    Raises:
      DataError: If a line is not a word, a tab and phonemes, naming the line.
    """
    found: dict[str, dict[str, None]] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t")
        if len(fields) != 2:
            raise DataError(f"{where}, line {number}: wanted word, tab, phonemes; got {len(fields)} field(s)")
        word = fields[0].strip().lower()
        found.setdefault(word, {})[_without_stress(fields[1].split(), f"{where}, line {number}")] = None
    return {word: tuple(pronunciations) for word, pronunciations in found.items()}


def _without_stress(phonemes: Sequence[str], where: str) -> str:
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


def word_fraction(word: str) -> float:
    """Where the word falls between 0 and 1, by the first eight bytes of the SHA-256 of its UTF-8 form.

    Example:
      >>> round(word_fraction("hello"), 6)
      0.175572
    """
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big") / 2.0**64


def cmudict_split(word: str) -> Literal["train", "development", "test"]:
    """The side of the fixed split that a word of ``cmudict`` stands on: 90 %, 5 % and 5 % of the words."""
    fraction = word_fraction(word)
    if fraction < TEST_SHARE:
        return "test"
    return "development" if fraction < TEST_SHARE + DEVELOPMENT_SHARE else "train"


def training_pairs(pronunciations: Pronunciations) -> list[Pair]:
    """One pair for each pronunciation, in the dictionary's order."""
    return [Pair(word, target) for word, targets in pronunciations.items() for target in targets]


def evaluation_items(pronunciations: Pronunciations) -> list[EvaluationItem]:
    """One item for each word, in the order of the words' hashes: a first part is a random sample."""
    words = sorted(pronunciations, key=lambda word: (word_fraction(word), word))
    return [EvaluationItem(word, pronunciations[word]) for word in words]
