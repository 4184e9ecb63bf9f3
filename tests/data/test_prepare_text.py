"""Prepared text: from files and named sets to batches and reports; bad input is refused in one line."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

from transformer_jax.config_json import from_json, to_json
from transformer_jax.data.batches import BOS_ID, EOS_ID, UNK_ID
from transformer_jax.data.prepare_text import prepare_text
from transformer_jax.data.sources.stored_files import DATA_VARIABLE
from transformer_jax.data.text_config import (
    BytePairs,
    Bytes,
    Characters,
    ContiguousWindows,
    NamedText,
    PackedDocuments,
    RandomWindows,
    SavedTokenizer,
    Subwords,
    TextConfig,
    TextFiles,
    Words,
    with_absolute_text_paths,
)
from transformer_jax.data.token_windows import PackedDocumentSource
from transformer_jax.data.tokenizers import Tokenizer, train_character_tokenizer, train_subword_tokenizer
from transformer_jax.errors import ConfigError, DataError

TEXT = "ROMEO:\n  But soft,\twhat light!\r\n\nJULIET:\n  Ay me!\n" * 40

needs_data = pytest.mark.skipif(
    not os.path.isdir(os.path.join(os.environ.get(DATA_VARIABLE, ""), "tinyshakespeare")),
    reason=f"${DATA_VARIABLE} is not set to a folder with the data sets",
)


def write(folder, name, text):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.fixture
def config(tmp_path):
    path = write(tmp_path, "play.txt", TEXT)
    return TextConfig(dataset=TextFiles(train=(path,)), windows=RandomWindows(context_len=16), batch_size=4)


def refused(config, **options):
    with pytest.raises(DataError) as caught:
        prepare_text(config, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("tokenizer", [Characters(), Bytes(), BytePairs(vocab_size=280)])
@pytest.mark.parametrize("windows", [RandomWindows(context_len=16), ContiguousWindows(context_len=16)])
def test_text_comes_back_from_the_ids_and_the_windows(config, tokenizer, windows):
    data = prepare_text(dataclasses.replace(config, tokenizer=tokenizer, windows=windows))
    held_out = len(TEXT) // 10
    assert data.tokenizer.decode(data.train.ids) == TEXT[:-held_out]
    assert data.tokenizer.decode(data.development) == TEXT[-held_out:]
    assert len(data.test) == 0
    batch = next(data.train.iterate())
    for row in range(4):
        assert data.tokenizer.decode(batch.inputs[row]) in TEXT
    assert data.report.train.num_characters == data.report.train.num_bytes == len(TEXT) - held_out
    assert data.report.train.num_tokens == len(data.train.ids)
    assert data.report.lines()[-1] == (
        "note: development text: the last 10% of the characters, held out of the training text"
    )


@needs_data
def test_tinyshakespeare_in_the_setting_of_nanogpt():
    data = prepare_text(TextConfig())
    assert data.tokenizer.vocab_size == 65 + 4
    assert len(data.train.ids) == 1_003_854
    assert len(data.development) == 111_540
    assert data.report.development.num_unknown == 0
    assert data.train.batches_per_epoch == -(-1_003_853 // (12 * 64))
    assert data.report.lines()[0] == "data: 1,003,854 training, 111,540 development and 0 test characters"
    assert data.report.lines()[1].startswith("vocabulary: 69 ids; 1,003,854 training")


def test_files_by_pattern_are_sorted_documents(config, tmp_path):
    for name in ("b.txt", "a.txt", "c.md"):
        write(tmp_path, name, f"{name} " * 30)
    (tmp_path / "folder.txt").mkdir()
    dataset = TextFiles(
        train=(str(tmp_path / "c.md"), str(tmp_path / "[abc].*")),
        development=(str(tmp_path / "a.txt"),),
    )
    splits = dataset.load()
    assert [os.path.basename(one.name) for one in splits.train] == ["c.md", "a.txt", "b.txt"], "c.md once"
    assert splits.development[0].text == "a.txt " * 30
    assert splits.notes == ()
    windows = PackedDocuments(context_len=50)
    data = prepare_text(dataclasses.replace(config, dataset=dataset, windows=windows, batch_size=2))
    assert isinstance(data.train, PackedDocumentSource)
    assert (data.train.ids == BOS_ID).sum() == (data.train.ids == EOS_ID).sum() == 3
    assert data.development[0] == BOS_ID
    assert data.development[-1] == EOS_ID
    assert data.report.train.num_documents == 3
    joined = prepare_text(dataclasses.replace(config, dataset=dataset, batch_size=2))
    assert joined.tokenizer.decode(joined.train.ids) == "c.md " * 30 + "a.txt " * 30 + "b.txt " * 30


def test_documents_between_separators(tmp_path):
    path = write(tmp_path, "stories.txt", "One day.\n<|end|>\n<|end|>Two days.<|end|>")
    splits = TextFiles(train=(path,), development=(path,), document_separator="<|end|>").load()
    assert [one.text for one in splits.train] == ["One day.\n", "Two days."]
    assert splits.train[1].name == f"{path}, document 2"
    with pytest.raises(DataError, match="no document but separators"):
        TextFiles(
            train=(write(tmp_path, "none.txt", "<|end|>\n<|end|>"),), document_separator="<|end|>"
        ).load()


def test_limits_of_characters(config):
    data = prepare_text(dataclasses.replace(config, max_train_characters=200, max_development_characters=30))
    assert data.tokenizer.decode(data.train.ids) == TEXT[:200]
    assert len(data.development) == 30


def test_unknown_tokens_of_held_out_text_are_counted_and_reported(config, tmp_path):
    files = dataclasses.replace(config.dataset, development=(write(tmp_path, "dev.txt", "Zürich: $5"),))
    data = prepare_text(dataclasses.replace(config, dataset=files))
    assert data.report.development.num_unknown == (data.development == UNK_ID).sum() == 6
    assert "development: 6 of 10 tokens are unknown" in data.report.lines()


def test_a_given_tokenizer_is_used(config):
    first = prepare_text(config)
    again = prepare_text(config, tokenizer=first.tokenizer)
    assert again.tokenizer is first.tokenizer
    assert again.train.fingerprint() == first.train.fingerprint()


def test_corpus_smaller_than_a_batch_or_a_window(config):
    small = dataclasses.replace(config, max_train_characters=50)
    assert "has 50 tokens, fewer than one batch of 4 windows of 16 tokens" in refused(small)
    small = dataclasses.replace(config, max_train_characters=10)
    assert "has 10 tokens, fewer than one window of context_len 16" in refused(small)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "text.txt: the file is empty; wanted UTF-8 text"),
        (b"a" * 999, "the training text has one distinct token, 'a': there is nothing to predict"),
        (b"MZ\x90\0\x03" * 99, "text.txt: binary file (NUL at line 1, byte 4); wanted UTF-8 text"),
        (b"caf\xe9 " * 99, "text.txt: not UTF-8 at line 1, byte 4 (0xe9); convert the file"),
    ],
)
@pytest.mark.parametrize("windows", [RandomWindows(context_len=16), PackedDocuments(context_len=16)])
def test_bad_files(config, tmp_path, content, message, windows):
    dataset = TextFiles(train=(write(tmp_path, "text.txt", content),))
    assert message in refused(dataclasses.replace(config, dataset=dataset, windows=windows))


def test_missing_files(config, tmp_path):
    for pattern, message in (
        ("none.txt", "none.txt: no such file"),
        ("*.md", "*.md: no file matches this pattern"),
    ):
        dataset = dataclasses.replace(config.dataset, train=(str(tmp_path / pattern),))
        assert message in refused(dataclasses.replace(config, dataset=dataset))


class DamagedTokenizer(Tokenizer):
    """Gives ids that its vocabulary does not have."""

    def encode_array(self, text):
        return super().encode_array(text) + 1


def test_ids_beyond_the_vocabulary(config):
    tokenizer = DamagedTokenizer("characters", train_character_tokenizer([TEXT]).symbols)
    message = refused(config, tokenizer=tokenizer)
    assert "play.txt: id 36 of token " in message
    assert "whose ids are 0 to 35: the tokenizer is not the one that the model is made for" in message


def test_a_tokenizer_of_another_model(config, tmp_path):
    message = refused(config, tokenizer=train_character_tokenizer(["中文 "]))
    assert "the tokenizer knows less than half of the training text" in message
    assert "it was made for another text or model" in message
    path = tmp_path / "subwords.json"
    train_subword_tokenizer([TEXT], algorithm="bpe", vocab_size=60).save(path)
    message = refused(dataclasses.replace(config, tokenizer=SavedTokenizer(path=str(path))))
    assert "the tokenizer does not give text back as it was: 'ROMEO:\\n  But soft" in message
    assert "becomes 'ROMEO: But soft" in message


@pytest.mark.parametrize("tokenizer", [Words(), Subwords()])
def test_tokenizers_that_lose_white_space_are_refused(tokenizer):
    with pytest.raises(ConfigError, match=f"tokenizer '{tokenizer.kind}' loses line breaks and white space"):
        TextConfig(tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: NamedText(name="multi30k"),
            "no data set 'multi30k' of text; known: tinyshakespeare, war-and-p",
        ),
        (lambda: NamedText(name="tinyshakespear"), "did you mean 'tinyshakespeare'"),
        (lambda: TextFiles(train=()), "train must be a tuple of paths"),
        (lambda: TextFiles(train="a.txt"), "train must be a tuple of paths, .* got 'a.txt'"),
        (lambda: TextFiles(train=("a",), test=("",)), "test must be a tuple of paths"),
        (lambda: TextFiles(train=("a",), document_separator=""), "document_separator must not be empty"),
        (lambda: RandomWindows(context_len=0), "context_len must be at least 1, got 0"),
        (lambda: PackedDocuments(context_len=1), "context_len must be at least 2, got 1"),
        (lambda: ContiguousWindows(context_len=10**6), "context_len must be at most 65,536"),
        (lambda: TextConfig(batch_size=0), "batch_size must be at least 1, got 0"),
        (lambda: TextConfig(max_test_characters=0), "max_test_characters must be at least 1, got 0"),
        (lambda: BytePairs(vocab_size=259), "vocab_size must be at least 260, got 259"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        TextConfig(),
        TextConfig(
            dataset=TextFiles(train=("a/*.txt", "b"), test=("c",)), tokenizer=BytePairs(vocab_size=512)
        ),
        TextConfig(windows=ContiguousWindows(context_len=128), tokenizer=Bytes(), max_train_characters=7),
        TextConfig(dataset=NamedText(name="english-novels"), windows=PackedDocuments()),
    ],
)
def test_json_round_trip(config):
    assert from_json(TextConfig, to_json(config)) == config


def test_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = TextConfig(dataset=TextFiles(train=("*.txt",)), tokenizer=SavedTokenizer(path="t.json"))
    absolute = with_absolute_text_paths(config)
    assert absolute.dataset.train == (str(tmp_path / "*.txt"),)
    assert absolute.dataset.development is None
    assert absolute.tokenizer.path == str(tmp_path / "t.json")
    assert with_absolute_text_paths(TextConfig()) == TextConfig()


def test_configs_of_text_are_light_to_import():
    code = (
        "import sys, transformer_jax.data.text_config, transformer_jax.data.token_batches\n"
        "heavy = {'jax', 'grain', 'tokenizers', 'pooch', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_epoch_of_streams_reads_the_text_in_order(config):
    data = prepare_text(dataclasses.replace(config, windows=ContiguousWindows(context_len=16), batch_size=1))
    batches = [data.train.batch_at(step) for step in range(data.train.batches_per_epoch)]
    read = np.concatenate([batch.inputs[0, : batch.lengths[0]] for batch in batches])
    assert (
        data.tokenizer.decode([*read, batches[-1].targets[0, batches[-1].lengths[0] - 1]])
        == TEXT[: -(len(TEXT) // 10)]
    )


@pytest.mark.parametrize(
    ("tokenizer", "first"),
    [(Characters(), 1), (Bytes(), 1), (BytePairs(vocab_size=300), None)],
)
def test_characters_of_the_first_token_have_no_probability(config, tokenizer, first):
    data = prepare_text(dataclasses.replace(config, tokenizer=tokenizer))
    first = first or len(data.tokenizer.decode(data.train.ids[:1]))
    assert data.report.train.num_predicted == data.report.train.num_characters - first
    packed = prepare_text(
        dataclasses.replace(config, tokenizer=tokenizer, windows=PackedDocuments(context_len=16))
    )
    assert packed.report.train.num_predicted == packed.report.train.num_characters
