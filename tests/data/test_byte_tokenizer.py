"""Byte tokenizers: every text comes back exactly, ids by hand, files, and arrays of ids."""

import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_jax.data.batches import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from transformer_jax.data.byte_tokenizer import (
    BYTE_LETTERS,
    ByteTokenizer,
    single_byte_tokenizer,
    train_byte_pair_tokenizer,
)
from transformer_jax.data.pairs_config import PairsConfig, SyntheticDataset
from transformer_jax.data.prepare import prepare
from transformer_jax.data.tokenizer_config import BytePairs, Bytes, Characters, Subwords, Words
from transformer_jax.data.tokenizer_training import train_tokenizer
from transformer_jax.data.tokenizers import SPECIAL_NAMES, UNKNOWN_TEXT, Tokenizer, train_character_tokenizer
from transformer_jax.errors import ConfigError, DataError

LINES = ["To be, or not to be:\n\n  that is the question\r\n", "naïve 中文 \u2028\tto be", "to  be"] * 20
SINGLE = single_byte_tokenizer()
PIECES = train_byte_pair_tokenizer(LINES, vocab_size=300)
ODD = [
    "",
    "\n",
    " \n \r\n\t\v\f\x1c\x85\u2028\u2029\u3000 ",
    "special: pad<s></s>[PAD]<|endoftext|>",
    "\x00\x01\x7f\u00ad\u0100\U0001f469\u200d",
    *SPECIAL_NAMES,
]


def test_ids_of_single_bytes_by_hand():
    assert SINGLE.vocab_size == 260
    assert SINGLE.encode("A\n中") == [65 + 4, 10 + 4, 0xE4 + 4, 0xB8 + 4, 0xAD + 4]
    assert SINGLE.pieces([69, 14, 0xE4 + 4]) == ["A", "\n", "\\xe4"]
    assert SINGLE.decode([PAD_ID, BOS_ID, 69, UNK_ID, 70, EOS_ID]) == f"A{UNKNOWN_TEXT}B"
    assert SINGLE.decode([0xE4 + 4, 0xB8 + 4]) == "\ufffd", "a character cut off"
    assert SINGLE.decode([255 + 4, 69]) == "\ufffdA"
    assert SINGLE.count_unknown(SINGLE.encode("中\0")) == 0
    assert SINGLE.spans("a中") == [(0, 1), (1, 2), (1, 2), (1, 2)]
    for bad in (-1, 260):
        with pytest.raises(DataError, match=f"id {bad} is not between 0 and 259"):
            SINGLE.decode([bad])


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("tokenizer", [SINGLE, PIECES, train_character_tokenizer(ODD)])
def test_odd_texts_come_back_exactly(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(token >= 4 for token in ids)
    assert tokenizer.encode_array(text).tolist() == ids
    assert tokenizer.encode_batch([text, "x"])[0] == ids


@given(st.text())
def test_any_text_comes_back_exactly(text):
    clean = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    for tokenizer in (SINGLE, PIECES):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == clean
        array = tokenizer.encode_array(text)
        assert array.dtype == np.int32
        assert array.tolist() == ids
    assert SINGLE.encode(text) == [byte + 4 for byte in clean.encode()]


@given(st.text(), st.text())
def test_an_array_of_characters_is_what_encode_gives(known, text):
    tokenizer = train_character_tokenizer([known])
    assert tokenizer.encode_array(text).tolist() == tokenizer.encode(text)


def test_pieces_join_frequent_bytes():
    assert 260 < PIECES.vocab_size <= 300
    assert PIECES.unit == "pieces"
    assert " be" in PIECES.pieces(PIECES.encode("to be"))
    assert PIECES.encode("A") == [65 + 4], "single bytes keep their ids"
    assert len(PIECES.encode(LINES[0])) < len(LINES[0]) / 2
    again = train_byte_pair_tokenizer(iter(LINES), vocab_size=300)
    assert again.fingerprint() == PIECES.fingerprint() != SINGLE.fingerprint()
    with pytest.raises(ConfigError, match="vocab_size must be 260 to 16,777,216, got 259"):
        train_byte_pair_tokenizer(LINES, vocab_size=259)
    assert train_byte_pair_tokenizer(LINES, vocab_size=260).encode("to") == SINGLE.encode("to")


@pytest.mark.parametrize("tokenizer", [SINGLE, PIECES])
def test_files(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    loaded = Tokenizer.load(path)
    assert isinstance(loaded, ByteTokenizer)
    assert (loaded.unit, loaded.symbols) == (tokenizer.unit, tokenizer.symbols)
    assert loaded.fingerprint() == tokenizer.fingerprint()
    assert loaded.encode(LINES[1]) == tokenizer.encode(LINES[1])


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model["vocab"].pop("a"),
        lambda model: model["vocab"].update({"中": len(model["vocab"])}),
        lambda model: model["vocab"].update(a=69, A=101),
        lambda model: model["merges"].append(["中", "x"]),
        lambda model: model.update(merges=None),
        lambda model: model.update(merges=[[1, 2, 3]]),
        lambda model: model["vocab"].update(a="101"),
    ],
)
def test_damaged_files(change, tmp_path):
    path = tmp_path / "tokenizer.json"
    PIECES.save(path)
    document = json.loads(path.read_text())
    change(document["model"])
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"tokenizer.json: not a tokenizer|tokenizer") as caught:
        Tokenizer.load(path)
    assert "\n" not in str(caught.value)


def test_letters_of_bytes_are_those_of_the_library():
    import tokenizers as hf

    assert sorted(BYTE_LETTERS) == sorted(hf.pre_tokenizers.ByteLevel.alphabet())
    shown = hf.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for character in (" ", "\n", "a", "\x7f", "é", "中"):
        letters = shown.pre_tokenize_str(character)[0][0]
        assert letters == "".join(BYTE_LETTERS[byte] for byte in character.encode())


@pytest.mark.parametrize(
    "config", [Bytes(), BytePairs(vocab_size=290), Characters(), Words(), Subwords(vocab_size=60)]
)
def test_one_function_trains_every_tokenizer(config):
    tokenizer = train_tokenizer(config, LINES)
    assert tokenizer.count_unknown(tokenizer.encode("to be")) == 0
    assert 4 < tokenizer.vocab_size <= getattr(config, "vocab_size", 260)


def test_pairs_can_be_read_by_bytes():
    config = PairsConfig(
        dataset=SyntheticDataset(num_train=50),
        source_tokenizer=Bytes(),
        target_tokenizer=BytePairs(vocab_size=270),
        batch_size=8,
    )
    data = prepare(config)
    batch = next(data.train.iterate())
    row = data.source_tokenizer.decode(batch.source_tokens[0])
    assert row == data.target_tokenizer.decode(batch.target_outputs[0])
    assert set(row) <= set("0123456789 ")


def test_long_texts_are_encoded_by_tables_not_by_objects():
    text = "abc\n" * 500_000
    characters = train_character_tokenizer(["abc\n"])
    start = time.perf_counter()
    ids = [tokenizer.encode_array(text) for tokenizer in (SINGLE, characters)]
    array_seconds = time.perf_counter() - start
    start = time.perf_counter()
    characters.encode(text)
    assert array_seconds < time.perf_counter() - start
    assert ids[0][:4].tolist() == [101, 102, 103, 14]
    assert len(ids[0]) == len(ids[1]) == len(text)
