"""Vectors in word2vec's formats: both ways, and every fault of a file in one line."""

import gzip
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from transformer_jax.data.vector_files import read_vectors, write_vectors
from transformer_jax.errors import DataError

WORDS = ["the", "caf\u00e9", "new_york"]
VECTORS = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.bin"])
def test_vectors_come_back_to_the_last_bit(tmp_path: Path, name: str) -> None:
    write_vectors(tmp_path / name, WORDS, VECTORS)
    found = read_vectors(tmp_path / name)
    assert found.words == tuple(WORDS)
    np.testing.assert_array_equal(found.vectors, VECTORS)
    assert read_vectors(tmp_path / name, max_words=2).words == ("the", "caf\u00e9")
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    np.testing.assert_array_equal(read_vectors(packed).vectors, VECTORS)


def test_the_text_format_is_word2vecs(tmp_path: Path) -> None:
    write_vectors(tmp_path / "one.txt", ["a", "b"], [[1.0, -0.5], [0.25, 3.0]])
    assert (tmp_path / "one.txt").read_text() == "2 2\na 1.0 -0.5\nb 0.25 3.0\n"
    (tmp_path / "two.txt").write_text("2 2\na 1.0 -0.5 \nb 0.25 3e0 ")  # word2vec.c ends lines with a space
    np.testing.assert_array_equal(read_vectors(tmp_path / "two.txt").vectors, [[1.0, -0.5], [0.25, 3.0]])


def test_the_binary_format_is_word2vecs_and_gensims(tmp_path: Path) -> None:
    path = tmp_path / "one.bin"
    write_vectors(path, ["a", "b"], [[1.0], [2.0]])
    numbers = [np.float32(one).tobytes() for one in (1.0, 2.0)]
    assert path.read_bytes() == b"2 1\na " + numbers[0] + b"\nb " + numbers[1] + b"\n"
    path.write_bytes(b"2 1\na " + numbers[0] + b"b " + numbers[1])  # gensim writes no line ends
    assert read_vectors(path).words == ("a", "b")


def test_of_a_word_that_stands_there_twice_the_first_counts(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("3 1\na 1\nb 2\na 3\n")
    found = read_vectors(tmp_path / "one.txt")
    assert found.words == ("a", "b")
    assert found.vectors.tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty|line 1"),
        ("a 1 2\nb 3 4\n", "line 1: wanted the number of words and the width"),
        ("-2 2\na 1 2\n", "line 1: wanted the number of words"),
        ("0 2\n", "line 1: 0 words"),
        ("3 2\na 1 2\nb 3 4\n", "cut off: 2 of 3 words"),
        ("2 2\na 1 2\nb 3", "line 3: cut off: wanted 2 numbers behind the word, got 1"),
        ("2 2\na 1 2 3\nb 3 4 5\n", "line 2: wanted 2 numbers behind the word, got 3"),
        ("2 2\na 1 x\nb 3 4\n", "line 2: not a number"),
        ("2 2\na 1 nan\nb 3 4\n", "'a' .word 1. holds NaN"),
        ("2 2\na 1 2\nb inf 4\n", "'b' .word 2. holds NaN or infinity"),
    ],
)
def test_faults_of_text_files_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_vectors(tmp_path / "bad.txt")
    assert "\n" not in str(caught.value)
    assert "bad.txt" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-3], "cut off or of another width"),
        (lambda content: content[: len(content) // 2], "cut off or of another width"),
        (lambda content: content.replace(b"3 4", b"2 4", 1), "behind the last of 2 words"),
        (
            lambda content: content.replace(b"3 4", b"3 5", 1),
            "cut off or of another width|not UTF-8|another format",
        ),
        (lambda content: b"GLOVE\n" + content, "line 1: wanted the number of words"),
        (lambda content: content.replace(VECTORS[1].tobytes(), b"\x00\x00\xc0\x7f" * 4), "holds NaN"),
    ],
)
def test_faults_of_binary_files_are_one_line(tmp_path: Path, change, message: str) -> None:
    write_vectors(tmp_path / "good.bin", WORDS, VECTORS)
    (tmp_path / "bad.bin").write_bytes(change((tmp_path / "good.bin").read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        read_vectors(tmp_path / "bad.bin")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["text", "binary"])
def test_a_cut_at_any_byte_is_refused(tmp_path: Path, kind: Literal["text", "binary"]) -> None:
    write_vectors(tmp_path / "good", WORDS, VECTORS, kind=kind)
    content = (tmp_path / "good").read_bytes()
    for length in range(len(content) - 1):
        (tmp_path / "bad").write_bytes(content[:length])
        try:
            found = read_vectors(tmp_path / "bad", kind=kind)
        except DataError:
            continue
        # Within the digits of the last number a cut cannot be seen in a text.
        assert kind == "text"
        assert found.words == tuple(WORDS)


@pytest.mark.parametrize(
    ("words", "vectors"),
    [
        (["a b"], [[1.0]]),
        ([""], [[1.0]]),
        (["a"], [[np.nan]]),
        (["a", "b"], [[1.0]]),
        (["a\u00a0b"], [[1.0]]),
    ],
)
def test_what_the_format_cannot_hold_is_not_written(tmp_path: Path, words: list[str], vectors: list) -> None:
    (tmp_path / "old.txt").write_text("old")
    with pytest.raises(DataError):
        write_vectors(tmp_path / "old.txt", words, vectors)
    assert (tmp_path / "old.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["old.txt"]
