"""SIGINT and SIGTERM while training: an update is finished and saved, anything else is broken off."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

ONE_SIGNAL = 0.25
"""Signals that come within so many seconds are one: a process may get its group's beside its own."""


class Stopped(KeyboardInterrupt):
    """A signal requested a stop.

    Args:
      signal_number: Which one.
      note: What a person should know.
    """

    def __init__(self, signal_number: int, note: str = "") -> None:
        super().__init__(note)
        self.signal_number = signal_number


class StopRequests:
    """Takes the stop signals while its block runs, and gives the handlers back after it.

    A signal in a :meth:`held` block is kept in ``came``; outside of one, and the second in any, raises `Stopped` where
    the program stands. One that comes within `ONE_SIGNAL` of the first is no second one. A signal that the process
    ignores stays ignored; in any thread but the main one, where Python has no say over signals, nothing is taken.

    Args:
      tell: Called when a signal is kept, to say that it was heard.

    Example:
      >>> with StopRequests() as stops, stops.held():
      ...   signal.raise_signal(signal.SIGTERM)
      ...   stops.came == signal.SIGTERM
      True
    """

    def __init__(self, tell: Callable[[], None] = lambda: None) -> None:
        self.came: int | None = None
        self._tell, self._is_held, self._first = tell, False, 0.0
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "StopRequests":
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *unused: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep the first signal of the block instead of raising."""
        before, self._is_held = self._is_held, True
        try:
            yield
        finally:
            self._is_held = before

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Inside of a held block something that may be broken off; raises at once if a signal was kept before."""
        before, self._is_held = self._is_held, False
        try:
            if self.came is not None:
                raise Stopped(self.came)
            yield
        finally:
            self._is_held = before

    def _handle(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if self.came is not None and now - self._first < ONE_SIGNAL:
            return
        if not self._is_held or self.came is not None:
            self.came, self._first = number, now
            raise Stopped(number)
        self.came, self._first = number, now
        # Whoever read our output may be gone by the same signal, or be written to right now.
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            self._tell()
