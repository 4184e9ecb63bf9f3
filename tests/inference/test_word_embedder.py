"""Vectors of words and lines, neighbours and analogies: each answer by itself."""

import numpy as np
import pytest

from transformer_jax.data.subword_buckets import SubwordBuckets
from transformer_jax.data.word_vocabulary import WordRule, WordVocabulary
from transformer_jax.errors import ConfigError, DataError
from transformer_jax.inference.word_embedder import WordEmbedder

WORDS = ["king", "queen", "man", "woman", "new_york", "cat"]
VECTORS = np.array([[2, 2, 0], [2, -2, 0], [0, 2, 0.1], [0, -2, 0.1], [1, 0, 5], [-1, 0, 1]], np.float32)


def embedder(**options) -> WordEmbedder:
    vocabulary = WordVocabulary(WORDS, [9, 8, 7, 6, 5, 4], phrase_passes=1, **options)
    return WordEmbedder(name="tiny", vocabulary=vocabulary, vectors=VECTORS)


def test_analogy_is_that_of_unit_vectors_without_its_own_words() -> None:
    found = embedder().analogy("man", "king", "woman", num_neighbours=2)
    assert found[0].word == "queen"
    assert len(found) == 2
    assert found[0].similarity > found[1].similarity


def test_nearest_leaves_the_words_of_the_text_out() -> None:
    found = embedder().nearest("King", num_neighbours=99)
    assert [one.word for one in found] == ["man", "new_york", "queen", "cat", "woman"]
    units = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    assert found[0].similarity == pytest.approx(float(units[0] @ units[2]), abs=1e-6)
    assert {one.word for one in embedder().nearest("a king of New York", num_neighbours=9)} == {
        "queen", "man", "woman", "cat",
    }  # fmt: skip


def test_a_line_is_the_mean_of_its_words() -> None:
    (line, nothing, empty) = embedder().embed(["New York, king!", "zoo", ""])
    np.testing.assert_allclose(line.vector, (VECTORS[4] + VECTORS[0]) / 2)
    assert (line.num_words, line.num_known) == (2, 2)
    assert (nothing.num_words, nothing.num_known, nothing.vector.any()) == (1, 0, False)
    assert (empty.num_words, empty.num_known) == (0, 0)


def test_an_answer_does_not_depend_on_its_neighbours() -> None:
    texts = ["king cat", "queen", "", "zoo", "new york man"] * 7
    together = embedder().embed(texts)
    order = np.random.default_rng(0).permutation(len(texts))
    for place, found in zip(order, embedder().embed([texts[one] for one in order]), strict=True):
        np.testing.assert_array_equal(found.vector, together[place].vector)
        np.testing.assert_array_equal(found.vector, embedder().embed([texts[place]])[0].vector)


def test_unknown_words_are_one_line_with_what_is_near() -> None:
    with pytest.raises(
        DataError, match=r"tiny: 'quen' has no word of the 6 with a vector; did you mean 'queen'\?"
    ):
        embedder().nearest("quen")
    with pytest.raises(DataError, match="'zoo'"):
        embedder().analogy("man", "king", "zoo")
    with pytest.raises(ConfigError, match="a list of texts"):
        embedder().embed("king")
    with pytest.raises(ConfigError, match="num_neighbours"):
        embedder().nearest("king", num_neighbours=0)


def test_case_counts_only_where_the_rule_says_so() -> None:
    assert embedder().vector("KING") is not None
    assert embedder(rule=WordRule(lowercase=False)).vector("KING") is None


def test_words_never_seen_have_the_mean_of_their_n_grams() -> None:
    subwords = SubwordBuckets(min_len=3, max_len=3, num_buckets=7)
    vocabulary = WordVocabulary(WORDS, [9, 8, 7, 6, 5, 4], subwords=subwords)
    buckets = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    found = WordEmbedder(name="tiny", vocabulary=vocabulary, vectors=VECTORS, bucket_vectors=buckets)
    np.testing.assert_allclose(
        found.vector("Kings"), buckets[subwords.of_word("kings")].mean(axis=0), rtol=1e-6
    )
    assert found.nearest("kings", num_neighbours=1)
