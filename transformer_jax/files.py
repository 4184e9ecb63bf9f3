"""Files that are either whole or not there."""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from transformer_jax.errors import ConfigError, DataError


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
    """Give an ``OSError`` inside the block the name of the requested file, not that of a temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def read_text(path: Path, *, limit: int = 1_000_000) -> str:
    """Text of a small UTF-8 file.

    Raises:
      ConfigError: If it cannot be read, is larger than ``limit`` bytes, or is not UTF-8.
    """
    try:
        if path.stat().st_size > limit:
            raise ConfigError(f"{path}: {path.stat().st_size:,} bytes; at most {limit:,} are read")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def write_json(path: Path, document: Any) -> None:
    """`write_whole` of a document; numbers that JSON lacks (NaN, infinity) are an error."""
    write_whole(path, json.dumps(document, indent=2, allow_nan=False) + "\n")


def user_cache() -> Path:
    """Where this library keeps what it can get again, in the user's cache."""
    import platformdirs

    return platformdirs.user_cache_path("transformer_jax")


def require_other_file(option: str, path: Path | None, inputs: Sequence[Path | None]) -> None:
    """Check that what is to be written is none of the files that are read, by whatever name or link.

    Raises:
      DataError: If it is.
    """
    for one in inputs:
        if path is None or one is None:
            continue
        if path.absolute() == one.absolute() or (path.exists() and one.exists() and path.samefile(one)):
            raise DataError(f"{option} {path}: is an input file; name another")


def absolute_path(path: str) -> str:
    """A path that leads to the same file from any folder; ``~`` is the user's home.

    Example:
      >>> absolute_path("/data/../mine.txt")
      '/mine.txt'
    """
    return os.path.abspath(os.path.expanduser(path))
