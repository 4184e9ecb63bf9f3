"""From texts to numbered words: counts, phrases, and the same stream when a run is resumed."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from transformer_jax.data.documents import Document
from transformer_jax.data.prepare_words import encode_words, prepare_words
from transformer_jax.data.word_phrases import Phrases, join_phrases
from transformer_jax.data.word_vocabulary import WordRule, WordVocabulary
from transformer_jax.data.words_config import SubwordBuckets, TextFiles, WordsConfig
from transformer_jax.errors import ConfigError, DataError

TEXT = "New York is a city.\nThe city of New York, a city!\nnew times; New York\n"


def config(folder: Path, *, text: str = TEXT, **options) -> WordsConfig:
    (folder / "train.txt").write_text(text)
    (folder / "development.txt").write_text("A new city\n")
    files = TextFiles(train=(str(folder / "train.txt"),), development=(str(folder / "development.txt"),))
    return WordsConfig(datasets=(files,), **({"min_count": 2} | options))


def test_words_are_counted_and_numbered_by_frequency(tmp_path: Path) -> None:
    found = prepare_words(config(tmp_path))
    assert found.vocabulary.words == ("new", "city", "york", "a")
    assert found.vocabulary.counts.tolist() == [4, 3, 3, 2]
    assert found.train.num_words == 16
    words = [found.vocabulary.words[one] for one in found.train.ids]
    assert words == ["new", "york", "a", "city", "city", "new", "york", "a", "city", "new", "new", "york"]
    assert found.train.sentences.tolist() == [0] * 4 + [1] * 5 + [2] * 3
    assert [found.vocabulary.words[one] for one in found.development.ids] == ["a", "new", "city"]


def test_the_largest_vocabulary_is_cut_by_frequency(tmp_path: Path) -> None:
    assert prepare_words(config(tmp_path, max_words=3)).vocabulary.words == ("new", "city", "york")


def test_whole_documents_can_be_sentences(tmp_path: Path) -> None:
    assert set(prepare_words(config(tmp_path, sentences="documents")).train.sentences.tolist()) == {0}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"phrases": Phrases(threshold=1.0, min_count=1)},
        # "old_town" is a phrase, but too rare for the vocabulary: its words stand alone
        {
            "phrases": Phrases(threshold=1.0, min_count=1),
            "min_count": 3,
            "text": TEXT * 2 + "old town\n" * 2 + "old\ntown\n",
        },
    ],
)
def test_a_saved_vocabulary_gives_the_same_stream(tmp_path: Path, options: dict) -> None:
    first = prepare_words(config(tmp_path, **options))
    first.vocabulary.save(tmp_path / "vocabulary.json")
    again = prepare_words(
        config(tmp_path, **options), vocabulary=WordVocabulary.load(tmp_path / "vocabulary.json")
    )
    assert again.vocabulary.fingerprint() == first.vocabulary.fingerprint()
    for one, other in zip(first.train, again.train, strict=True):
        np.testing.assert_array_equal(one, other)


def test_phrases_are_those_of_a_loop_over_pairs() -> None:
    generator = np.random.default_rng(0)
    ids = generator.choice(6, 400, p=[0.4, 0.2, 0.2, 0.1, 0.05, 0.05]).astype(np.int32)
    ids[::9], ids[1::9] = 4, 5
    sentences = (np.arange(400) // 50).astype(np.int32)
    words = list("abcdef")
    phrases = Phrases(threshold=1.5, min_count=3)
    counts, pairs = np.bincount(ids), np.zeros((6, 6))
    for place in range(399):
        pairs[ids[place], ids[place + 1]] += sentences[place] == sentences[place + 1]
    wanted, place = [], 0
    while place < 400:
        one, other = ids[place], ids[min(place + 1, 399)]
        joins = (
            place < 399
            and sentences[place] == sentences[place + 1]
            and 400 * (pairs[one, other] - 3) / (counts[one] * counts[other]) > 1.5
        )
        wanted.append(f"{words[one]}_{words[other]}" if joins else words[one])
        place += 2 if joins else 1
    found, where, names = join_phrases(ids, sentences, words, phrases)
    assert [names[one] for one in found] == wanted
    assert "e_f" in wanted
    assert len(where) == len(found)


def test_lines_are_joined_into_the_phrases_of_the_vocabulary(tmp_path: Path) -> None:
    found = prepare_words(config(tmp_path, phrases=Phrases(threshold=1.0, min_count=1))).vocabulary
    assert "new_york" in found
    assert found.split("In New York now") == ["in", "new_york", "now"]
    stream = encode_words([Document("one", "new york\nnew")], found, sentences="lines")
    assert stream.num_words == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [("cat cat cat\n", "one distinct word, 'cat'"), ("1 2 3\n", "no word, of 0"), ("", "empty")],
)
def test_texts_without_two_words_are_refused(tmp_path: Path, text: str, message: str) -> None:
    found = config(tmp_path)
    (tmp_path / "train.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        prepare_words(found)


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"format": 1}', '{"format": 2, "words": []}', "\udc80", '{"words": ["a"], "counts": [1]}'],
)
def test_damaged_vocabularies_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match="not a saved vocabulary"):
        WordVocabulary.load(tmp_path / "bad.json")


@pytest.mark.parametrize("field", ["words", "counts", "rule", "subwords", "phrase_passes"])
def test_damaged_fields_of_a_vocabulary_are_refused(tmp_path: Path, field: str) -> None:
    import json

    path = tmp_path / "vocabulary.json"
    WordVocabulary(["a", "b"], [2, 1], subwords=SubwordBuckets(num_buckets=5)).save(path)
    for value in ([1], {"x": 1}, "text", [["a"], ["b"]]):
        path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
        with pytest.raises(DataError, match="vocabulary"):
            WordVocabulary.load(path)


def test_counts_must_be_those_of_a_vocabulary() -> None:
    for words, counts in ((["a", "a"], [1, 1]), (["a", "b"], [1, 2]), (["a"], [0]), (["a"], [1, 1])):
        with pytest.raises(DataError):
            WordVocabulary(words, counts)


def test_rules_and_sizes_out_of_range_are_refused() -> None:
    for options in (
        {"window": 0},
        {"sample": 1.0},
        {"min_count": 0},
        {"sentences": "pages"},
        {"datasets": ()},
    ):
        with pytest.raises(ConfigError):
            WordsConfig(**options)
    with pytest.raises(ConfigError):
        SubwordBuckets(min_len=4, max_len=3)
    with pytest.raises(ConfigError):
        Phrases(threshold=0.0)
    with pytest.raises(ConfigError):
        WordRule(unit="syllables")
    assert dataclasses.replace(WordsConfig(), window=2).window == 2
