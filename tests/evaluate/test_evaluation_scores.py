"""Scores against closed forms and against a plain dynamic programme."""

import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_jax.errors import ConfigError, DataError
from transformer_jax.evaluate.error_rates import (
    ErrorSum,
    character_errors,
    closest_reference,
    edit_distance,
    phoneme_errors,
    pronunciation_errors,
    word_errors,
)
from transformer_jax.evaluate.likelihood import bits_per_token, mean_loss, perplexity
from transformer_jax.evaluate.report import score_outputs
from transformer_jax.evaluate.text import bleu, chrf

TOKENS = st.lists(st.sampled_from(["AE", "K", "T", "S"]), max_size=7)


def levenshtein(left: list[str], right: list[str]) -> int:
    """The textbook table."""
    table = [[i + j if i * j == 0 else 0 for j in range(len(right) + 1)] for i in range(len(left) + 1)]
    for i, x in enumerate(left, 1):
        for j, y in enumerate(right, 1):
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (x != y))
    return table[-1][-1]


@given(TOKENS, TOKENS)
def test_edit_distance_is_the_tables(left: list[str], right: list[str]) -> None:
    assert edit_distance(left, right) == levenshtein(left, right)


def test_phonemes_are_counted_against_the_closest_reference() -> None:
    hypotheses = [["R", "IY", "D"], ["K"]]
    references = [[["R", "EH", "D", "Z"], ["R", "EH", "D"]], [["K", "AE", "T"]]]
    assert closest_reference(hypotheses[0], references[0]) == (1, ["R", "EH", "D"])
    assert phoneme_errors(hypotheses, references) == ErrorSum(1 + 2, 3 + 3)
    assert pronunciation_errors(hypotheses, references) == ErrorSum(2, 2)
    assert pronunciation_errors([["R", "EH", "D"]], references[:1]) == ErrorSum(0, 1)


def test_parts_of_a_set_add_up_to_the_whole() -> None:
    hypotheses, references = ["a b", "c", "d e f"], ["a x", "c", "d f"]
    whole = word_errors(hypotheses, references)
    parts = [word_errors([left], [right]) for left, right in zip(hypotheses, references)]
    assert whole == parts[0] + parts[1] + parts[2] == ErrorSum(2, 5)
    assert character_errors(["cat"], ["cut"]) == ErrorSum(1, 3)


def test_bad_counts_and_empty_references_are_refused() -> None:
    with pytest.raises(DataError, match="2"):
        word_errors(["a", "b"], ["a"])
    with pytest.raises(DataError, match="at least one"):
        phoneme_errors([["K"]], [[]])
    with pytest.raises(DataError, match="at least one reference token"):
        ErrorSum(0, 0).rate()


def test_perplexity_of_a_uniform_guess_is_the_vocabulary() -> None:
    loss = SimpleNamespace(sum=7 * math.log(43), count=7)
    assert perplexity(loss) == pytest.approx(43)
    assert bits_per_token(loss) == pytest.approx(math.log2(43))
    assert mean_loss(loss) == pytest.approx(math.log(43))
    with pytest.raises(DataError, match="at least one token"):
        perplexity(SimpleNamespace(sum=0.0, count=0))


def test_bleu_by_hand() -> None:
    """Precisions 5/6, 3/5, 1/4 and 0/3 smoothed to (1/2)/3; no brevity penalty."""
    found = bleu(["the cat sat on a mat"], ["the cat sat at a mat"], tokenize="none")
    by_hand = 100 * (5 / 6 * 3 / 5 * 1 / 4 * 0.5 / 3) ** 0.25
    assert found.score == pytest.approx(by_hand, abs=1e-6)
    assert "tok:none" in found.signature
    assert chrf(["the cat"], ["the cat"]).score == pytest.approx(100)


def test_report_by_task() -> None:
    spoken = score_outputs("pronunciation", ["K AE T", "D"], ["K AE T", "D IY"]).to_json()
    assert (spoken["per"]["errors"], spoken["per"]["total"]) == (1, 5)
    assert spoken["wer"]["rate"] == 0.5
    translated = score_outputs("translation", ["a cat sat here"], ["a cat sat here"]).to_json()
    assert translated["bleu"]["score"] == pytest.approx(100)
    with pytest.raises(ConfigError, match="translation"):
        # The misspelt task is what is tested; the types would refuse it before.
        score_outputs("translatoin", ["a"], ["a"])  # type: ignore[arg-type]
