"""Named sets of text: whole texts, and splits that lose and repeat nothing."""

import lzma
import os

import pytest

from transformer_jax.data.documents import Document, first_characters, hold_out_last
from transformer_jax.data.readers import read_text_file
from transformer_jax.data.sources import english_novels
from transformer_jax.data.sources.registry import DATASETS, locate, read_text
from transformer_jax.data.sources.stored_files import DATA_VARIABLE
from transformer_jax.errors import DataError

needs_data = pytest.mark.skipif(
    not os.path.isdir(os.path.join(os.environ.get(DATA_VARIABLE, ""), "english-novels")),
    reason=f"${DATA_VARIABLE} is not set to a folder with the data sets",
)


@needs_data
def test_tinyshakespeare_has_the_split_of_nanogpt():
    splits = read_text("tinyshakespeare")
    assert [len(one.text) for one in (*splits.train, *splits.development)] == [1_003_854, 111_540]
    assert splits.test == []
    whole = locate("tinyshakespeare", "input.txt").read_bytes().decode()
    assert splits.train[0].text + splits.development[0].text == whole
    assert len(set(whole)) == 65


@needs_data
def test_war_and_peace_is_split_by_characters_in_order():
    splits = read_text("war-and-peace")
    parts = [part[0].text for part in (splits.train, splits.development, splits.test)]
    assert "".join(parts) == locate("war-and-peace", "input.txt").read_bytes().decode()
    assert [len(part) for part in parts] == [2_556_968, 319_621, 319_622]


@needs_data
def test_english_novels_hold_out_whole_novels():
    splits = read_text("english-novels")
    assert [len(part) for part in (splits.train, splits.development, splits.test)] == [50, 3, 3]
    novels = [*splits.train, *splits.development, *splits.test]
    assert len({novel.name for novel in novels}) == 56
    assert not any("=== " in novel.text for novel in novels)
    first = next(novel for novel in novels if novel.name == "Anon_Clara_1864.txt")
    assert first.text.startswith("CLARA VAUGHAN\nBOOK I.\n")
    assert sum(len(novel.text.split()) for novel in novels) == pytest.approx(7.16e6, rel=2e-3)
    for part in (splits.development, splits.test):
        assert sum(len(one.text) for one in part) > 1_000_000
        assert all(one.name in splits.notes[0] for one in part)


def test_novels_of_a_small_archive(monkeypatch, tmp_path):
    names = [f"novel{number}.txt" for number in range(8)]
    text = "".join(f"\n\n=== {name}\n\nTitle of {name}\n\nIt ends == here.\n" for name in names)
    path = tmp_path / "novels.txt.xz"
    path.write_bytes(lzma.compress(text.encode()))
    monkeypatch.setattr(english_novels, "locate_file", lambda dataset, name: path)
    splits = DATASETS["english-novels"].readers["text"]()
    novels = [*splits.train, *splits.development, *splits.test]
    assert sorted(novel.name for novel in novels) == names
    assert all(novel.text == f"Title of {novel.name}\n\nIt ends == here.\n" for novel in novels)


def test_last_characters_are_held_out_across_documents():
    documents = [Document("a", "aaaa"), Document("b", "bbbb"), Document("c", "cc")]
    for share in (0.0, 0.1, 0.2, 0.35, 0.6, 0.95):
        train, held_out = hold_out_last(documents, share)
        assert "".join(one.text for one in (*train, *held_out)) == "aaaabbbbcc"
        assert sum(len(one.text) for one in held_out) == int(10 * share)
        assert all(one.text for one in (*train, *held_out))
    assert first_characters(documents, None) == documents


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty; wanted UTF-8 text"),
        (b"\xef\xbb\xbf", "the file is empty; wanted UTF-8 text"),
        (b"one\ntwo\0", "binary file .NUL at line 2, byte 4.; wanted UTF-8 text"),
        (b"one\n\xe9t\xe9", "not UTF-8 at line 2, byte 1 .0xe9.; convert the file"),
        (lzma.compress(b"text" * 100)[:-20], "the compressed file is damaged or cut off"),
    ],
)
def test_bad_text_files(tmp_path, content, message):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"text.txt: {message}") as caught:
        read_text_file(path)
    assert "\n" not in str(caught.value)


def test_text_is_read_as_it_is(tmp_path):
    text = "one\r\ntwo\u2028three\x85\n\n\tfour \v\f"
    for content in (text.encode(), b"\xef\xbb\xbf" + text.encode(), lzma.compress(text.encode())):
        path = tmp_path / "text"
        path.write_bytes(content)
        assert read_text_file(path) == text
