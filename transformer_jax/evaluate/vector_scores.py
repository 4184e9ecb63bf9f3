"""Scores of word vectors: rank correlation with judgements of similarity, and accuracy on analogies."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_QUESTIONS = 256
"""Analogies that are answered by one matrix product."""


@dataclasses.dataclass(frozen=True)
class CorrelationScore:
    """Rank correlation over the pairs whose words have vectors.

    Attributes:
      spearman: Spearman's rho; NaN where fewer than two pairs are left, or all are equal.
      num_pairs: Pairs that were compared.
      num_unknown: Pairs with a word that has no vector, which are left out.
    """

    spearman: float
    num_pairs: int
    num_unknown: int

    @property
    def unknown_share(self) -> float:
        """Share of the pairs that were left out."""
        total = self.num_pairs + self.num_unknown
        return self.num_unknown / total if total else 0.0


@dataclasses.dataclass(frozen=True)
class AnalogyScore:
    """Share of the analogies whose fourth word is the nearest, over those whose words all have vectors.

    Attributes:
      num_correct: Answered as people do.
      num_questions: Questions that were asked.
      num_unknown: Questions with a word that has no vector, which are left out.
    """

    num_correct: int
    num_questions: int
    num_unknown: int

    @property
    def accuracy(self) -> float:
        """Share that was answered as people do; NaN without a question."""
        return self.num_correct / self.num_questions if self.num_questions else math.nan

    @property
    def unknown_share(self) -> float:
        """Share of the questions that were left out."""
        total = self.num_questions + self.num_unknown
        return self.num_unknown / total if total else 0.0


def average_ranks(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Ranks from 1 on; equal values share the mean of theirs.

    Example:
      >>> average_ranks([3.0, 1.0, 3.0]).tolist()
      [2.5, 1.0, 2.5]
    """
    _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[inverse]


def spearman(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Spearman's rank correlation: Pearson's of the ranks; NaN where there is none.

    Example:
      >>> round(spearman([1, 2, 3, 4], [1, 3, 2, 4]), 3)
      0.8

    Source: Spearman 1904.
    """
    ranks = [average_ranks(one) - (len(np.asarray(one)) + 1) / 2.0 for one in (first, second)]
    scale = math.sqrt(float(ranks[0] @ ranks[0]) * float(ranks[1] @ ranks[1]))
    return float(ranks[0] @ ranks[1]) / scale if scale > 0 else math.nan


def correlation(
    vector_of: Callable[[str], Floats | None], judgements: Sequence[tuple[str, str, float]]
) -> CorrelationScore:
    """Correlation of cosines with judgements.

    Args:
      vector_of: Vector of a word; None for one that has none.
      judgements: Two words and how similar they are.

    Example:
      >>> vectors = {"a": np.ones(2, np.float32), "b": np.array([1, 0], np.float32), "c": -np.ones(2, np.float32)}
      >>> correlation(vectors.get, [("a", "b", 5.0), ("a", "c", 1.0), ("a", "d", 3.0)])
      CorrelationScore(spearman=1.0, num_pairs=2, num_unknown=1)
    """
    found = [(vector_of(first), vector_of(second), score) for first, second, score in judgements]
    known = [
        (first, second, score) for first, second, score in found if first is not None and second is not None
    ]
    cosines = [float(unit_rows(first[None])[0] @ unit_rows(second[None])[0]) for first, second, _ in known]
    scores = [score for _, _, score in known]
    rho = spearman(cosines, scores) if len(known) > 1 else math.nan
    return CorrelationScore(rho, len(known), len(found) - len(known))


def unit_rows(vectors: Floats) -> Floats:
    """Rows of length 1; those of length 0 stay.

    Example:
      >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)).tolist()
      [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    lengths = np.sqrt(np.einsum("rd,rd->r", vectors, vectors, dtype=np.float64))
    return (vectors / np.where(lengths > 0, lengths, 1.0)[:, None]).astype(np.float32)


def analogies(
    units: Floats, questions: Sequence[tuple[int | None, int | None, int | None, int | None]]
) -> AnalogyScore:
    r"""Accuracy of :math:`\arg\max_w \cos(w, b - a + c)` over all words but the three of the question.

    Args:
      units: Vectors of length 1, ``[words, width]``.
      questions: Ids of the four words of each, None for one without a vector.

    Example:
      >>> units = unit_rows(np.array([[1, 0], [1, 1], [0, 1], [-1, 1]], np.float32))
      >>> analogies(units, [(0, 1, 2, 3), (0, 1, 2, None)])
      AnalogyScore(num_correct=1, num_questions=1, num_unknown=1)

    Source: Mikolov et al. 2013, https://aclanthology.org/N13-1090 (3CosAdd).
    """
    ids = np.asarray([one for one in questions if None not in one], np.int64).reshape(-1, 4)
    num_correct = 0
    for start in range(0, len(ids), _QUESTIONS):
        part = ids[start : start + _QUESTIONS]
        sums = units[part[:, 1]] - units[part[:, 0]] + units[part[:, 2]]
        cosines = sums @ units.T
        np.put_along_axis(cosines, part[:, :3], -np.inf, axis=1)
        num_correct += int((cosines.argmax(axis=1) == part[:, 3]).sum())
    return AnalogyScore(num_correct, len(ids), len(questions) - len(ids))
