"""Text files to lines or whole texts: each thing that can be wrong with a file is one clear `DataError`.

Files may be compressed by gzip or xz. A line ends at a line feed and nowhere else; a
carriage return before it belongs to the line's end. So a file has the same number of lines here as for ``wc -l``,
whatever separators of Unicode its lines hold.
"""

import gzip
import io
import lzma
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from transformer_jax.data.line_pairs import Pair
from transformer_jax.errors import DataError

_GZIP_MAGIC = b"\x1f\x8b"
_XZ_MAGIC = b"\xfd7zXZ\0"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """Lines of a UTF-8 text file, plain or compressed by gzip or xz, without their line ends.

    Raises:
      DataError: If the file is missing, unreadable, empty, binary (holds NUL bytes), damaged or not UTF-8.
    """
    return split_lines(read_bytes(path), str(path))


def read_text_file(path: str | os.PathLike[str]) -> str:
    """Text of a UTF-8 file, plain or compressed by gzip or xz, unchanged: line ends and white space are kept.

    Raises:
      DataError: If the file is missing, unreadable, empty, binary (holds NUL bytes), damaged or not UTF-8.
    """
    content = read_bytes(path).removeprefix(BYTE_ORDER_MARK)
    if not content:
        raise DataError(f"{path}: the file is empty; wanted UTF-8 text")
    return _decoded(content, str(path))


def stream_lines(path: str | os.PathLike[str]) -> Iterator[str]:
    """The lines of `read_lines`, one at a time: a file of any size in the memory of its longest line.

    Raises:
      DataError: As `read_lines` does, when the line is reached.
    """
    number = 0
    try:
        with open(path, "rb") as file, _unpacked(file) as unpacked:
            for line in unpacked:
                text = line if number else line.removeprefix(BYTE_ORDER_MARK)
                if text:  # not a mark and nothing else
                    number += 1
                    yield _text_of_line(text, number, str(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError):
        raise DataError(f"{path}: the compressed file is damaged or cut off; fetch it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot read the file: {error.strerror}") from None
    if number == 0:
        raise DataError(f"{path}: the file is empty; wanted UTF-8 text, one example a line")


def _unpacked(file: io.BufferedReader) -> AbstractContextManager[Iterable[bytes]]:
    magic = file.peek(len(_XZ_MAGIC))
    if magic.startswith(_GZIP_MAGIC):
        return gzip.GzipFile(fileobj=file)
    return lzma.LZMAFile(file) if magic.startswith(_XZ_MAGIC) else nullcontext(file)


def count_lines(path: str | os.PathLike[str]) -> int:
    """Number of lines, after reading and checking all of them.

    Raises:
      DataError: As `read_lines` does.
    """
    return sum(1 for _ in stream_lines(path))


def _text_of_line(raw: bytes, number: int, where: str) -> str:
    nul = raw.find(b"\0")
    if nul >= 0:
        raise DataError(f"{where}: binary file (NUL at line {number}, byte {nul + 1}); wanted UTF-8 text")
    try:
        return raw.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: not UTF-8 at line {number}, byte {error.start + 1} (0x{raw[error.start]:02x}); convert the "
            "file, for example with iconv -f latin1 -t utf-8"
        ) from None


def split_lines(content: bytes, where: str, *, allow_empty: bool = False) -> list[str]:
    """Lines of UTF-8 bytes, as `read_lines` splits a file.

    Args:
      content: The bytes.
      where: Name of the bytes in messages.
      allow_empty: Return no lines for no bytes, instead of raising.

    Raises:
      DataError: If the bytes are empty, hold a NUL or are not UTF-8, naming the line and the byte.
    """
    content = content.removeprefix(BYTE_ORDER_MARK)
    if not content:
        if allow_empty:
            return []
        raise DataError(f"{where}: the file is empty; wanted UTF-8 text, one example a line")
    lines = _decoded(content, where).split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _decoded(content: bytes, where: str) -> str:
    nul = content.find(b"\0")
    if nul >= 0:
        line, byte = _line_and_byte(content, nul)
        raise DataError(f"{where}: binary file (NUL at line {line}, byte {byte}); wanted UTF-8 text")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line, byte = _line_and_byte(content, error.start)
        raise DataError(
            f"{where}: not UTF-8 at line {line}, byte {byte} (0x{content[error.start]:02x}); convert the "
            "file, for example with iconv -f latin1 -t utf-8"
        ) from None


def read_parallel(source_path: str | os.PathLike[str], target_path: str | os.PathLike[str]) -> list[Pair]:
    """Pairs of two files aligned by line.

    Raises:
      DataError: If a file cannot be read (see `read_lines`), or the files differ in their line counts.
    """
    sources, targets = read_lines(source_path), read_lines(target_path)
    if len(sources) != len(targets):
        raise DataError(
            f"source and target differ in length: {source_path} has {len(sources)} lines, {target_path} has "
            f"{len(targets)}; line n of one must belong to line n of the other"
        )
    return [Pair(source, target, line) for line, (source, target) in enumerate(zip(sources, targets), 1)]


def read_tsv(path: str | os.PathLike[str], *, num_columns: int | None = None) -> list[tuple[str, ...]]:
    """Rows of a file of fields separated by tabs; there is no quoting, so a field can hold no tab.

    Args:
      path: The file.
      num_columns: Fields that each row must have; None takes the number of the first row.

    Raises:
      DataError: If the file cannot be read (see `read_lines`), or a row has another number of fields.
    """
    rows: list[tuple[str, ...]] = []
    for number, line in enumerate(read_lines(path), start=1):
        row = tuple(line.split("\t"))
        if num_columns is None:
            num_columns = len(row)
        if len(row) != num_columns:
            raise DataError(
                f"{path}, line {number}: wanted {num_columns} field(s) separated by tabs, got {len(row)}"
            )
        rows.append(row)
    return rows


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Bytes of a file, unpacked where it is compressed by gzip or xz.

    Raises:
      DataError: If it is missing, unreadable, or damaged.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot read the file: {error.strerror}") from None
    try:
        if content.startswith(_GZIP_MAGIC):
            return gzip.decompress(content)
        if content.startswith(_XZ_MAGIC):
            return lzma.decompress(content)
        return content
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError):
        raise DataError(f"{path}: the compressed file is damaged or cut off; fetch it again") from None


def _line_and_byte(content: bytes, offset: int) -> tuple[int, int]:
    start = content.rfind(b"\n", 0, offset) + 1
    return content.count(b"\n", 0, start) + 1, offset - start + 1
