"""Scores of classifiers: accuracy, precision, recall and F1 of each class, calibration, McNemar's test."""

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from transformer_jax.errors import ShapeError

Ints = npt.NDArray[np.integer]


def confusion_matrix(truth: Ints, predicted: Ints, num_classes: int) -> npt.NDArray[np.int64]:
    """How often each class was predicted for each class: rows are the truth.

    Args:
      truth: Numbers of the true classes.
      predicted: Numbers of the predicted classes.
      num_classes: Classes.

    Raises:
      ShapeError: If the two differ in length, or a number is no class.

    Example:
      >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
      [[1, 1], [0, 1]]
    """
    truth, predicted = np.asarray(truth, np.int64), np.asarray(predicted, np.int64)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ShapeError(f"truth and predicted must have one length, got {truth.shape} and {predicted.shape}")
    numbers = np.concatenate([truth, predicted])
    if numbers.size and not (numbers.min() >= 0 and numbers.max() < num_classes):
        raise ShapeError(f"classes must be 0 to {num_classes - 1}, got {numbers.min()} to {numbers.max()}")
    return np.bincount(truth * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, -1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassScores:
    """Scores that follow from a confusion matrix.

    Attributes:
      confusion: ``[classes, classes]``, rows are the truth.
    """

    confusion: npt.NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """Share of examples that are right; NaN of none."""
        total = int(self.confusion.sum())
        return float(np.trace(self.confusion)) / total if total else math.nan

    @property
    def support(self) -> npt.NDArray[np.int64]:
        """Examples of each class."""
        return self.confusion.sum(axis=1)

    @property
    def precision(self) -> npt.NDArray[np.float64]:
        """Of what was predicted as a class, the share that is of it; 0 where nothing was."""
        return _share(np.diag(self.confusion), self.confusion.sum(axis=0))

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """Of what is of a class, the share that was predicted as it; 0 where nothing is."""
        return _share(np.diag(self.confusion), self.support)

    @property
    def f1(self) -> npt.NDArray[np.float64]:
        r"""Harmonic mean of precision and recall: :math:`2 t_c / (n_c + p_c)`."""
        return _share(2 * np.diag(self.confusion), self.confusion.sum(axis=0) + self.support)

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that are true or predicted somewhere, each counted alike.

        Example:
          >>> round(ClassScores(confusion=np.array([[1, 1], [0, 1]])).macro_f1, 4)
          0.6667
        """
        occurs = (self.confusion.sum(axis=0) + self.support) > 0
        return float(self.f1[occurs].mean()) if occurs.any() else math.nan


def _share(part: npt.NDArray[np.integer], whole: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    r"""How well probabilities say how often a classifier is right.

    .. math:: \mathrm{ECE} = \sum_k \frac{n_k}{n} \left| \mathrm{acc}_k - \mathrm{conf}_k \right|

    Attributes:
      edges: ``[bins + 1]``, edges of equal bins of the probability of the predicted class.
      counts: ``[bins]``, predictions in each.
      confidence: ``[bins]``, their mean probability; 0 in an empty bin.
      accuracy: ``[bins]``, the share of them that are right; 0 in an empty bin.

    Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 2.
    """

    edges: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]

    @property
    def error(self) -> float:
        """Expected calibration error; NaN of no prediction."""
        total = int(self.counts.sum())
        return float(self.counts @ np.abs(self.accuracy - self.confidence)) / total if total else math.nan


def calibration(confidences: npt.ArrayLike, is_right: npt.ArrayLike, *, num_bins: int = 15) -> Calibration:
    """Calibration of predictions.

    Args:
      confidences: Probability of each predicted class.
      is_right: Whether each prediction is right.
      num_bins: Bins of equal width; each has its upper edge, and the first 0 too.

    Raises:
      ShapeError: If the two differ in length, or a confidence is no probability.

    Example:
      >>> round(calibration([0.9, 0.8, 0.6], [True, True, False], num_bins=5).error, 4)
      0.3
    """
    given, right = np.asarray(confidences, np.float64), np.asarray(is_right, bool)
    if given.shape != right.shape or given.ndim != 1:
        raise ShapeError(
            f"confidences and is_right must have one length, got {given.shape} and {right.shape}"
        )
    if given.size and not (given.min() >= 0 and given.max() <= 1 + 1e-6):
        raise ShapeError(f"confidences must be probabilities, got {given.min()} to {given.max()}")
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    bins = np.clip(np.searchsorted(edges, given, side="left") - 1, 0, num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    return Calibration(
        edges=edges,
        counts=counts,
        confidence=_mean(np.bincount(bins, weights=given, minlength=num_bins), counts),
        accuracy=_mean(np.bincount(bins, weights=right, minlength=num_bins), counts),
    )


def _mean(total: npt.NDArray[Any], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.divide(total, counts, out=np.zeros(len(counts)), where=counts > 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class McNemar:
    """McNemar's test of two classifiers on the same examples.

    Attributes:
      only_first: Examples that the first alone has right.
      only_second: Examples that the second alone has right.
      p_value: Probability of a difference at least this large if both were equally good: exact, two-sided, binomial.
    """

    only_first: int
    only_second: int
    p_value: float

    @property
    def differs(self) -> bool:
        """Whether the two differ at the 5 % level."""
        return self.p_value < 0.05


def mcnemar(first_is_right: npt.ArrayLike, second_is_right: npt.ArrayLike) -> McNemar:
    r"""Test whether two classifiers are right equally often, on the examples where one alone is.

    .. math:: p = \min\Bigl(1,\; 2^{1-n} \sum_{k \le \min(b, c)} \binom{n}{k}\Bigr), \quad n = b + c

    Args:
      first_is_right: Whether the first is right on each example.
      second_is_right: The same of the second.

    Raises:
      ShapeError: If the two differ in length.

    Example:
      >>> mcnemar([True] * 9 + [False], [False] * 8 + [True, True]).p_value
      0.0390625

    Source: McNemar 1947, https://doi.org/10.1007/BF02295996; recommended for classifiers by Dietterich 1998.
    """
    first, second = np.asarray(first_is_right, bool), np.asarray(second_is_right, bool)
    if first.shape != second.shape:
        raise ShapeError(f"both must be of the same examples, got {first.shape} and {second.shape}")
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    total = only_first + only_second
    tail = sum(math.comb(total, k) for k in range(min(only_first, only_second) + 1))
    # Integers have no limit, floats have: the quotient is taken last.
    p_value = min(1.0, 2 * tail / 2**total)
    return McNemar(only_first=only_first, only_second=only_second, p_value=p_value)
