"""Word vectors in word2vec's text and binary formats, as gensim, fastText and others read and write them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from transformer_jax.data.readers import read_bytes
from transformer_jax.errors import DataError, shortened
from transformer_jax.files import behind_link, partial_name, reported_as

VectorFormat = Literal["text", "binary"]

_BINARY_SUFFIXES = (".bin", ".bin.gz", ".bin.xz")


class VectorTable(NamedTuple):
    """Words with their vectors.

    Attributes:
      words: The words, each once.
      vectors: ``[words, width]``, float32.
    """

    words: tuple[str, ...]
    vectors: npt.NDArray[np.float32]


def format_of(path: Path) -> VectorFormat:
    """``binary`` where the name ends in ``.bin``, ``text`` otherwise.

    Example:
      >>> format_of(Path("GoogleNews.bin.gz")), format_of(Path("vectors.txt"))
      ('binary', 'text')
    """
    return "binary" if path.name.endswith(_BINARY_SUFFIXES) else "text"


def write_vectors(
    path: Path, words: Sequence[str], vectors: npt.ArrayLike, *, kind: VectorFormat | None = None
) -> None:
    r"""Write vectors, whole or not at all: a line with both sizes, then a word and its numbers each.

    Args:
      path: File to write.
      words: The words.
      vectors: ``[words, width]``.
      kind: Format; None takes it from the name, see `format_of`.

    Raises:
      DataError: If a word is empty, holds white space or has no vector, or a number is not finite.
      OSError: If the file cannot be written.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp()) / "vectors.txt"
      >>> write_vectors(path, ["a", "cat"], [[1.0, 0.5], [0.0, 2.0]])
      >>> path.read_text()
      '2 2\na 1.0 0.5\ncat 0.0 2.0\n'
      >>> read_vectors(path).words
      ('a', 'cat')
    """
    table = np.ascontiguousarray(vectors, np.float32)
    if table.ndim != 2 or len(table) != len(words):
        raise DataError(
            f"wanted a vector for each of {len(words):,} words, got an array of shape {table.shape}"
        )
    for word in words:
        if not word or any(one.isspace() for one in word):
            raise DataError(
                f"word {shortened(word)!r} is empty or holds white space, which separates words in the file"
            )
    _check_finite(table, words, str(path))
    header = f"{len(words)} {table.shape[1]}\n".encode()
    with reported_as(path):
        target = behind_link(path)
        partial = partial_name(target)
        try:
            with partial.open("xb") as file:
                file.write(header)
                for word, row in zip(words, table):
                    if (kind or format_of(path)) == "binary":
                        file.write(word.encode() + b" " + row.astype("<f4").tobytes() + b"\n")
                    else:
                        file.write(f"{word} {' '.join(map(str, row))}\n".encode())
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def read_vectors(
    path: Path, *, kind: VectorFormat | None = None, max_words: int | None = None
) -> VectorTable:
    """Read vectors; of a word that stands there twice, the first.

    Args:
      path: File in word2vec's text or binary format, plain or compressed by gzip or xz.
      kind: Format; None takes it from the name, see `format_of`.
      max_words: Read only the first so many words; None reads all.

    Raises:
      DataError: If the file is missing, cut off, has another width than its header says, or holds what is not a finite
        number; one line that says where.
    """
    content = read_bytes(path)
    end = content.find(b"\n")
    num_words, width = _header(content[: max(end, 0)], str(path), kind or format_of(path))
    wanted = num_words if max_words is None else min(num_words, max_words)
    read = _binary_rows if (kind or format_of(path)) == "binary" else _text_rows
    words, table = read(content[end + 1 :], wanted, num_words, width, str(path))
    _check_finite(table, words, str(path))
    first = {word: place for place, word in reversed(list(enumerate(words)))}
    places = sorted(first.values())
    return VectorTable(
        tuple(words[place] for place in places), table if len(places) == len(words) else table[places]
    )


def _header(line: bytes, where: str, kind: str) -> tuple[int, int]:
    fields = line.split()
    if len(fields) != 2 or not all(field.isdigit() and len(field) < 10 for field in fields):
        raise DataError(
            f"{where}: line 1: wanted the number of words and the width, such as '50000 100', got "
            f"{shortened(line.decode('utf-8', 'replace'), 40)!r}"
        )
    num_words, width = int(fields[0]), int(fields[1])
    if num_words < 1 or not 1 <= width <= 2**16:
        raise DataError(
            f"{where}: line 1: {num_words:,} words of width {width:,}; wanted at least one of each"
        )
    return num_words, width


def _text_rows(
    content: bytes, wanted: int, num_words: int, width: int, where: str
) -> tuple[list[str], npt.NDArray[np.float32]]:
    words: list[str] = []
    lines = content.split(b"\n", wanted)
    if len(lines) <= wanted and lines[-1] == b"":
        lines.pop()
    if len(lines) < wanted:
        raise DataError(f"{where}: cut off: {len(lines):,} of {num_words:,} words")
    table = np.empty((wanted, width), np.float32)
    for number, line in enumerate(lines[:wanted]):
        word, _, numbers = line.rstrip(b" \\r").partition(b" ")
        fields = numbers.split()
        if len(fields) != width:
            is_last = number == len(lines) - 1 and len(fields) < width
            raise DataError(
                f"{where}: line {number + 2}: {'cut off: ' if is_last else ''}wanted {width} numbers behind the word, "
                f"got {len(fields)}"
            )
        try:
            table[number] = fields
        except ValueError:
            raise DataError(f"{where}: line {number + 2}: not a number among those of the word") from None
        words.append(_decoded(word, f"{where}: line {number + 2}"))
    return words, table


def _binary_rows(
    content: bytes, wanted: int, num_words: int, width: int, where: str
) -> tuple[list[str], npt.NDArray[np.float32]]:
    words: list[str] = []
    table = np.empty((wanted, width), np.float32)
    place, size = 0, 4 * width
    for number in range(wanted):
        end = content.find(b" ", place)
        if end < 0 or end + 1 + size > len(content):
            raise DataError(
                f"{where}: cut off or of another width than {width}: {number:,} of {num_words:,} words are whole"
            )
        words.append(_decoded(content[place:end].lstrip(b"\n"), f"{where}: word {number + 1:,}"))
        table[number] = np.frombuffer(content, "<f4", width, end + 1)
        place = end + 1 + size
    rest = content[place:].strip(b"\n")
    if wanted == num_words and rest:
        raise DataError(
            f"{where}: {len(rest):,} bytes behind the last of {num_words:,} words of width {width}: its header is wrong"
        )
    return words, table


def _decoded(word: bytes, where: str) -> str:
    try:
        text = word.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(
            f"{where}: the word is not UTF-8 text: the file is of another format or width"
        ) from None
    if not text:
        raise DataError(f"{where}: the word is empty")
    return text


def _check_finite(table: npt.NDArray[np.float32], words: Sequence[str], where: str) -> None:
    wrong = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if len(wrong):
        raise DataError(
            f"{where}: the vector of {words[wrong[0]]!r} (word {wrong[0] + 1:,}) holds NaN or infinity"
        )
