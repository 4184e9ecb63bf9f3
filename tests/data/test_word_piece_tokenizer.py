"""WordPiece: greedy cutting, special tokens, files, and the same vocabulary in every process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers as hf

from transformer_jax.data.batches import UNK_ID
from transformer_jax.data.text_encoding import TextEncoding
from transformer_jax.data.tokenizer_config import WordPieces
from transformer_jax.data.tokenizer_training import known_vocab_size, train_tokenizer
from transformer_jax.data.tokenizers import Tokenizer, train_character_tokenizer, train_subword_tokenizer
from transformer_jax.data.word_piece_tokenizer import (
    MASK_ID,
    WordPieceTokenizer,
    train_word_piece_tokenizer,
)
from transformer_jax.errors import ConfigError, DataError

LINES = ["The unaffable cat sat, and ran.", "An unable man ran able cats!", "Sat the mat? Café au lait."] * 4


@pytest.fixture(scope="module")
def tokenizer() -> WordPieceTokenizer:
    return train_word_piece_tokenizer(LINES, vocab_size=90)


def greedy(word: str, vocabulary: set[str]) -> list[str]:
    """Algorithm of the paper: the longest known piece from the left, again and again."""
    pieces, start = [], 0
    while start < len(word):
        for stop in range(len(word), start, -1):
            piece = word[start:stop] if start == 0 else f"##{word[start:stop]}"
            if piece in vocabulary:
                break
        else:
            return ["<unk>"]
        pieces.append(piece)
        start = stop
    return pieces


def test_words_are_cut_greedily(tokenizer: WordPieceTokenizer) -> None:
    vocabulary = set(tokenizer.symbols)
    words = ["unaffable", "cats", "ran", "café", "tenable", "a", "zebra", "tuna", "unabler"]
    for word in words:
        plain = word.replace("é", "e")
        assert tokenizer.pieces(tokenizer.encode(word)) == greedy(plain, vocabulary), word
    assert tokenizer.pieces(tokenizer.encode("zebra")) == ["<unk>"]


def test_text_comes_back_without_case_and_white_space(tokenizer: WordPieceTokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("  The  Unaffable\ncats, ran!")) == "the unaffable cats , ran !"
    assert tokenizer.decode([2, *tokenizer.encode("cat"), MASK_ID, 3, 0]) == "cat"
    ids = tokenizer.encode("cat sat")
    assert tokenizer.decode_text(ids[-1:], before=ids[:-1]) == " sat"
    assert tokenizer.decode_text(ids) == "cat sat"
    cased = train_word_piece_tokenizer(LINES, vocab_size=90, lowercase=False)
    assert cased.decode(cased.encode("The cat")) == "The cat"


def test_no_text_spells_a_special_token(tokenizer: WordPieceTokenizer) -> None:
    for name in ("[MASK]", "[CLS]", "special: mask", "special: pad"):
        assert min(tokenizer.encode(name), default=9) == UNK_ID or min(tokenizer.encode(name)) > MASK_ID


def test_every_seen_character_is_known_in_any_word(tokenizer: WordPieceTokenizer) -> None:
    letters = sorted({one for one in "".join(LINES).lower().replace("é", "e") if one.isalpha()})
    for first in letters:
        for second in letters:
            assert UNK_ID not in tokenizer.encode(first + second)


def test_continuations_and_whole_words(tokenizer: WordPieceTokenizer) -> None:
    continues = tokenizer.continuations()
    assert continues.shape == (tokenizer.vocab_size,)
    ids = tokenizer.encode("unabler cat")
    assert [bool(continues[one]) for one in ids] == [
        piece.startswith("##") for piece in tokenizer.pieces(ids)
    ]
    assert not continues[:5].any()
    encoding = TextEncoding(tokenizer=tokenizer, marks_ends=True)
    words = encoding.word_of_token("Unabler, cat")
    assert words[0] is words[-1] is None
    assert words[1:-1] == sorted(words[1:-1])  # type: ignore[type-var]
    assert set(words[1:-1]) == {0, 1}


def test_other_tokenizers_say_where_words_begin_or_refuse() -> None:
    pieces = train_subword_tokenizer(["low lower lowest"] * 9, algorithm="bpe", vocab_size=16)
    ids = pieces.encode("lower low")
    assert pieces.continuations()[ids].tolist() == [
        not piece.startswith("\u2581") for piece in pieces.pieces(ids)
    ]
    assert pieces.mask_id == UNK_ID
    with pytest.raises(DataError, match="characters do not say where words begin"):
        train_character_tokenizer(["ab"]).continuations()


def test_files(tokenizer: WordPieceTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "pieces.json"
    tokenizer.save(path)
    again = Tokenizer.load(path)
    assert isinstance(again, WordPieceTokenizer)
    assert again.fingerprint() == tokenizer.fingerprint()
    assert again.encode("Unabler, cats?") == tokenizer.encode("Unabler, cats?")
    assert again.mask_id == MASK_ID
    assert hf.Tokenizer.from_file(str(path)).encode(
        "unabler", add_special_tokens=False
    ).ids == tokenizer.encode("unabler")
    other = train_word_piece_tokenizer(LINES, vocab_size=90, lowercase=False)
    assert other.fingerprint() != tokenizer.fingerprint()
    document = json.loads(path.read_text())
    del document["model"]["vocab"]["the"]
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match="not a tokenizer that this library saved"):
        Tokenizer.load(path)


def test_berts_own_file_has_a_mask() -> None:
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "cat": 5, "##s": 6}
    theirs = hf.Tokenizer(hf.models.WordPiece(vocabulary, unk_token="[UNK]"))
    theirs.pre_tokenizer = hf.pre_tokenizers.BertPreTokenizer()
    theirs.add_special_tokens(["[MASK]"])
    from transformer_jax.data.foreign_tokenizer import ForeignTokenizer

    own = ForeignTokenizer(theirs.to_str())
    assert own.mask_id == 8
    assert own.continuations().tolist() == [False] * 10 + [True]


def test_sizes_and_faults() -> None:
    assert known_vocab_size(WordPieces(vocab_size=99)) == 99
    assert train_tokenizer(WordPieces(vocab_size=60), LINES).vocab_size == 60
    assert train_word_piece_tokenizer(["aa"], vocab_size=9).symbols == (
        "special: mask",
        "a",
        "##a",
        "##aa",
        "aa",
    )
    with pytest.raises(DataError, match="at least 39"):
        train_word_piece_tokenizer(LINES, vocab_size=20)
    with pytest.raises(DataError, match="no character"):
        train_word_piece_tokenizer([" \n"], vocab_size=20)
    with pytest.raises(ConfigError, match="at most"):
        train_word_piece_tokenizer(LINES, vocab_size=2**30)
    for symbols in (["a", "a"], ["a b"], ["##"]):
        with pytest.raises(DataError):
            WordPieceTokenizer(symbols, lowercase=True)


def test_the_vocabulary_is_the_same_in_another_process(tokenizer: WordPieceTokenizer) -> None:
    program = (
        "import sys, json\n"
        "from transformer_jax.data.word_piece_tokenizer import train_word_piece_tokenizer\n"
        "print(train_word_piece_tokenizer(json.loads(sys.argv[1]), vocab_size=90).fingerprint())\n"
    )
    for _ in range(2):
        ran = subprocess.run(
            [sys.executable, "-c", program, json.dumps(LINES)], capture_output=True, text=True, check=True
        )
        assert ran.stdout.strip() == tokenizer.fingerprint()
