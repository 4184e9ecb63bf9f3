"""What people say of words, to measure vectors against: similar pairs, and analogies."""

import math
from pathlib import Path
from typing import NamedTuple

from transformer_jax.data.readers import read_lines
from transformer_jax.errors import DataError, shortened


class Judgement(NamedTuple):
    """A pair of words and how similar people find them."""

    first: str
    second: str
    score: float


class Analogy(NamedTuple):
    """``first`` is to ``second`` as ``third`` is to ``fourth``, in a section such as ``family``."""

    section: str
    first: str
    second: str
    third: str
    fourth: str


def read_judgements(path: Path) -> list[Judgement]:
    """Pairs of a file with two words and a number on each line, separated by tabs; ``#`` begins a remark.

    Raises:
      DataError: If the file cannot be read, a line is of another form, or there is no pair.
    """
    found = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split("\t")
        try:
            first, second, score = fields[0].strip(), fields[1].strip(), float(fields[2])
        except (IndexError, ValueError):
            raise DataError(
                f"{path}, line {number}: wanted two words and a number, separated by tabs, got {shortened(line, 40)!r}"
            ) from None
        if not (first and second and math.isfinite(score)):
            raise DataError(f"{path}, line {number}: an empty word, or a number that is not finite")
        found.append(Judgement(first, second, score))
    if not found:
        raise DataError(f"{path}: no pair of words")
    return found


def read_analogies(path: Path) -> list[Analogy]:
    """Questions of a file with four words on each line, below lines ``: section``.

    Raises:
      DataError: If the file cannot be read, or a line is of another form.
    """
    found, section = [], ""
    for number, line in enumerate(read_lines(path), start=1):
        if line.startswith(":"):
            section = line[1:].strip()
            continue
        words = line.split()
        if words and len(words) != 4:
            raise DataError(f"{path}, line {number}: wanted four words, got {len(words)}")
        if words:
            found.append(Analogy(section, *words))
    return found
