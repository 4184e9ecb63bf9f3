"""Files that are either whole or not there."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader, or an interruption, sees the old one or the new one, never a half.

    Args:
      path: Where; its folder must be there. What is no regular file (a pipe, a terminal) is written as it is; of a
        symbolic link the file that it leads to is written, and the link stays.
      text: All of it, written as UTF-8.

    Raises:
      OSError: If it cannot be written, under the name of ``path``; what was there before is left, and nothing else.
    """
    with reported_as(path):
        target = behind_link(path)
        if path.exists() and not target.is_file():
            path.write_text(text, encoding="utf-8")
            return
        partial = partial_name(target)
        try:
            with partial.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())  # or the power could go between the name and the content
            os.replace(partial, target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def behind_link(path: Path) -> Path:
    """The file that a symbolic link (``/dev/stdout`` is one) leads to; another path as it is.

    Example:
      >>> behind_link(Path("report.html")).name
      'report.html'
    """
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def partial_name(path: Path) -> Path:
    """A new hidden name beside ``path``, for what becomes ``path`` when it is whole.

    Example:
      >>> name = partial_name(Path("runs/report.html")).name
      >>> name[:13], name[-4:]
      ('.report.html.', '.tmp')
    """
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.tmp")


@contextlib.contextmanager
def reported_as(path: Path) -> Iterator[None]:
    """Give an ``OSError`` inside the block the name of the file that was asked for, not that of a temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
