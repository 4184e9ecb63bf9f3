"""Tokenizers of other programs: their ids moved behind ours, their texts come back, damaged files are refused."""

import json
from pathlib import Path

import pytest
import tokenizers as hf

from transformer_jax.data.batches import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from transformer_jax.data.foreign_tokenizer import ForeignTokenizer
from transformer_jax.data.pairs_config import PairsConfig, SavedTokenizer, TsvFiles
from transformer_jax.data.prepare import prepare
from transformer_jax.data.tokenizers import Tokenizer, train_word_tokenizer
from transformer_jax.errors import DataError

LINES = ["low lower lowest", "new newer newest", "wide wider widest"] * 5


def byte_level() -> hf.Tokenizer:
    """As GPT-2's: bytes, so that nothing is unknown; a start token by template, truncation and padding on."""
    tokenizer = hf.Tokenizer(hf.models.BPE())
    tokenizer.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = hf.decoders.ByteLevel()
    alphabet = hf.pre_tokenizers.ByteLevel.alphabet()
    trainer = hf.trainers.BpeTrainer(
        vocab_size=290, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer=trainer)
    tokenizer.post_processor = hf.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=9)
    return tokenizer


def unigram() -> hf.Tokenizer:
    """As T5's or XLM-R's: pieces with scores, an unknown piece by number."""
    tokenizer = hf.Tokenizer(hf.models.Unigram())
    tokenizer.pre_tokenizer = hf.pre_tokenizers.Metaspace()
    tokenizer.decoder = hf.decoders.Metaspace()
    trainer = hf.trainers.UnigramTrainer(
        vocab_size=30, special_tokens=["<pad>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer=trainer)
    return tokenizer


def word_pieces() -> hf.Tokenizer:
    """As BERT's: lower case, ``##`` inside words, ``[UNK]`` by name."""
    tokenizer = hf.Tokenizer(hf.models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = hf.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = hf.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = hf.decoders.WordPiece()
    trainer = hf.trainers.WordPieceTrainer(
        vocab_size=50, special_tokens=["[PAD]", "[UNK]", "[CLS]"], show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer=trainer)
    return tokenizer


MAKERS = {"byte_level": byte_level, "unigram": unigram, "word_pieces": word_pieces}


@pytest.fixture(params=MAKERS)
def theirs(request: pytest.FixtureRequest) -> hf.Tokenizer:
    return MAKERS[request.param]()


def test_ids_are_theirs_and_four(theirs: hf.Tokenizer, tmp_path: Path) -> None:
    theirs.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    assert isinstance(tokenizer, ForeignTokenizer)
    theirs.no_truncation()
    theirs.no_padding()
    line = "newest lower wide low new"
    assert tokenizer.encode(line) == [
        token + 4 for token in theirs.encode(line, add_special_tokens=False).ids
    ]
    assert tokenizer.vocab_size == theirs.get_vocab_size() + 4
    assert len(tokenizer.symbols) == tokenizer.vocab_size - 4


def test_texts_come_back(theirs: hf.Tokenizer) -> None:
    tokenizer = ForeignTokenizer(theirs.to_str())
    ids = tokenizer.encode("newest lower wide low")
    assert tokenizer.decode([BOS_ID, *ids, EOS_ID, PAD_ID]) == "newest lower wide low"
    assert len(tokenizer.pieces([BOS_ID, *ids, EOS_ID, PAD_ID])) == len(ids)


@pytest.mark.parametrize("make", [unigram, word_pieces])
def test_what_they_do_not_know_is_our_unknown(make) -> None:
    tokenizer = ForeignTokenizer(make().to_str())
    ids = tokenizer.encode("low ж new")
    assert tokenizer.count_unknown(ids) == 1
    assert "ж" in "".join(tokenizer.unknown_pieces("low ж new"))
    assert tokenizer.decode(ids).split() == ["low", "<unk>", "new"]


def test_bytes_know_everything() -> None:
    tokenizer = ForeignTokenizer(byte_level().to_str())
    ids = tokenizer.encode("ж 😀")
    assert UNK_ID not in ids
    assert tokenizer.decode(ids) == "ж 😀"


SPELLED = "low <s> and </s> new [CLS] [PAD] <pad>"


def test_a_text_that_spells_a_special_token_stays_text(theirs: hf.Tokenizer) -> None:
    tokenizer = ForeignTokenizer(theirs.to_str())
    ids = tokenizer.encode(SPELLED)
    assert tokenizer.encode_batch([SPELLED, SPELLED]) == [ids, ids]
    known = [piece for token, piece in zip(ids, tokenizer.pieces(ids)) if token != UNK_ID]
    said = tokenizer.decode(ids)
    # Nothing goes: each piece is in the text that comes back, or was said to be unknown.
    assert said.count("<unk>") >= tokenizer.count_unknown(ids)
    assert all(piece.strip("\u2581\u0120#") in said for piece in known)
    assert len(ids) >= len(SPELLED.split())


def test_bytes_keep_the_spelling_of_special_tokens() -> None:
    tokenizer = ForeignTokenizer(byte_level().to_str())
    assert tokenizer.decode(tokenizer.encode(SPELLED)) == SPELLED
    assert (
        tokenizer.decode([4, *tokenizer.encode("low"), 5]) == "low"
    )  # <s> and </s> by their ids say nothing


def test_a_vocabulary_of_words_keeps_a_word_that_is_a_special_token_too() -> None:
    words = hf.Tokenizer(hf.models.WordLevel({"[UNK]": 0, "<s>": 1, "say": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = hf.pre_tokenizers.WhitespaceSplit()
    words.add_special_tokens(["<s>"])
    tokenizer = ForeignTokenizer(words.to_str())
    assert tokenizer.decode(tokenizer.encode("say <s> say")) == "say <s> say"


@pytest.mark.parametrize("end", [*"\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029\0"])
def test_a_decoded_line_is_one_line(end: str) -> None:
    tokenizer = ForeignTokenizer(byte_level().to_str())
    ids = tokenizer.encode(f"low{end}new\\ 1")
    assert tokenizer.decode(ids) == f"low{end}new\\ 1"
    line = tokenizer.decode_line(ids)
    assert line.splitlines() == [line]
    assert line.startswith("low\\")
    assert line.endswith("new\\ 1")
    assert "\0" not in line


def test_saved_as_it_was(theirs: hf.Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(theirs.to_str())
    tokenizer = Tokenizer.load(path)
    tokenizer.save(tmp_path / "again.json")
    again = Tokenizer.load(tmp_path / "again.json")
    assert again.fingerprint() == tokenizer.fingerprint()
    assert (tmp_path / "again.json").read_text() == path.read_text()
    assert tokenizer.fingerprint() != train_word_tokenizer(LINES).fingerprint()


def test_ids_that_do_not_exist_are_refused(theirs: hf.Tokenizer) -> None:
    tokenizer = ForeignTokenizer(theirs.to_str())
    for ids in ([tokenizer.vocab_size], [-1]):
        with pytest.raises(DataError, match="is not between 0 and"):
            tokenizer.decode(ids)


def test_data_are_prepared_with_one(tmp_path: Path) -> None:
    byte_level().save(str(tmp_path / "theirs.json"))
    (tmp_path / "pairs.tsv").write_text("low new\tnewer wide\n" * 40)
    saved = SavedTokenizer(path=str(tmp_path / "theirs.json"))
    config = PairsConfig(
        dataset=TsvFiles(train=str(tmp_path / "pairs.tsv")),
        source_tokenizer=saved,
        target_tokenizer=saved,
        share_vocabulary=True,
        batch_size=4,
    )
    data = prepare(config)
    assert data.source_tokenizer is data.target_tokenizer
    assert data.target_tokenizer.decode(data.train.examples.target_ids[:9]).startswith("newer wide")


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(version="9.9"),
        lambda document: document["model"].update(vocab={"a": 0, "b": 2**31}, merges=[]),
        lambda document: document.update(pre_tokenizer={"type": "Nonsense"}),
        lambda document: document["model"].update(vocab={"a": -1}),
        lambda document: document["model"].update(vocab={"a": 0, "b": 2**40}),
        lambda document: document["model"].update(merges=[["low", "nothing"]]),
    ],
)
def test_damaged_files_are_refused_in_one_line(change, tmp_path: Path) -> None:
    document = json.loads(byte_level().to_str())
    change(document)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError) as caught:
        Tokenizer.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_keeps_the_white_space_at_its_ends() -> None:
    tokenizer = ForeignTokenizer(byte_level().to_str())
    ids = tokenizer.encode("\n low new\n\n")
    assert tokenizer.decode_text(ids) == "\n low new\n\n"
    assert tokenizer.decode(ids) == "low new", "a line of translation has none"


@pytest.mark.parametrize("make", [*MAKERS.values()])
def test_text_cut_anywhere_is_the_same_text(make) -> None:
    tokenizer = ForeignTokenizer(make().to_str())
    ids = tokenizer.encode("newest lower wide ж low new")
    whole = tokenizer.decode_text(ids)
    for cut in range(len(ids) + 1):
        parts = tokenizer.decode_text(ids[:cut]), tokenizer.decode_text(ids[cut:], before=ids[:cut])
        if not any("\ufffd" in part for part in parts):
            assert "".join(parts) == whole, cut
