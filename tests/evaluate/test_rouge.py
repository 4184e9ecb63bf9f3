"""ROUGE against the examples of its paper and counts by hand; exact matches."""

import pytest

from transformer_jax.errors import DataError
from transformer_jax.evaluate.report import score_outputs
from transformer_jax.evaluate.rouge import exact_match, rouge, rouge_l, rouge_n, rouge_words

REFERENCE = ["police", "killed", "the", "gunman"]


@pytest.mark.parametrize(
    ("candidate", "score"),
    [
        ("police kill the gunman", 3 / 4),
        ("the gunman kill police", 2 / 4),
        ("the gunman police killed", 2 / 4),
    ],
)
def test_longest_common_subsequence_of_the_paper(candidate: str, score: float) -> None:
    assert rouge_l(candidate.split(), REFERENCE) == score


def test_n_grams_count_as_often_as_both_have_them() -> None:
    assert rouge_n(["the", "the", "the", "cat"], ["the", "cat", "the", "dog"], 1) == 2 * 3 / 8
    assert rouge_n(["a", "b", "a", "b"], ["a", "b", "c"], 2) == 2 * 1 / 5
    assert rouge_n(["a"], ["a"], 2) == 0.0


def test_words_are_those_of_googles_package() -> None:
    assert rouge_words("Re: FW: Q3-report's caf\u00e9 (v2.0)") == [
        "re",
        "fw",
        "q3",
        "report",
        "s",
        "caf",
        "v2",
        "0",
    ]


def test_best_reference_counts_for_each_score() -> None:
    found = rouge(["a b c", ""], [["a b x", "c"], ["a"]])
    assert [(one.name, round(one.score, 4)) for one in found] == [
        ("ROUGE1", round(50 * 2 / 3, 4)),
        ("ROUGE2", 25.0),
        ("ROUGEL", round(50 * 2 / 3, 4)),
    ]


def test_exact_matches_leave_ends_of_lines_out() -> None:
    found = exact_match([" x = 1", "y", ""], [["x = 1 "], ["z", "y"], ["q"]])
    assert (found.score, found.signature) == (pytest.approx(200 / 3), "2 of 3")


def test_report_of_rewritings_has_all_scores() -> None:
    report = score_outputs("rewriting", ["x = 1"], [["x = 1"]])
    assert [one.name for one in report.text_scores] == ["exact", "ROUGE1", "ROUGE2", "ROUGEL", "BLEU"]


@pytest.mark.parametrize("arguments", [([], []), (["a"], []), (["a"], [[]])])
def test_lines_without_references_are_refused(arguments: tuple) -> None:
    with pytest.raises(DataError, match="as many outputs as references"):
        rouge(*arguments)
