"""The folder that keeps compiled libraries: code is loaded from it, so that nobody else may write there."""

import os
import stat
from pathlib import Path

from transformer_jax.errors import TransformerJaxError
from transformer_jax.files import user_cache

SWITCH = "TRANSFORMER_JAX_NATIVE"
"""Environment variable: ``0`` leaves the native library aside, another text is the folder that keeps it."""


class NativeError(TransformerJaxError, RuntimeError):
    """The native library cannot be built or kept here."""


def native_folder() -> Path:
    """Where compiled libraries are kept: a folder of the user's cache, or the one that `SWITCH` names."""
    named = os.environ.get(SWITCH, "")
    return user_cache() / "native" if named in ("", "0") else Path(named)


def why_unsafe(path: Path) -> str | None:
    """Why a folder or file is not trusted: another user's, or others may write to it; ``None`` = it is trusted."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return f"{path} is a link"
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        return f"{path} belongs to another user (number {found.st_uid})"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{path} can be written by others (mode {stat.S_IMODE(found.st_mode):04o}; chmod go-w makes it safe)"
    return None


def made_folder() -> Path:
    """The folder, made where it is not there, for its owner alone.

    Raises:
      NativeError: If it cannot be made, or is not safe.
    """
    path = native_folder()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        reason = why_unsafe(path)
    except OSError as error:
        raise NativeError(f"{path}: {error.strerror}; the native library is kept there") from None
    if reason is not None:
        raise NativeError(f"{reason}; code is not loaded from there")
    return path
