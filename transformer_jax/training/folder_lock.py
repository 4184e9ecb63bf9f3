"""One trainer a run folder: a lock that the system gives back when its holder dies, however it dies."""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from transformer_jax.errors import RunError
from transformer_jax.files import reported_as
from transformer_jax.training.hosts import is_first

LOCK_NAME = "trainer.lock"

_held: dict[Path, tuple[int, int]] = {}
"""Process and thread that hold each folder's lock: whoever locks inside of an own lock waits for nobody."""
_handles: dict[Path, int] = {}
"""The open files that hold the locks."""


@contextlib.contextmanager
def locked_folder(run_dir: Path | str) -> Iterator[None]:
    """Hold the lock of a run folder, which is made where it is missing and removed if it stays empty.

    The file ``trainer.lock`` says which process on which host holds it, and is removed afterwards; one that a killed
    process left behind locks nothing. Where the system has no file locks, nothing is locked. Of several
    hosts that train one run only the first, which writes, holds it.

    Raises:
      RunError: If another process holds it; says which.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder, locked_folder(folder):
      ...   sorted(json.loads((Path(folder) / "trainer.lock").read_text()))
      ['host', 'pid', 'since']
    """
    folder, me = Path(run_dir).resolve(), (os.getpid(), threading.get_ident())
    if not is_first() or _held.get(folder) == me:
        yield
        return
    was_there = folder.exists()
    path = folder / LOCK_NAME
    with reported_as(Path(run_dir)):
        folder.mkdir(parents=True, exist_ok=True)
        _handles[folder] = _acquire(path)
    _held[folder] = me
    try:
        yield
    finally:
        del _held[folder]
        handle = _handles.pop(folder)
        with contextlib.suppress(OSError):  # the folder may have vanished, or have become read-only
            if _is_still_there(handle, path):  # else it is another's
                path.unlink()  # still held: whoever opened the old file sees that it is gone
            if not was_there:
                folder.rmdir()  # only if nothing came of it
        os.close(handle)


def renew_lock(run_dir: Path | str) -> bool:
    """Lock a folder again if somebody has removed the lock's file: a second trainer would not see that we train here.

    Args:
      run_dir: A folder that this process may have locked; another one is left alone.

    Returns:
      Whether it had been removed.

    Raises:
      RunError: If another process has locked the folder meanwhile; says which.
    """
    folder = Path(run_dir).resolve()
    handle, path = _handles.get(folder), folder / LOCK_NAME
    if handle is None or not folder.is_dir() or _is_still_there(handle, path):
        return False
    _handles[folder] = _acquire(path)
    os.close(handle)
    return True


def _acquire(path: Path) -> int:
    """An open file that holds the lock, with our name in it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            _lock(handle, path)
            if not _is_still_there(handle, path):
                os.close(handle)
                continue
            said = {
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            }
            os.ftruncate(handle, 0)
            os.write(handle, (json.dumps(said) + "\n").encode())
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(handle)
            raise
        return handle


def _lock(handle: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not a system with such locks
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunError(
            f"{path.parent} is being trained by {_holder(handle)}: wait for it, stop it, or name another folder"
        ) from None
    except OSError:  # a file system without locks
        return


def _is_still_there(handle: int, path: Path) -> bool:
    """Whether the path is still the file that was locked, not one that its last holder removed."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _holder(handle: int) -> str:
    try:
        said = json.loads(os.read(handle, 1000))
        return f"process {int(said['pid'])} on {str(said['host'])[:60]} since {str(said['since'])[:19]}"
    except (ValueError, KeyError, TypeError):
        return "another process"
