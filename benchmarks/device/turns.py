"""Processes that compile beside each other and then take turns at the GPU.

Timing must be alone: not only on the GPU, the compilers' use of the cores would lengthen launches, too. So no process
begins to time before all have compiled, or a time has passed after which none begins another program; then a lock on
a file goes from one to the next, those of a low rank first. The lock of a process that dies is free.
"""

import contextlib
import fcntl
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.device.watch import emit

OPTION = "--turns"
HEARTBEAT = 5.0


class Turns:
    """One process's place in the queue.

    Args:
      folder: Shared by the processes, empty at first.
      rank: Of this process, from 0.
      count: Processes in all.
      until: ``time.time()`` at which those that have compiled wait no longer for the others.
    """

    def __init__(self, folder: str, rank: int, count: int, until: float) -> None:
        self.folder, self.rank, self.count, self.until = Path(folder), rank, count, until

    def words(self) -> list[str]:
        """For a command line, read by :meth:`of_words`."""
        return [OPTION, str(self.folder), str(self.rank), str(self.count), str(self.until)]

    @classmethod
    def of_words(cls, words: Sequence[str]) -> "Turns":
        """The place that a command line gives."""
        first = list(words).index(OPTION) + 1
        folder, rank, count, until = words[first : first + 4]
        return cls(folder, int(rank), int(count), float(until))

    def is_late(self) -> bool:
        """Whether the others may be timing already, so that this process must not compile beside them."""
        return time.time() > self.until or self._all_are_ready()

    def pass_on(self) -> None:
        """Let the others begin: this process has compiled, or has nothing to time."""
        (self.folder / f"{self.rank}.ready").touch()

    def _all_are_ready(self) -> bool:
        return len(list(self.folder.glob("*.ready"))) >= self.count

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until all are ready, then for the lock; hold it meanwhile."""
        self.pass_on()
        told = time.monotonic()
        with (self.folder / "lock").open("w") as lock:
            while True:
                if self.is_late():
                    with contextlib.suppress(BlockingIOError):
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                time.sleep(0.02 + 0.05 * self.rank)
                if time.monotonic() - told > HEARTBEAT:
                    told = time.monotonic()
                    emit({"waiting": self.rank})
            try:
                yield
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)
