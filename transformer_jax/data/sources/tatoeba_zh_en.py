"""Tatoeba: English and Chinese sentences."""

from transformer_jax.data import readers
from transformer_jax.data.line_pairs import Pair, PairSplits, with_held_out
from transformer_jax.data.sources.dataset import Dataset, dataset_files
from transformer_jax.data.sources.stored_files import locate_file


def _read(source_language: str, target_language: str) -> PairSplits:
    columns = TATOEBA_ZH_EN.languages
    source, target = columns.index(source_language), columns.index(target_language)

    def read(split: str) -> list[Pair]:
        rows = readers.read_tsv(locate_file(TATOEBA_ZH_EN, f"{split}.tsv"), num_columns=3)
        return [Pair(row[source], row[target], line) for line, row in enumerate(rows, 1)]

    return with_held_out(read("train"), read("val"), read("test"))


TATOEBA_ZH_EN = Dataset(
    name="tatoeba-zh-en",
    description="English and Chinese sentences of Tatoeba, split so that no sentence stands on two sides",
    licence="CC-BY 2.0 FR, attribution on each line",
    citation="Tatoeba, https://tatoeba.org",
    homepage="https://tatoeba.org/en/downloads",
    files=dataset_files(
        None,
        ("train.tsv", 3671111, "d3cfc70630017290244a488639713cc60fe01086fc8fc4c16ac8a25f727f0f76"),
        ("val.tsv", 143700, "062cd9b47b8903b32bc17509b825272581138674959530ff8934b623678e58e1"),
        ("test.tsv", 143365, "1a82b1363b05968bc72b517ef799f1a08dea7f352447ebc8533a4f3cd4670476"),
    ),
    languages=("en", "zh"),
    readers={"pairs": _read},
)
