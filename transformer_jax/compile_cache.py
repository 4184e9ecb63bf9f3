"""Compiled programs kept from one start of a command to the next, by JAX's persistent cache."""

import contextlib
import hashlib
import os
import platform
from pathlib import Path

from transformer_jax.notes import note

VARIABLE = "TRANSFORMER_JAX_COMPILED"
MAX_BYTES = 2 * 2**30

_SUFFIXES = ("-cache", "-atime")
"""Of an entry's two files: the program, and when it was used last."""

_LOCK_SECONDS = 10

KEEPING = ("ablate", "generate", "train", "translate", "evaluate", "score", "export", "plot")
"""Commands that keep theirs: the others report how long compiling takes."""


def keep_compiled_programs() -> Path | None:
    """Have JAX keep what it compiles in this process, and find it again; before JAX is imported.

    The folder is ``$TRANSFORMER_JAX_COMPILED`` or one in the user's cache, with a part for each kind of processor:
    a home folder may be shared by unlike machines. The oldest programs go when it is larger than 2 GiB. JAX's
    own variable ``JAX_COMPILATION_CACHE_DIR`` is left as it is. What a killed process left of an entry is removed, see
    `remove_broken_entries`.

    Returns:
      The folder; None where ``TRANSFORMER_JAX_COMPILED`` is empty, JAX's own variable is set, or the folder cannot be
      written, which is said on standard error.

    Example:
      >>> import os
      >>> os.environ["TRANSFORMER_JAX_COMPILED"] = ""
      >>> keep_compiled_programs() is None
      True
    """
    wanted = os.environ.get(VARIABLE)
    if wanted == "" or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return None
    from transformer_jax.files import user_cache

    root = Path(wanted) if wanted else user_cache() / "compiled"
    folder = root / processor()
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(MAX_BYTES))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] != "-1":  # without a limit there is one file an entry
            remove_broken_entries(folder)
    except (OSError, NotImplementedError) as error:  # the latter of a file system without locks
        reason = getattr(error, "strerror", None) or error
        note(f"note: compiled programs are not kept: {folder}: {reason} (${VARIABLE} names another)")
        return None
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    return folder


def remove_broken_entries(folder: Path) -> list[str]:
    """Remove entries of JAX's cache that lack one of their two files, or have an empty one.

    JAX writes a program into ``KEY-cache`` and then the time of its last use into ``KEY-atime``. A process that is
    killed in between, or a full disk, leaves the first alone, perhaps half of it; and looking for the oldest entry JAX
    then fails on the missing file, so that it never keeps a program in this folder again, without a word.

    Args:
      folder: Of the cache; locked as JAX locks it.

    Returns:
      Names of the removed files; none where another process holds the lock for long.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as name:
      ...   _ = (Path(name) / "jit_step-1f-cache").write_bytes(b"half of it")
      ...   remove_broken_entries(Path(name))
      ['jit_step-1f-cache']
    """
    import filelock

    removed = []
    with (
        contextlib.suppress(filelock.Timeout),
        filelock.FileLock(folder / ".lockfile", timeout=_LOCK_SECONDS),
    ):
        files = {path.name: path for path in folder.iterdir() if path.name.endswith(_SUFFIXES)}
        whole = {name for name, path in files.items() if path.stat().st_size > 0}
        for name, path in sorted(files.items()):
            key = name.rpartition("-")[0]
            if not whole.issuperset(f"{key}{suffix}" for suffix in _SUFFIXES):
                path.unlink()
                removed.append(name)
    return removed


def processor() -> str:
    """A few letters for the instructions that this processor knows."""
    told = platform.machine() + platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        pass
    return hashlib.sha256(told.encode()).hexdigest()[:8]
