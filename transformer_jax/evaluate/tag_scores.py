"""Scores of taggers: accuracy, precision, recall and F1 of labels and of pieces, confusions.

Counts travel as `LabelCounts`: parts of a data set add up and are divided once.
"""

import collections
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from transformer_jax.data.iob import pieces_of
from transformer_jax.errors import DataError

Labels = Sequence[Sequence[str]]


class LabelCounts(NamedTuple):
    r"""How often a label was right, put out, and wanted.

    .. math:: P = c / p, \quad R = c / w, \quad F_1 = \frac{2 P R}{P + R} = \frac{2 c}{p + w}

    Attributes:
      correct: :math:`c`, put out where it was wanted.
      predicted: :math:`p`, put out.
      wanted: :math:`w`, in the references.

    Example:
      >>> counts = LabelCounts(2, 3, 4)
      >>> f"{counts.precision:.3f} {counts.recall:.3f} {counts.f1:.3f}"
      '0.667 0.500 0.571'
    """

    correct: int
    predicted: int
    wanted: int

    @property
    def precision(self) -> float:
        """Share of what was put out that is right; 0 where nothing was."""
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of what was wanted that was found; 0 where nothing was wanted."""
        return self.correct / self.wanted if self.wanted else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of both; 0 where nothing was right."""
        return 2 * self.correct / (self.predicted + self.wanted) if self.correct else 0.0

    def plus(self, other: "LabelCounts") -> "LabelCounts":
        """The counts of both together."""
        return LabelCounts(*(one + two for one, two in zip(self, other, strict=True)))


def label_counts(predicted: Labels, references: Labels) -> dict[str, LabelCounts]:
    """Counts of each label over words.

    Args:
      predicted: Labels of each sentence.
      references: The wanted ones.

    Raises:
      DataError: If a sentence has another number of labels than its reference.

    Example:
      >>> label_counts([["A", "B"]], [["A", "A"]])
      {'A': LabelCounts(correct=1, predicted=1, wanted=2), 'B': LabelCounts(correct=0, predicted=1, wanted=0)}
    """
    _check(predicted, references)
    return _counted(
        (dict(enumerate(one)), dict(enumerate(wanted)))
        for one, wanted in zip(predicted, references, strict=True)
    )


def piece_counts(predicted: Labels, references: Labels) -> dict[str, LabelCounts]:
    """Counts of each type of piece over IOB labels: right are those of the same type, start and end.

    Args:
      predicted: Labels of each sentence; sequences that break the scheme are read as conlleval does.
      references: The wanted ones.

    Raises:
      DataError: If a sentence has another number of labels than its reference.

    Example:
      >>> piece_counts([["B-a", "I-a", "B-b"]], [["B-a", "I-a", "O"]])
      {'a': LabelCounts(correct=1, predicted=1, wanted=1), 'b': LabelCounts(correct=0, predicted=1, wanted=0)}

    Source: Tjong Kim Sang & Buchholz 2000, https://aclanthology.org/W00-0726; the counts are those of seqeval in its
    usual mode, https://github.com/chakki-works/seqeval.
    """
    _check(predicted, references)
    return _counted(
        ({(start, stop): label for label, start, stop in pieces_of(labels)} for labels in pair)
        for pair in zip(predicted, references, strict=True)
    )


def total_counts(counts: Mapping[str, LabelCounts]) -> LabelCounts:
    """The counts of all labels together; its F1 is the micro average.

    Example:
      >>> total_counts({"a": LabelCounts(1, 1, 2), "b": LabelCounts(1, 2, 1)})
      LabelCounts(correct=2, predicted=3, wanted=3)
    """
    total = LabelCounts(0, 0, 0)
    for one in counts.values():
        total = total.plus(one)
    return total


def mean_f1(counts: Mapping[str, LabelCounts]) -> float:
    """Macro average: the mean F1 of the labels that occur; 0 where none does.

    Example:
      >>> mean_f1({"a": LabelCounts(1, 1, 1), "b": LabelCounts(0, 1, 1)})
      0.5
    """
    return float(np.mean([one.f1 for one in counts.values()])) if counts else 0.0


