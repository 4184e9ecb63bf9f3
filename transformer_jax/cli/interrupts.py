"""Ctrl-C that is not lost: one that Python could only ignore is raised again; a second one ends the process."""

import atexit
import contextlib
import os
import select
import signal
import sys
import threading
import time
from typing import Any

_SOON = 0.01
"""Seconds until a lost interrupt is raised again: enough to be out of the place where it was lost."""


class _Interrupt(KeyboardInterrupt):
    """An interrupt that comes again if it dies before anything answered it."""

    answered = False

    def __del__(self) -> None:
        if not self.answered:
            signal.setitimer(signal.ITIMER_REAL, _SOON)


def keep_interrupts() -> None:
    """Raise a ``KeyboardInterrupt`` again when it was lost.

    A handler of SIGINT raises wherever the main thread happens to be, and there the exception may have nowhere to go:
    inside a finaliser or a callback of the garbage collector (JAX has one) Python reports it as ignored, and an
    ``except BaseException`` of a library, or a callback from C, may drop it without a word. Here a lost one is
    delivered again, by a timer; not when the process ends, where there is nothing left to interrupt. For programs that
    own their process: it takes SIGINT, ``sys.unraisablehook`` and, where the system has it, SIGALRM.

    Who catches an interrupt and goes on calls `transformer_jax.errors.answer`.

    Example:
      >>> keep_interrupts()  # doctest: +SKIP
    """
    if not hasattr(signal, "setitimer"):
        return
    report = sys.unraisablehook
    numbers: list[int] = []

    def interrupt(number: int, frame: Any) -> None:
        raise _Interrupt

    def hook(lost: Any) -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            report(lost)
        elif not issubclass(lost.exc_type, _Interrupt):  # those see to it themselves
            numbers.append(getattr(lost.exc_value, "signal_number", signal.SIGINT))
            signal.setitimer(signal.ITIMER_REAL, _SOON)

    def deliver(_: int, frame: Any) -> None:
        number = numbers.pop() if numbers else signal.SIGINT
        handler = signal.getsignal(number)  # of now: it may hold interrupts back, or ignore them
        if callable(handler):
            handler(number, frame)

    signal.signal(signal.SIGALRM, deliver)
    # At its end Python gives every signal with a handler its default action back, which is to end by SIGALRM.
    atexit.register(signal.signal, signal.SIGALRM, signal.SIG_IGN)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = hook


_ONE_SIGNAL = 0.25
"""As `transformer_jax.training.stopping.ONE_SIGNAL`, whose package brings jax."""


def end_at_second_signal() -> None:
    """Have the second SIGINT or SIGTERM end the process at once, whatever it is doing.

    A handler of Python's waits until the main thread is back in Python, and compiling may take minutes. Here a thread
    of its own is woken by the system at each signal (``signal.set_wakeup_fd``). For programs that own their process,
    whose files are whole at any instant.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch() -> None:
        first = None
        while number := os.read(reader, 1):
            if number[0] not in (signal.SIGINT, signal.SIGTERM):
                continue
            now = time.monotonic()
            if first is not None and now - first > _ONE_SIGNAL:
                with contextlib.suppress(OSError, ValueError):  # never waits for who reads
                    if select.select([], [2], [], 0)[1]:
                        os.write(2, b"stopped at once\n")
                os._exit(128 + number[0])
            first = first or now

    threading.Thread(target=watch, name="second signal", daemon=True).start()
