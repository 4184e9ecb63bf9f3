"""Scores of classifiers: closed forms, golden values of scikit-learn 1.7, properties, refusals."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_jax.errors import ShapeError
from transformer_jax.evaluate.classification import ClassScores, calibration, confusion_matrix, mcnemar

TRUTH = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])
PREDICTED = np.array([0, 1, 0, 1, 2, 2, 2, 0, 2, 2])


def test_golden_values_of_scikit_learn() -> None:
    """``confusion_matrix``, ``precision_recall_fscore_support`` and ``f1_score(average="macro")``."""
    scores = ClassScores(confusion=confusion_matrix(TRUTH, PREDICTED, 5))
    assert scores.confusion.tolist() == [
        [2, 1, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [1, 0, 3, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0],
    ]
    np.testing.assert_allclose(scores.precision, [2 / 3, 0.5, 0.6, 0.0, 0.0])
    np.testing.assert_allclose(scores.recall, [2 / 3, 0.5, 0.75, 0.0, 0.0])
    np.testing.assert_allclose(scores.f1, [2 / 3, 0.5, 2 / 3, 0.0, 0.0])
    assert scores.support.tolist() == [3, 2, 4, 1, 0]
    assert scores.accuracy == 0.6
    assert scores.macro_f1 == pytest.approx(0.4583333333333333)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=50))
def test_scores_do_not_depend_on_the_order_and_a_perfect_one_is_one(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = map(np.array, zip(*pairs, strict=True))
    scores = ClassScores(confusion=confusion_matrix(truth, predicted, 4))
    assert scores.confusion.sum() == len(pairs)
    turned = ClassScores(confusion=confusion_matrix(truth[::-1], predicted[::-1], 4))
    assert (turned.confusion == scores.confusion).all()
    assert scores.accuracy == pytest.approx(np.mean(truth == predicted))
    perfect = ClassScores(confusion=confusion_matrix(truth, truth, 4))
    assert (perfect.accuracy, perfect.macro_f1) == (1.0, 1.0)
    assert math.isclose(float(scores.recall @ scores.support) / len(pairs), scores.accuracy)


def test_of_nothing_there_is_no_score() -> None:
    empty = np.array([], int)
    scores = ClassScores(confusion=confusion_matrix(empty, empty, 3))
    assert math.isnan(scores.accuracy)
    assert math.isnan(scores.macro_f1)
    assert math.isnan(calibration([], []).error)


def test_calibration_is_that_of_a_loop() -> None:
    generator = np.random.default_rng(0)
    confidences = generator.random(200)
    is_right = generator.random(200) < confidences
    found = calibration(confidences, is_right, num_bins=10)
    wanted = 0.0
    for number in range(10):
        low, high = number / 10, (number + 1) / 10
        inside = (confidences > low) & (confidences <= high)
        if inside.any():
            wanted += inside.sum() / 200 * abs(is_right[inside].mean() - confidences[inside].mean())
    assert found.error == pytest.approx(wanted)
    assert found.counts.sum() == 200


def test_calibration_at_the_edges() -> None:
    found = calibration([0.0, 0.2, 0.2000001, 1.0], [False, True, True, True], num_bins=5)
    assert found.counts.tolist() == [2, 1, 0, 0, 1]
    assert calibration([1.0, 1.0], [True, True]).error == 0.0
    assert calibration([1.0, 1.0], [False, False]).error == 1.0


def test_mcnemar_is_the_exact_binomial_test() -> None:
    """``scipy.stats.binomtest(5, 20).pvalue`` is 0.04138946533203125."""
    first = [True] * 15 + [False] * 5 + [True] * 30
    second = [False] * 15 + [True] * 5 + [True] * 30
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (15, 5)
    assert found.p_value == pytest.approx(0.04138946533203125)
    assert found.differs
    assert mcnemar(second, first).p_value == found.p_value
    assert mcnemar(first, first).p_value == 1.0
    assert not mcnemar(first, first).differs
    many = np.arange(20_000) < 15_000
    assert mcnemar(many, ~many).p_value == pytest.approx(0.0, abs=1e-300)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: confusion_matrix(TRUTH, PREDICTED[:3], 4), "one length"),
        (lambda: confusion_matrix(TRUTH, PREDICTED, 3), "classes must be 0 to 2"),
        (lambda: calibration([0.5], [True, False]), "one length"),
        (lambda: calibration([1.5], [True]), "must be probabilities"),
        (lambda: mcnemar([True], [True, False]), "the same examples"),
    ],
)
def test_refusals(call, message) -> None:
    with pytest.raises(ShapeError, match=message):
        call()
