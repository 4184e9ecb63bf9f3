"""Standard streams that are there, block, and write whole or raise, whatever the process was started with."""

import contextlib
import errno
import io
import os
import select
import sys
from typing import Any, BinaryIO, TextIO

from transformer_jax.errors import DataError

_NAMES = ("standard input", "standard output", "standard error")
_closed: set[int] = set()


def own_standard_streams() -> None:
    """Make descriptors 0 to 2 and the streams of `sys` usable; for programs that own their process, first of all.

    - A descriptor that the caller closed (``>&-``; cron and services do) is opened on the null device: otherwise the
      next file would get its number, and what is written to "standard output" would land in it. Python's own stream,
      None in that case, is made; `require_open` tells of it where data would be lost.
    - A non-blocking descriptor (the other end of a terminal or pipe may have asked for it) becomes a blocking one.
    - Standard output and error are written through `DescriptorWriter`, with Python's ordinary buffering, and by lines
      on a terminal or where ``PYTHONUNBUFFERED`` asks for it.
    """
    for descriptor in range(3):
        _open_descriptor(descriptor)
        with contextlib.suppress(OSError):
            os.set_blocking(descriptor, True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open until the process ends
    sys.stdout = _writer(1, sys.stdout)
    sys.stderr = _writer(2, sys.stderr)


def require_open(descriptor: int, instead: str = "") -> None:
    """Check that a standard stream is one of the caller's, where data come from it or go to it.

    Args:
      descriptor: 0 or 1.
      instead: What names a file in its place, ``"--output FILE"`` say; empty where nothing does.

    Raises:
      DataError: If the process was started with it closed.
    """
    if descriptor in _closed or (sys.stdin, sys.stdout)[descriptor] is None:
        advice = f", or name {instead}" if instead else ""
        raise DataError(f"{_NAMES[descriptor]} is closed: open it{advice}")


def standard_output() -> BinaryIO:
    """Standard output for bytes, buffered; what was printed before is written out first."""
    sys.stdout.flush()
    out = sys.stdout.buffer
    if isinstance(out, io.RawIOBase):  # of an unbuffered process that did not call `own_standard_streams`
        return io.BufferedWriter(DescriptorWriter(out.fileno()))
    return out


def flush_standard_output() -> None:
    """Write out what is buffered; an error is raised here, not when the interpreter ends.

    Raises:
      OSError: If it cannot be written; what is left is dropped.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        drop_standard_output()
        raise


def drop_standard_output() -> None:
    """Let what is buffered for standard output go to the null device, so that the flush at exit is quiet."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


class DescriptorWriter(io.RawIOBase):
    """A file descriptor for a buffered writer, which writes until all is taken.

    On a descriptor that does not block, Python's own writer gives up with what the reader had no room for.

    Args:
      descriptor: Of a file that is open for writing; not closed with this object.
      must_write: Whether a failure is raised; without it what cannot be written is dropped.
    """

    def __init__(self, descriptor: int, *, must_write: bool = True) -> None:
        super().__init__()
        self._descriptor, self._must_write = descriptor, must_write
        self.name = _NAMES[descriptor] if descriptor < len(_NAMES) else str(descriptor)

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, data: Any) -> int:
        """Write some of ``data``; waits where the descriptor does not block.

        Returns:
          Number of bytes taken, at least one.

        Raises:
          OSError: If it cannot be written and ``must_write``; its file name is the stream's name.
        """
        while True:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError as error:
                if not self._must_write:
                    return memoryview(data).nbytes
                raise OSError(error.errno, error.strerror, self.name) from None


def read_arrived(descriptor: int, size: int) -> bytes:
    """Up to ``size`` bytes, as soon as there are any, from a descriptor that may not block; empty at the end."""
    while True:
        try:
            return os.read(descriptor, size)
        except BlockingIOError:
            select.select([descriptor], [], [])


def _open_descriptor(descriptor: int) -> None:
    """Open it on the null device unless it is open; the lower ones are."""
    try:
        os.fstat(descriptor)
        return
    except OSError as error:
        if error.errno != errno.EBADF:
            return
    _closed.add(descriptor)
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != descriptor:
        os.dup2(opened, descriptor)
        os.close(opened)
    os.set_inheritable(descriptor, True)


def _writer(descriptor: int, before: TextIO | None) -> TextIO:
    """A text stream on a descriptor, with the encoding that Python chose for it."""
    raw = DescriptorWriter(descriptor, must_write=descriptor == 1)
    buffered: BinaryIO = io.BufferedWriter(raw)
    by_lines = descriptor == 2 or raw.isatty() or getattr(before, "write_through", False)
    # An odd file name must not become another error.
    return io.TextIOWrapper(
        buffered,
        encoding=getattr(before, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=by_lines,
    )
