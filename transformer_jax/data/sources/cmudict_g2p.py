"""CMU pronouncing dictionary in the standard split for grapheme-to-phoneme conversion."""

from collections.abc import Iterable

from transformer_jax.data import readers
from transformer_jax.data.hash_fraction import hash_fraction
from transformer_jax.data.line_pairs import PairSplits
from transformer_jax.data.sources.dataset import GITHUB, Dataset, dataset_files
from transformer_jax.data.sources.stored_files import locate_file
from transformer_jax.data.sources.word_pronunciations import (
    Pronunciations,
    pronunciation_splits,
    without_stress,
)
from transformer_jax.errors import DataError

DEVELOPMENT_SHARE = 0.025


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
        found.setdefault(word, {})[without_stress(fields[1].split(), f"{where}, line {number}")] = None
    return {word: tuple(pronunciations) for word, pronunciations in found.items()}


def _read() -> PairSplits:
    paths = [locate_file(CMUDICT_G2P, f"g014b2b.{split}") for split in ("train", "test")]
    train, test = (parse_g2p(readers.read_lines(path), str(path)) for path in paths)
    held_out = {word for word in train if hash_fraction(word) < DEVELOPMENT_SHARE}
    return pronunciation_splits(
        {word: targets for word, targets in train.items() if word not in held_out},
        {word: train[word] for word in held_out},
        test,
        notes=(
            f"development words: {DEVELOPMENT_SHARE:.1%} of the training words, held out by SHA-256 of the word",
        ),
    )


CMUDICT_G2P = Dataset(
    name="cmudict-g2p",
    description="CMU pronouncing dictionary, the standard split g014b2b (PRONASYL 2007)",
    licence="unrestricted (Carnegie Mellon University)",
    citation="Bisani and Ney 2008, Joint-sequence models for grapheme-to-phoneme conversion",
    homepage="https://github.com/steveash/jg2p",
    files=dataset_files(
        f"{GITHUB}/steveash/jg2p/9ef91103/jg2p-core/src/test/resources/",
        ("g014b2b.train", 2717073, "5882433c3a14a9a0614b5f724ce74872851092e816852c82d6b74913b2085384"),
        ("g014b2b.test", 306441, "9beeeed7726f4954bee1dbb3c5b41f50a71227557eca70b259fbd63c9cad1bb9"),
    ),
    readers={"pronunciations": _read},
)
