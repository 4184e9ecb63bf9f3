"""Ctrl-C that waits: what other libraries do with several threads must not be cut in the middle."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Hold a Ctrl-C back until the block has ended, then act on it.

    orbax saves on event loops in threads of its own; a ``KeyboardInterrupt`` in the middle of them prints a
    traceback from another thread, is lost, or leaves the save waiting for ever. In any thread but the main one,
    and where Ctrl-C is ignored, nothing is changed.

    Example:
      >>> with deferred_interrupts():
      ...   pass  # write a checkpoint
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    came: list[Any] = []
    signal.signal(signal.SIGINT, lambda *arguments: came.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(*came[0])
