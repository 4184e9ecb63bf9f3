"""Scores of word vectors against loops and closed forms."""

import math
from pathlib import Path

import numpy as np
import pytest

from transformer_jax.data.sources.registry import locate
from transformer_jax.data.sources.stored_files import is_at_hand
from transformer_jax.data.word_judgements import read_analogies, read_judgements
from transformer_jax.errors import DataError
from transformer_jax.evaluate.vector_scores import analogies, average_ranks, correlation, spearman, unit_rows
from transformer_jax.plot.word_map import principal_components, word_map

RNG = np.random.default_rng(0)


def test_ranks_share_ties() -> None:
    values = RNG.integers(0, 5, 40)
    wanted = [
        sum(other < one for other in values) + (sum(other == one for other in values) + 1) / 2
        for one in values
    ]
    np.testing.assert_allclose(average_ranks(values), wanted)


def test_spearman_is_one_minus_the_squares_of_rank_differences() -> None:
    first, second = RNG.permutation(20), RNG.permutation(20)
    wanted = 1 - 6 * ((first - second) ** 2).sum() / (20 * (20**2 - 1))  # without ties
    assert spearman(first, second) == pytest.approx(wanted)
    assert spearman(first, first**3) == pytest.approx(1.0)
    assert spearman(first, -first) == pytest.approx(-1.0)
    # scipy 1.17, spearmanr([1, 2, 2, 3, 5], [2, 1, 4, 4, 3])
    assert spearman([1, 2, 2, 3, 5], [2, 1, 4, 4, 3]) == pytest.approx(0.394736842, abs=1e-8)
    assert math.isnan(spearman([1, 1], [1, 2]))


def test_pairs_without_a_vector_are_left_out_and_counted() -> None:
    vectors = {"a": np.ones(2, np.float32), "b": np.array([1, 0], np.float32)}
    found = correlation(vectors.get, [("a", "b", 1.0), ("a", "x", 2.0), ("x", "y", 3.0)])
    assert (found.num_pairs, found.num_unknown) == (1, 2)
    assert math.isnan(found.spearman)
    assert found.unknown_share == pytest.approx(2 / 3)


def test_analogies_are_those_of_a_loop() -> None:
    units = unit_rows(RNG.normal(size=(30, 6)).astype(np.float32))
    questions = [tuple(RNG.choice(30, 4, replace=False)) for _ in range(600)] + [(None, 1, 2, 3)]
    right = 0
    for first, second, third, fourth in questions[:-1]:
        cosines = units @ (units[second] - units[first] + units[third])
        cosines[[first, second, third]] = -np.inf
        right += cosines.argmax() == fourth
    found = analogies(units, questions)
    assert (found.num_correct, found.num_questions, found.num_unknown) == (right, 600, 1)
    assert right > 0


@pytest.mark.skipif(not is_at_hand("word-similarity"), reason="the set is not at hand")
def test_judgements_and_analogies_of_the_named_set_are_read() -> None:
    files = [
        locate("word-similarity", one) for one in ("wordsim353.tsv", "simlex999.txt", "questions-words.txt")
    ]
    assert [len(read_judgements(one)) for one in files[:2]] == [353, 999]
    questions = read_analogies(files[2])
    assert len(questions) == 19544
    assert len({one.section for one in questions}) == 14


@pytest.mark.parametrize("text", ["a\tb\n", "a\tb\tmuch\n", "\tb\t1\n", "a\tb\tnan\n", "# nothing\n"])
def test_faults_of_judgements_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.tsv").write_text(text)
    with pytest.raises(DataError, match=r"bad\.tsv"):
        read_judgements(tmp_path / "bad.tsv")
    (tmp_path / "bad.txt").write_text(": family\nman king woman\n")
    with pytest.raises(DataError, match="line 2: wanted four words, got 3"):
        read_analogies(tmp_path / "bad.txt")


def test_components_are_those_of_largest_variance() -> None:
    table = RNG.normal(size=(50, 4)) * [5.0, 0.1, 2.0, 0.5]
    places, shares = principal_components(table)
    values = np.sort(np.linalg.eigvalsh(np.cov(table.T)))[::-1]
    np.testing.assert_allclose(places.var(axis=0, ddof=1), values[:2])
    np.testing.assert_allclose(shares, values[:2] / values.sum())
    flipped, _ = principal_components(table[:, ::-1])
    np.testing.assert_allclose(flipped, places)


def test_a_map_wants_two_words(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least two words"):
        word_map(["a"], [[1.0]])
    word_map(["a", "b"], [[1.0, 0.0], [0.0, 1.0]], path=tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 1000
