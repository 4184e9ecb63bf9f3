"""Subword tokenizers: texts come back, ids are those of the file, damaged files are refused."""

import json
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from transformer_jax.data.tokenizers import (
    SPECIAL_NAMES,
    SubwordTokenizer,
    Tokenizer,
    train_subword_tokenizer,
)
from transformer_jax.errors import ConfigError, DataError

LINES = ["the cat sat on the mat", "a cat and a dog sat there", "the dogs chased the cats"] * 5
ALGORITHMS = ["bpe", "unigram"]
TOKENIZERS = {name: train_subword_tokenizer(LINES, algorithm=name, vocab_size=60) for name in ALGORITHMS}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@hypothesis.given(words=st.lists(st.text("acdeghmnorst", min_size=1, max_size=9), max_size=6))
def test_texts_of_known_characters_come_back(algorithm: str, words: list[str]) -> None:
    tokenizer = TOKENIZERS[algorithm]
    ids = tokenizer.encode("  ".join(words) + " ")
    assert tokenizer.decode(ids) == " ".join(words)
    assert tokenizer.count_unknown(ids) == 0
    assert all(4 <= token < tokenizer.vocab_size for token in ids)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@hypothesis.given(text=st.text(max_size=30))
def test_any_text_is_read(algorithm: str, text: str) -> None:
    tokenizer = TOKENIZERS[algorithm]
    ids = tokenizer.encode(text)
    assert all(token not in (0, 2, 3) for token in ids)
    assert tokenizer.encode_batch([text]) == [ids]
    tokenizer.decode(ids)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_frequent_words_are_one_piece_and_rare_ones_several(algorithm: str) -> None:
    tokenizer = TOKENIZERS[algorithm]
    assert tokenizer.pieces(tokenizer.encode("the cat")) == ["▁the", "▁cat"]
    assert len(tokenizer.encode("tactga")) > 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_names_of_special_ids_and_the_mark_are_plain_text(algorithm: str) -> None:
    tokenizer = TOKENIZERS[algorithm]
    for text in (*SPECIAL_NAMES, "▁the", "the▁cat"):
        assert not {0, 2, 3} & set(tokenizer.encode(text))
    assert tokenizer.unknown_pieces("the cat?") == ["?"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_saved_tokenizer_is_the_same(algorithm: str, tmp_path: Path) -> None:
    tokenizer = TOKENIZERS[algorithm]
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert isinstance(loaded, SubwordTokenizer)
    assert loaded.symbols == tokenizer.symbols
    assert loaded.encode_batch(LINES) == tokenizer.encode_batch(LINES)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_training_twice_gives_one_tokenizer(algorithm: str) -> None:
    again = train_subword_tokenizer(LINES, algorithm=algorithm, vocab_size=60)
    assert again.symbols == TOKENIZERS[algorithm].symbols


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_lines_give_one_fingerprint(algorithm: str) -> None:
    """Characters that no piece was left for get their scores from the trainer in the order of a hash table."""
    lines = ["low lower lowest", "new newer newest"] * 5
    found = {
        train_subword_tokenizer(lines, algorithm=algorithm, vocab_size=40).fingerprint() for _ in range(6)
    }
    assert len(found) == 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_damaged_file_is_refused(algorithm: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    TOKENIZERS[algorithm].save(path)
    whole = json.loads(path.read_text())
    for damage in ({"vocab": None}, {"vocab": {}}, {"vocab": []}, {"vocab": 3}, {"type": "WordPiece"}):
        path.write_text(json.dumps({**whole, "model": {**whole["model"], **damage}}))
        with pytest.raises(DataError, match=r"tokenizer\.json"):
            Tokenizer.load(path)


def test_merges_of_unknown_pieces_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    TOKENIZERS["bpe"].save(path)
    whole = json.loads(path.read_text())
    whole["model"]["merges"] = [["x", "y"]]
    path.write_text(json.dumps(whole))
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        Tokenizer.load(path)


@pytest.mark.parametrize("lines", [[], [""], ["  "]])
def test_a_text_without_characters_is_refused(lines: list[str]) -> None:
    with pytest.raises(DataError, match="holds no character"):
        train_subword_tokenizer(lines, algorithm="bpe", vocab_size=10)


def test_a_vocabulary_without_room_for_the_characters_is_refused() -> None:
    with pytest.raises(DataError, match="vocab_size 10 must be at least 31"):
        train_subword_tokenizer(["abcdefghijklmnopqrstuvwxyz"], algorithm="bpe", vocab_size=10)
    with pytest.raises(
        ConfigError, match="vocab_size must be at most 16,777,216"
    ):  # the trainer aborts the process
        train_subword_tokenizer(["a"], algorithm="bpe", vocab_size=2**31)
