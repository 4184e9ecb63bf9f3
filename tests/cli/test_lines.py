"""Lines as they arrive: counted as ``wc -l`` counts them, whatever they hold."""

import os
from pathlib import Path

import pytest

from transformer_jax.cli.lines import arriving_lines
from transformer_jax.errors import DataError


def read(path: Path, max_lines: int = 100) -> list[list[str]]:
    with path.open("rb") as file:
        return list(arriving_lines(file, where=str(path), max_lines=max_lines))


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a\nb\n", ["a", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"\n\n\n", ["", "", ""]),
        ("a\u2028b\x0bc\x0cd\x85e\n".encode(), ["a\u2028b\x0bc\x0cd\x85e"]),
        (b"a\0b\n", ["a\0b"]),
        (b"   \n\t\n", ["   ", "\t"]),
        ("ß中😀\n".encode(), ["ß中😀"]),
        (b"\xef\xbb\xbfa\r\nb\n", ["a", "b"]),
        (b"\xef\xbb\xbfa", ["a"]),
        (b"\xef\xbb\xbf\n", [""]),
        (b"\xef\xbb\xbf", []),
        ("a\n\ufeffb\n\ufeffc".encode(), ["a", "\ufeffb", "\ufeffc"]),
    ],
)
def test_only_a_line_feed_ends_a_line(tmp_path: Path, content: bytes, lines: list[str]) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes(content)
    assert [line for group in read(path) for line in group] == lines


def test_groups_are_no_larger_than_asked(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"{i}\n" for i in range(50_000)))
    groups = read(path, max_lines=7)
    assert max(map(len, groups)) == 7
    assert [line for group in groups for line in group] == [str(i) for i in range(50_000)]


def test_a_line_longer_than_a_block_stays_one_line(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    long = "ä" * 300_000
    path.write_text(f"first\n{long}\nlast", encoding="utf-8")
    assert [line for group in read(path) for line in group] == ["first", long, "last"]


def test_lines_are_given_before_the_pipe_closes() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as file, os.fdopen(writing, "wb", buffering=0) as out:
        groups = arriving_lines(file, where="stdin", max_lines=10)
        out.write(b"one\ntwo\nthr")
        assert next(groups) == ["one", "two"]
        out.write(b"ee\n")
        assert next(groups) == ["three"]


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes(b"good\ngr\xfcn\n")
    with pytest.raises(DataError, match=r"lines\.txt: line 2: not UTF-8 .*0xfc"):
        read(path)
