"""Moses-style text, and data that are made of it."""

import pytest

from transformer_jax.data.line_pairs import EvaluationItem, Pair
from transformer_jax.data.moses import MosesSides, moses_detokenized, moses_tokenized
from transformer_jax.data.pairs_config import MosesText, NamedDataset, PairsConfig, TsvFiles, Words
from transformer_jax.data.prepare import prepare
from transformer_jax.errors import ConfigError


@pytest.mark.parametrize(
    ("language", "plain", "tokens"),
    [
        ("en", "Two young, White males.", "two young , white males ."),
        ("de", "Ein Mann mit Hut „schläft“.", "ein mann mit hut &quot; schläft &quot; ."),
        ("en", "a man's dog & cat", "a man &apos;s dog &amp; cat"),
        ("en", "", ""),
    ],
)
def test_tokens(language: str, plain: str, tokens: str) -> None:
    assert moses_tokenized(plain, language, lowercase=True) == tokens


def test_case_is_kept_where_asked() -> None:
    assert moses_tokenized("Two dogs.", "en", lowercase=False) == "Two dogs ."


def test_plain_text_comes_back() -> None:
    text = "ein mann, der mit einem hund spielt, & zwei kinder."
    assert moses_detokenized(moses_tokenized(text, "de", lowercase=True), "de") == text


def test_pairs_and_all_references() -> None:
    sides = MosesSides("en", "de", lowercase=True)
    found = sides.pairs([Pair("A cat.", "Ein Hund.", 3), EvaluationItem("Go.", ("Los.", "Lauf!"), 4)])
    assert found == [Pair("a cat .", "ein hund .", 3), EvaluationItem("go .", ("los .", "lauf !"), 4)]
    assert [one.line for one in found] == [3, 4]


def test_data_are_prepared_from_tokens(tmp_path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("A cat, a dog.\tEine Katze, ein Hund.\n" * 3 + "It's me.\tIch bin's.\n")
    config = PairsConfig(
        dataset=TsvFiles(train=str(path), development=str(path)),
        source_tokenizer=Words(),
        target_tokenizer=Words(),
        moses=MosesText(source_language="en", target_language="de"),
    )
    data = prepare(config)
    assert "," in data.source_tokenizer.symbols
    assert data.development_items[0].references == ("eine katze , ein hund .",)


def test_a_language_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="two lower-case letters"):
        MosesText(source_language="english", target_language="de")


def test_the_languages_are_those_of_a_named_set_unless_given() -> None:
    named = NamedDataset(name="multi30k", source_language="de", target_language="fr")
    assert PairsConfig(dataset=named, moses=MosesText()).moses_languages() == ("de", "fr")
    assert PairsConfig(dataset=named, moses=MosesText(target_language="en")).moses_languages() == ("de", "en")
    with pytest.raises(ConfigError, match=r"moses\.source_language must be two letters"):
        PairsConfig(dataset=TsvFiles(train="pairs.tsv"), moses=MosesText(target_language="en"))