class TagSums(NamedTuple):
    """Counts of one sentence, or of many added up.

    Attributes:
      words: Words.
      right_words: Words with the right label.
      correct: Right pieces; of labels that are no IOB, right words.
      predicted: Pieces put out.
      wanted: Pieces of the references.
      sentences: Sentences.
      right_sentences: Sentences of which all labels, and the class where there is one, are right.
      right_classes: Sentences of which the class is right.
    """

    words: int
    right_words: int
    correct: int
    predicted: int
    wanted: int
    sentences: int
    right_sentences: int
    right_classes: int


def sentence_sums(
    predicted: Labels,
    references: Labels,
    *,
    classes: tuple[Sequence[str | None], Sequence[str | None]] | None = None,
    in_pieces: bool,
) -> npt.NDArray[np.int64]:
    """The `TagSums` of each sentence, ``[sentences, 8]``.

    Args:
      predicted: Labels of each sentence.
      references: The wanted ones.
      classes: Classes that were put out and those that were wanted; None where sentences have none.
      in_pieces: Whether labels are IOB.

    Raises:
      DataError: If a sentence has another number of labels than its reference.

    Example:
      >>> sentence_sums([["B-a", "O"]], [["B-a", "B-a"]], in_pieces=True).tolist()
      [[2, 1, 1, 1, 2, 1, 0, 0]]
    """
    _check(predicted, references)
    rows = []
    for place, (one, wanted) in enumerate(zip(predicted, references, strict=True)):
        right = sum(first == second for first, second in zip(one, wanted, strict=True))
        pieces = (right, len(one), len(wanted))
        if in_pieces:
            found, gold = set(pieces_of(one)), set(pieces_of(wanted))
            pieces = (len(found & gold), len(found), len(gold))
        class_right = classes is not None and classes[0][place] == classes[1][place]
        whole = right == len(wanted) and (classes is None or class_right)
        rows.append(TagSums(len(wanted), right, *pieces, 1, int(whole), int(class_right)))
    return np.array(rows, np.int64).reshape(len(rows), len(TagSums._fields))


MEASURES: Mapping[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "accuracy": lambda sums: _share(sums, "right_words", "words"),
    "f1": lambda sums: _share_of(
        2 * _column(sums, "correct"), _column(sums, "predicted") + _column(sums, "wanted")
    ),
    "exact_match": lambda sums: _share(sums, "right_sentences", "sentences"),
    "class_accuracy": lambda sums: _share(sums, "right_classes", "sentences"),
}
"""Scores of added-up `TagSums`, ``[..., 8] -> [...]``, as shares; ``"f1"`` is of pieces."""


def _column(sums: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
    return np.asarray(sums[..., TagSums._fields.index(name)], np.float64)


def _share(sums: npt.NDArray[np.float64], part: str, whole: str) -> npt.NDArray[np.float64]:
    return _share_of(_column(sums, part), _column(sums, whole))


def _share_of(part: npt.NDArray[np.float64], whole: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _counted(
    pairs: Iterable[Iterable[Mapping[Hashable, str]]],
) -> dict[str, LabelCounts]:
    """Counts by label of pairs of mappings from a place to its label: what was put out, and what was wanted."""
    correct: collections.Counter[str] = collections.Counter()
    predicted: collections.Counter[str] = collections.Counter()
    wanted: collections.Counter[str] = collections.Counter()
    for pair in pairs:
        found, gold = pair
        predicted.update(found.values())
        wanted.update(gold.values())
        correct.update(label for place, label in gold.items() if found.get(place) == label)
    return {
        label: LabelCounts(correct[label], predicted[label], wanted[label])
        for label in sorted(predicted.keys() | wanted.keys())
    }


def _check(predicted: Labels, references: Labels) -> None:
    if len(predicted) != len(references):
        raise DataError(
            f"labels of {len(predicted)} sentences and references of {len(references)}: wanted as many"
        )
    for place, (one, wanted) in enumerate(zip(predicted, references, strict=True), start=1):
        if len(one) != len(wanted):
            raise DataError(f"sentence {place}: {len(one)} labels for {len(wanted)} words")
