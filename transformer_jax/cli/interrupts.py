"""Ctrl-C that is not lost: an interrupt raised where Python can only ignore it comes again a moment later."""

import signal
import sys
from typing import Any

_SOON = 0.01
"""Seconds until a lost interrupt is raised again: enough to be out of the place where it was lost."""


def keep_interrupts() -> None:
    """Raise a ``KeyboardInterrupt`` anew when it was lost.

    A handler of SIGINT raises wherever the main thread happens to be. Inside a finaliser or a callback of the
    garbage collector (JAX has one) an exception cannot go anywhere: Python reports it as ignored, and the
    program runs on. Here such a report becomes a second delivery, by a timer. For programs that own their
    process: it takes ``sys.unraisablehook`` and, where the system has it, SIGALRM.

    Example:
      >>> keep_interrupts()
    """
    if not hasattr(signal, "setitimer"):
        return
    report = sys.unraisablehook

    def hook(lost: Any) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, _SOON)
        else:
            report(lost)

    def deliver(_: int, frame: Any) -> None:
        handler = signal.getsignal(signal.SIGINT)  # of now: it may hold interrupts back, or ignore them
        if callable(handler):
            handler(signal.SIGINT, frame)

    signal.signal(signal.SIGALRM, deliver)
    sys.unraisablehook = hook
