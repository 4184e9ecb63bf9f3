"""Manifest of a checkpoint's files: sizes and SHA-256, written before the checkpoint gets its name."""

import contextlib
import hashlib
import json
import os
from pathlib import Path

from transformer_jax.errors import RunError, shortened

MANIFEST_NAME = "manifest.json"
FORMAT = 2
"""Of checkpoints with a manifest; those of format 1 had none, and are read as they are."""

_MAX_BYTES = 10_000_000
_MAX_FILES = 100_000


class LaterFormatError(RunError):
    """A checkpoint of a later version of this library."""


def has_manifest(folder: Path) -> bool:
    """Whether a folder has a manifest, damaged or not."""
    return (folder / MANIFEST_NAME).is_file()


def is_whole(folder: Path) -> bool:
    """Whether a folder's files are those of its manifest, every byte."""
    try:
        require_whole(folder, deep=True)
    except RunError:
        return False
    return True


def write_manifest(folder: Path) -> None:
    """List every file of a folder with its size and SHA-256, and have the disk keep all of them."""
    files = {}
    for path in _files(folder):
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": _digest(path)}
        sync(path)
    path = folder / MANIFEST_NAME
    path.write_text(json.dumps({"format": FORMAT, "files": files}, indent=1, sort_keys=True) + "\n")
    sync(path)
    for directory in {path.parent for path in _files(folder)} | {folder}:
        sync(directory)


def require_whole(folder: Path, *, deep: bool) -> None:
    """Check a checkpoint's files against its manifest.

    Args:
      folder: The checkpoint.
      deep: Read every file; otherwise only look that all are there with their sizes.

    Raises:
      RunError: If a file is missing, added or changed, or the manifest cannot be used; names the file.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as name:
      ...   _ = (Path(name) / "data").write_text("x")
      ...   write_manifest(Path(name))
      ...   _ = (Path(name) / "data").write_text("y")
      ...   is_whole(Path(name))
      False
    """
    if not has_manifest(folder):
        return
    try:
        _require_listed(folder, _read(folder / MANIFEST_NAME), deep=deep)
    except OSError as error:
        raise RunError(f"{error.filename or folder}: cannot be read: {error.strerror}") from None


def _require_listed(folder: Path, files: dict[str, tuple[int, str]], *, deep: bool) -> None:
    found = {one.relative_to(folder).as_posix(): one for one in _files(folder)}
    for name in sorted(files.keys() | found.keys()):
        if name not in found:
            raise RunError(f"{folder / shortened(name)}: missing")
        if name not in files:
            raise RunError(f"{folder / name}: not of this checkpoint (the manifest does not list it)")
        size, digest = files[name]
        if found[name].stat().st_size != size:
            raise RunError(
                f"{found[name]}: damaged ({found[name].stat().st_size:,} bytes, {size:,} were written)"
            )
        if deep and _digest(found[name]) != digest:
            raise RunError(f"{found[name]}: damaged (its SHA-256 is not the manifest's)")


def _read(path: Path) -> dict[str, tuple[int, str]]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("too large")
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise LaterFormatError(
                f"{path}: checkpoints of format {shortened(repr(document['format']))}; this version reads up to "
                f"{FORMAT}"
            )
        files = {
            str(name): (int(one["bytes"]), str(one["sha256"])) for name, one in document["files"].items()
        }
        if len(files) > _MAX_FILES:
            raise ValueError("too many files")
        return files
    except LaterFormatError:
        raise
    except (
        OSError,
        ArithmeticError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise RunError(f"{path}: damaged ({error})") from None


def _files(folder: Path) -> list[Path]:
    """All files below a folder but the manifest; a link is a file of its own, whatever it leads to."""
    found = []
    for directory, _, names in os.walk(folder):
        found += [Path(directory) / name for name in names]
    return sorted(path for path in found if path != folder / MANIFEST_NAME)


def _digest(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        raise RunError(f"{path}: not a regular file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have the disk keep a file, or the names in a folder, before going on."""
    if path.is_dir():
        with contextlib.suppress(OSError):  # not every system can be told so of a folder
            _fsync(path, os.O_RDONLY)
    else:
        _fsync(path, os.O_RDWR)


def _fsync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
