"""Lines as they come: groups of whatever lines are there, so that a pipe is answered at once."""

from collections.abc import Iterator
from typing import BinaryIO

from transformer_jax.cli.streams import read_arrived
from transformer_jax.data.readers import BYTE_ORDER_MARK
from transformer_jax.errors import DataError

_READ_BYTES = 1 << 16


def arriving_lines(file: BinaryIO, *, where: str, max_lines: int) -> Iterator[list[str]]:
    r"""Groups of whole lines: all that has arrived, at most ``max_lines`` together.

    Only ``\n`` ends a line (``\r\n`` too); a last line without it counts. So the number of lines is what
    ``wc -l`` says, whatever characters the lines hold. A byte order mark before the first is no text.

    Args:
      file: An unbuffered or buffered binary file with a file descriptor; read from its descriptor.
      where: What to call it in messages.
      max_lines: Size of a group.

    Raises:
      DataError: If a line is not UTF-8; names the line.
    """
    number = 0
    unfinished: list[bytes] = []  # pieces of a line whose end has not come, joined once
    descriptor = file.fileno()
    while block := read_arrived(descriptor, _READ_BYTES):
        *whole, rest = block.split(b"\n")
        if whole:
            whole[0] = b"".join([*unfinished, whole[0]])
            unfinished = []
            if number == 0:
                whole[0] = whole[0].removeprefix(BYTE_ORDER_MARK)
        unfinished.append(rest)
        for start in range(0, len(whole), max_lines):
            group = whole[start : start + max_lines]
            yield [decode_line(raw, where=where, number=number + i) for i, raw in enumerate(group, start=1)]
            number += len(group)
    last = b"".join(unfinished)
    if number == 0:
        last = last.removeprefix(BYTE_ORDER_MARK)
    if last:
        yield [decode_line(last, where=where, number=number + 1)]


def decode_line(raw: bytes, *, where: str, number: int) -> str:
    """Text of one line without its end.

    Raises:
      DataError: If it is not UTF-8.
    """
    try:
        return raw.removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: line {number}: not UTF-8 text (byte {error.start} of the line is "
            f"0x{raw[error.start]:02x}); convert it first, for example with iconv"
        ) from None
