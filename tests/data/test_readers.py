"""Readers: what a line is, and one clear message for each thing wrong with a file."""

import gzip
import lzma
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_jax.data.readers import read_lines, read_parallel, read_tsv, split_lines, stream_lines
from transformer_jax.errors import DataError


def refused(call, *args, **options):
    """The message of the `DataError` that a call raises; always one line."""
    with pytest.raises(DataError) as caught:
        call(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_reads_plain_and_compressed_lines_alike(tmp_path):
    content = "ein Haus\nzwei Häuser\n\nletzte".encode()
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(content))
    assert read_lines(tmp_path / "a.txt") == ["ein Haus", "zwei Häuser", "", "letzte"]
    assert read_lines(tmp_path / "a.txt.gz") == read_lines(tmp_path / "a.txt")


def test_only_line_feeds_end_lines(tmp_path):
    path = tmp_path / "odd.txt"
    path.write_bytes("a\u2028b\x85c\x0bd\x0ce\x1cf\rg\r\nsecond\r\n".encode())
    assert read_lines(path) == ["a\u2028b\x85c\x0bd\x0ce\x1cf\rg", "second"]


@given(st.lists(st.text(st.characters(exclude_characters="\n\0", codec="utf-8")), min_size=1))
def test_as_many_lines_as_line_feeds(lines):
    content = "".join(line + "\n" for line in lines).encode()
    if content.startswith(b"\xef\xbb\xbf"):
        return
    assert split_lines(content, "here") == [line.removesuffix("\r") for line in lines]


def test_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbffirst\n")
    assert read_lines(tmp_path / "a.txt") == ["first"]


def test_missing_empty_and_folder(tmp_path):
    assert refused(read_lines, tmp_path / "none.txt") == f"{tmp_path / 'none.txt'}: no such file"
    (tmp_path / "empty.txt").write_bytes(b"")
    assert "the file is empty" in refused(read_lines, tmp_path / "empty.txt")
    (tmp_path / "empty.gz").write_bytes(gzip.compress(b""))
    assert "the file is empty" in refused(read_lines, tmp_path / "empty.gz")
    assert "cannot read the file: Is a directory" in refused(read_lines, tmp_path)


def test_binary_names_line_and_byte(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"text\nab\0c")
    assert "binary file (NUL at line 2, byte 3)" in refused(read_lines, tmp_path / "a.bin")
    (tmp_path / "utf16.txt").write_bytes("text".encode("utf-16"))
    assert "binary file" in refused(read_lines, tmp_path / "utf16.txt")


def test_not_utf8_names_line_byte_and_cure(tmp_path):
    (tmp_path / "a.txt").write_bytes("one\ntwo\ncafé au lait\n".encode("latin-1"))
    message = refused(read_lines, tmp_path / "a.txt")
    assert "not UTF-8 at line 3, byte 4 (0xe9)" in message
    assert "iconv" in message


def test_damaged_compressed_file(tmp_path):
    whole = gzip.compress(b"some lines of text\n" * 100)
    for name, content in (("cut.gz", whole[:-12]), ("bad.gz", whole[:20] + b"zzzz" + whole[24:])):
        (tmp_path / name).write_bytes(content)
        assert "damaged or cut off" in refused(read_lines, tmp_path / name)


def test_parallel_files_number_their_lines(tmp_path):
    (tmp_path / "s").write_text("a\nb\n")
    (tmp_path / "t").write_text("A\nB\n")
    pairs = read_parallel(tmp_path / "s", tmp_path / "t")
    assert [(pair.source, pair.target, pair.line) for pair in pairs] == [("a", "A", 1), ("b", "B", 2)]


def test_parallel_files_of_different_lengths_give_both_counts(tmp_path):
    (tmp_path / "s").write_text("a\nb\nc\n")
    (tmp_path / "t").write_text("A\nB\n")
    message = refused(read_parallel, tmp_path / "s", tmp_path / "t")
    assert "has 3 lines" in message
    assert "has 2" in message


def test_tsv_rows_and_the_malformed_one(tmp_path):
    (tmp_path / "a.tsv").write_text('one\teins\n"two\tzwei"\n')
    assert read_tsv(tmp_path / "a.tsv") == [("one", "eins"), ('"two', 'zwei"')]
    (tmp_path / "b.tsv").write_text("one\teins\ntwo\n")
    assert "b.tsv, line 2: wanted 2 field(s) separated by tabs, got 1" in refused(
        read_tsv, tmp_path / "b.tsv"
    )
    assert "line 1: wanted 3 field(s) separated by tabs, got 2" in refused(
        read_tsv, tmp_path / "a.tsv", num_columns=3
    )


@given(
    content=st.binary(max_size=60) | st.binary(max_size=9).map(lzma.compress).map(lambda packed: packed[:70]),
    compress=st.sampled_from([bytes, gzip.compress, lzma.compress]),
)
def test_a_stream_of_lines_is_the_list_of_lines(content: bytes, compress: Callable[[bytes], bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines"
        path.write_bytes(compress(content))
        found: list[list[str] | str] = []
        for read in (read_lines, lambda path: list(stream_lines(path))):
            try:
                found.append(read(path))
            except DataError as error:
                found.append(str(error).split("(")[0].split(" at line")[0])
        assert found[0] == found[1]


@pytest.mark.parametrize(
    "content", [b"a\nb", b"a\nb\n", b"a\r\nb\r\n", b"\xef\xbb\xbfa\nb\n", "\u2028\n\x85\n".encode()]
)
def test_a_stream_splits_as_the_list_does(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(content)
    assert list(stream_lines(tmp_path / "lines")) == read_lines(tmp_path / "lines")


def test_a_stream_names_what_is_wrong(tmp_path: Path) -> None:
    whole = gzip.compress(b"a line\n" * 1000)
    (tmp_path / "cut.gz").write_bytes(whole[:-9])
    (tmp_path / "latin").write_bytes(b"good\nf\xfcr\n")
    with pytest.raises(DataError, match="damaged or cut off"):
        list(stream_lines(tmp_path / "cut.gz"))
    with pytest.raises(DataError, match=r"line 2, byte 2 \(0xfc\)"):
        list(stream_lines(tmp_path / "latin"))
    with pytest.raises(DataError, match="no such file"):
        list(stream_lines(tmp_path / "none"))
    with pytest.raises(DataError, match="cannot read"):
        list(stream_lines(tmp_path))
