"""Scores of taggers against golden values of seqeval and scikit-learn, and against a loop."""

from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from transformer_jax.data.iob import pieces_of
from transformer_jax.errors import DataError
from transformer_jax.evaluate.paired_sums import paired_bootstrap
from transformer_jax.evaluate.tag_scores import (
    MEASURES,
    LabelCounts,
    label_counts,
    mean_f1,
    piece_counts,
    sentence_sums,
    total_counts,
)

WANTED = [text.split() for text in ("B-a I-a O B-b", "O O B-a", "B-b I-b I-b O B-a", "O")]
PREDICTED = [text.split() for text in ("B-a I-a B-b B-b", "O B-a B-a", "B-b I-b O O I-a", "O")]


def test_pieces_equal_seqeval() -> None:
    """seqeval 1.2.2: precision 4/7, recall 4/5, f1 0.6666666666666666; by type a 0.857142..., b 0.4."""
    counts = piece_counts(PREDICTED, WANTED)
    total = total_counts(counts)
    assert total == LabelCounts(4, 7, 5)
    assert total.precision == pytest.approx(4 / 7)
    assert total.recall == pytest.approx(4 / 5)
    assert total.f1 == pytest.approx(0.6666666666666666)
    assert counts["a"].f1 == pytest.approx(0.8571428571428571)
    assert counts["b"].f1 == pytest.approx(0.4)


def test_labels_equal_scikit_learn() -> None:
    """scikit-learn 1.9.1: f1_score(wanted, predicted, average="macro") is 0.7222222222222222."""
    wanted, predicted = ["A", "A", "B", "C", "B", "A"], ["A", "B", "B", "C", "A", "A"]
    counts = label_counts([predicted], [wanted])
    assert counts == {
        "A": LabelCounts(2, 3, 3),
        "B": LabelCounts(1, 2, 2),
        "C": LabelCounts(1, 1, 1),
    }
    assert mean_f1(counts) == pytest.approx(0.7222222222222222)


PAIRS = st.lists(
    st.lists(st.tuples(*[st.sampled_from(["B-a", "I-a", "B-b", "I-b", "O"])] * 2), min_size=1, max_size=8),
    min_size=1,
    max_size=6,
)


@hypothesis.given(PAIRS)
def test_sums_of_sentences_add_up_to_the_counts(pairs) -> None:
    predicted, wanted = ([[pair[side] for pair in one] for one in pairs] for side in (0, 1))
    total = sentence_sums(predicted, wanted, in_pieces=True).sum(axis=0)
    counts = total_counts(piece_counts(predicted, wanted))
    assert tuple(total[2:5]) == tuple(counts)
    assert float(MEASURES["f1"](total)) == pytest.approx(counts.f1)
    right = sum(one == two for pair in pairs for one, two in pair)
    assert float(MEASURES["accuracy"](total)) == pytest.approx(right / sum(map(len, pairs)))
    gold = sum(
        len(set(pieces_of(one)) & set(pieces_of(two))) for one, two in zip(predicted, wanted, strict=True)
    )
    assert counts.correct == gold


def test_a_sentence_is_right_if_its_class_is_too() -> None:
    classes = (["x", "y"], ["x", "x"])
    sums = sentence_sums([["O"], ["O"]], [["O"], ["O"]], classes=classes, in_pieces=True)
    total = sums.sum(axis=0)
    assert float(MEASURES["exact_match"](total)) == 0.5
    assert float(MEASURES["class_accuracy"](total)) == 0.5
    assert float(MEASURES["f1"](total)) == 0.0  # there is no piece


def test_sentences_that_do_not_belong_together() -> None:
    with pytest.raises(DataError, match="labels of 1 sentences and references of 0"):
        piece_counts([["O"]], [])
    with pytest.raises(DataError, match="sentence 1: 2 labels for 1 words"):
        label_counts([["O", "O"]], [["O"]])


def test_bootstrap_finds_a_difference_and_none() -> None:
    generator = np.random.default_rng(0)
    words = generator.integers(5, 20, 300)
    sums = np.stack([generator.binomial(words, 0.9), words], axis=1)
    worse = np.stack([generator.binomial(words, 0.8), words], axis=1)

    def measure(counts: Any) -> Any:
        return counts[..., 0] / counts[..., 1]

    found = paired_bootstrap(sums, worse, measure)
    assert found.differs
    assert found.low < found.difference < found.high
    assert found.difference == pytest.approx(found.score - found.other)
    same = paired_bootstrap(sums, sums, measure)
    assert (same.difference, same.low, same.high, same.differs) == (0.0, 0.0, 0.0, False)
    # The interval of a mean of independent differences: 1.96 standard errors to each side.
    equal = np.full((400, 2), 1.0)
    first, second = equal.copy(), equal.copy()
    first[:, 0], second[:, 0] = generator.random((2, 400)) < 0.5
    wide = paired_bootstrap(first, second, measure, num_samples=4000)
    error = (first[:, 0] - second[:, 0]).std() / 20
    assert wide.high - wide.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_bootstrap_of_other_examples_is_refused() -> None:
    with pytest.raises(DataError, match="of the same examples"):
        paired_bootstrap(np.ones((2, 2)), np.ones((3, 2)), lambda counts: counts[..., 0])
