"""A file that only grows: what a full disk did not take is tried again, what somebody removes meanwhile is restored."""

import bisect
import os
from collections.abc import Callable
from pathlib import Path

from transformer_jax.files import reported_as

_COPIED_AT_ONCE = 1 << 20


class LogFile:
    """Appends whole entries, each handed to the system at once.

    Before each entry the name is looked at. Where the file has been removed, or another one has its name, it is written
    again from the open handle, which still holds it all; the other one is kept beside it. Where it was cut, entries go
    on behind the last one that is whole. Both are told. Where the whole run folder is gone, entries are kept: the next
    checkpoint says so.

    Args:
      path: The file, in the run folder or in a folder of it.
      run_dir: The run folder.
      begin: Written first, in the place of what the file held.
      replaces: Whether the file may be there already.
      on_failure: Called with the reason when the file cannot be written to; what was to be written is kept and tried
        again with the next entry. ``None`` raises.
      tell: Called with what was found removed, replaced or cut.

    Raises:
      OSError: If it cannot be written.
    """

    def __init__(
        self,
        path: Path,
        run_dir: Path,
        *,
        begin: bytes,
        replaces: bool,
        on_failure: Callable[[str], None] | None,
        tell: Callable[[str], None],
    ) -> None:
        self.path, self._run_dir = path, run_dir
        self._begin, self._unwritten = begin, b""
        self._on_failure, self._tell = on_failure, tell
        if replaces:
            with reported_as(path):
                self._partial.write_bytes(begin)
                os.replace(self._partial, path)
        else:
            with path.open("xb") as file:
                file.write(begin)
        self._file = path.open("a+b", buffering=0)
        self._ends = [len(begin)]

    @property
    def _unread(self) -> str:
        """Its name as TensorBoard, which reads every file with that mark, does not know it."""
        return self.path.name.replace("tfevents", "events")

    @property
    def _partial(self) -> Path:
        return self.path.with_name(f".{self._unread}.tmp")

    @property
    def _whole(self) -> int:
        """Bytes up to the last whole entry."""
        return self._ends[-1]

    def append(self, entry: bytes) -> None:
        """Add one entry.

        Raises:
          OSError: If that fails and was not to be told only.
        """
        self._unwritten += entry
        try:
            self._write_out()
        except OSError as error:
            if self._on_failure is None:
                raise
            self._on_failure(f"{self.path}: {error.strerror}")

    def close(self) -> None:
        """Close the file, after a last look at its name and a last try to write what could not be written.

        Raises:
          OSError: If that fails.
        """
        try:
            if not self._unwritten or self._on_failure is not None:  # else it was raised already
                self._write_out()
        finally:
            self._file.close()

    def _write_out(self) -> None:
        if not self._run_dir.is_dir():
            return
        self._restore()
        if not self._unwritten:
            return
        self._file.truncate(self._whole)  # without the half of an entry that a full disk took
        left = self._unwritten
        while left:
            left = left[self._file.write(left) :]
        self._ends.append(self._whole + len(self._unwritten))
        self._unwritten = b""

    def _restore(self) -> None:
        mine = os.fstat(self._file.fileno())
        if mine.st_size < self._whole:
            whole = bisect.bisect_right(self._ends, mine.st_size)
            lost = len(self._ends) - max(whole, 1)
            self._tell(f"{self.path} was cut by somebody else: {lost} rows are lost")
            self._ends = self._ends[:whole]
            if not whole:  # what every such file begins with
                self._file.truncate(0)
                self._file.write(self._begin)
                self._ends = [len(self._begin)]
        try:
            is_mine = os.path.samestat(mine, os.stat(self.path))
            if is_mine:
                return
            other = self.path.with_name(f"{self._unread}.other")
            os.replace(self.path, other)
            self._tell(
                f"{self.path} was replaced by somebody else: it is restored, the other one is {other.name} now"
            )
        except FileNotFoundError:
            self._tell(f"{self.path} was removed by somebody else: it is restored")
        self.path.parent.mkdir(exist_ok=True)
        with self._partial.open("wb") as copy:
            place = 0
            while place < self._whole:
                part = os.pread(self._file.fileno(), min(_COPIED_AT_ONCE, self._whole - place), place)
                if not part:
                    break
                copy.write(part)
                place += len(part)
        os.replace(self._partial, self.path)
        former, self._file = self._file, self.path.open("a+b", buffering=0)
        former.close()
