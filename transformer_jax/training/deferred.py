"""Ctrl-C that waits: what other libraries do with several threads must not be cut in the middle."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Hold a Ctrl-C, and a SIGTERM that has a handler, back until the block has ended, then act on it.

    orbax saves on event loops in threads of its own; a ``KeyboardInterrupt`` in the middle of them prints a
    traceback from another thread, is lost, or leaves the save waiting for ever. In any thread but the main one,
    and where a signal is ignored, nothing is changed.

    Example:
      >>> with deferred_interrupts():
      ...   pass  # write a checkpoint
    """
    handlers: dict[int, Any] = {}
    came: list[tuple[int, Any]] = []
    if threading.current_thread() is threading.main_thread():
        taken = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        handlers = {number: handler for number, handler in taken.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, lambda *arguments: came.append(arguments))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            handlers[came[0][0]](*came[0])
