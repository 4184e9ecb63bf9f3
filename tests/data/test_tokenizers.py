"""Tokenizers: round trips, unknown pieces, special ids that no text can spell, files."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_jax.data.batches import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from transformer_jax.data.tokenizers import (
    SPECIAL_NAMES,
    UNKNOWN_TEXT,
    Tokenizer,
    train_character_tokenizer,
    train_word_tokenizer,
)
from transformer_jax.errors import DataError

TRICKY = ["<s>", "</s>", "<pad>", "<unk>", "[PAD]", *SPECIAL_NAMES]


def test_ids_by_hand():
    tokenizer = train_character_tokenizer(["hello", "world"])
    assert tokenizer.symbols == ("d", "e", "h", "l", "o", "r", "w")
    assert tokenizer.vocab_size == 11
    assert tokenizer.encode("hole!") == [6, 8, 7, 5, UNK_ID]
    words = train_word_tokenizer(["b a b", "c b a"])
    assert words.symbols == ("b", "a", "c")
    assert words.encode("  c  a\td ") == [6, 5, UNK_ID]
    assert words.encode("") == []


def test_decode_leaves_out_special_ids_and_shows_unknown():
    tokenizer = train_word_tokenizer(["a b"])
    assert tokenizer.decode([BOS_ID, 4, UNK_ID, 5, EOS_ID, PAD_ID, PAD_ID]) == f"a {UNKNOWN_TEXT} b"
    assert tokenizer.decode(np.array([4, 5], np.int32)) == "a b"
    for bad in (-1, 6):
        with pytest.raises(DataError, match=f"id {bad} is not between 0 and 5"):
            tokenizer.decode([bad])


@given(st.text())
def test_character_round_trip(text):
    tokenizer = train_character_tokenizer([text])
    clean = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    ids = tokenizer.encode(text)
    assert len(ids) == len(clean)
    assert all(token >= 4 for token in ids)
    assert tokenizer.decode(ids) == clean


@pytest.mark.parametrize(
    "text", ["  two  spaces ", "\t\n\r\n", " ", "a\u0301\u200d\U0001f469\u3000中文", *TRICKY]
)
def test_character_round_trip_of_odd_texts(text):
    tokenizer = train_character_tokenizer([text])
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1))
def test_word_round_trip(lines):
    tokenizer = train_word_tokenizer(lines)
    for line in lines:
        ids = tokenizer.encode(line)
        assert all(token >= 4 for token in ids)
        words = tokenizer.decode(ids)
        assert tokenizer.encode(words) == ids
        assert words.split(" ") == tokenizer.pieces(ids) or not ids


@pytest.mark.parametrize("text", TRICKY)
def test_special_ids_cannot_be_typed(text):
    for tokenizer in (train_character_tokenizer(["abc"]), train_word_tokenizer(["abc"])):
        assert set(tokenizer.encode(f"{text} abc{text}")) <= {UNK_ID, *range(4, tokenizer.vocab_size)}
    # Seen in training they are words like any other.
    words = train_word_tokenizer([text])
    assert min(words.encode(text)) >= 4


def test_unknown_is_counted_and_named():
    tokenizer = train_character_tokenizer(["abc"])
    ids = tokenizer.encode("aéb中é")
    assert tokenizer.count_unknown(ids) == 3
    assert tokenizer.unknown_pieces("aéb中é") == ["é", "中", "é"]
    assert train_word_tokenizer(["a b"]).unknown_pieces("a café b 中文") == ["café", "中文"]


def test_vocabulary_limits():
    lines = ["a a a b b c"]
    assert train_word_tokenizer(lines, max_size=6).symbols == ("a", "b")
    assert train_word_tokenizer(lines, min_count=2).symbols == ("a", "b")
    assert train_character_tokenizer(["cbbaaa"], max_size=6).symbols == ("a", "b")


def test_batch_equals_one_by_one():
    tokenizer = train_character_tokenizer(["abc"])
    texts = ["", "abc", "\udc80c", "xa "]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


@pytest.mark.parametrize("train", [train_character_tokenizer, train_word_tokenizer])
def test_save_and_load(train, tmp_path):
    tokenizer = train(["naïve 中文 <s> \u2028", 'q"uote \\'])
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert (loaded.unit, loaded.symbols) == (tokenizer.unit, tokenizer.symbols)
    text = "naïve  é 中文 <s>"
    assert loaded.encode(text) == tokenizer.encode(text)


def damage(change):
    def apply(text):
        document = json.loads(text)
        change(document)
        return json.dumps(document).encode()

    return apply


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2].encode(),
        lambda text: b"",
        lambda text: b"\x80\x04not text",
        lambda text: b"[]",
        lambda text: b"[" * 100_000,
        damage(lambda document: document.pop("model")),
        damage(lambda document: document["model"].update(type="BPE")),
        damage(lambda document: document["model"].update(vocab=["a", "b"])),
        damage(lambda document: document["model"]["vocab"].update(a=0)),
        damage(lambda document: document["model"]["vocab"].update(a=99)),
        damage(lambda document: document["model"]["vocab"].update(a="4")),
        damage(lambda document: document["model"]["vocab"].update({"two words": 6})),
        damage(lambda document: document["pre_tokenizer"].update(type="ByteLevel")),
        damage(lambda document: document.update(pre_tokenizer=None)),
    ],
)
def test_damaged_file(spoil, tmp_path):
    path = tmp_path / "tokenizer.json"
    train_word_tokenizer(["a b"]).save(path)
    path.write_bytes(spoil(path.read_text()))
    with pytest.raises(DataError) as caught:
        Tokenizer.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="cannot read the tokenizer: No such file"):
        Tokenizer.load(tmp_path / "none.json")


def test_bad_vocabularies():
    with pytest.raises(DataError, match="'a' is in the vocabulary twice"):
        Tokenizer("words", ["a", "a"])
    with pytest.raises(DataError, match="'ab' is not a single one of characters"):
        Tokenizer("characters", ["ab"])
