"""Remarks of the library: to Python's logging, or to whoever listens, as the command line does."""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

Listener = Callable[[str], None]

_LOGGER = logging.getLogger("transformer_jax")
_listeners: list[Listener] = []


def note(text: str, *, is_warning: bool = False) -> None:
    """Hand a remark to the listener of now, or to the logger ``transformer_jax``.

    Args:
      text: One line or several.
      is_warning: Whether the logger gets it at level WARNING, which Python prints by default, instead of INFO.

    Example:
      >>> heard = []
      >>> with listening(heard.append):
      ...   note("3 lines were skipped")
      >>> heard
      ['3 lines were skipped']
    """
    if _listeners:
        _listeners[-1](text)
    else:
        _LOGGER.log(logging.WARNING if is_warning else logging.INFO, text)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Give the remarks made within the block to ``listener``.

    Example:
      >>> with listening(print):
      ...   note("compiled programs are kept")
      compiled programs are kept
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def print_note(text: str, *, stream: TextIO | None = None) -> None:
    r"""Print a text and a line end on standard error, at once; never on standard output.

    A service may have no standard error: ``sys.stderr`` is then None, and ``print(file=sys.stderr)`` would write to
    standard output, among the results. Here the text is dropped, as where the stream is full or its reader is gone.

    Args:
      text: One line or several.
      stream: Another text stream; None for the ``sys.stderr`` of now.

    Example:
      >>> import io
      >>> stream = io.StringIO()
      >>> print_note("note: 3 lines were skipped", stream=stream)
      >>> stream.getvalue()
      'note: 3 lines were skipped\n'
    """
    stream = sys.stderr if stream is None else stream
    if stream is None:
        return
    with contextlib.suppress(OSError):
        try:
            _write_line(stream, text)
        except UnicodeEncodeError:  # a file name that is not UTF-8, say
            _write_line(stream, text.encode("ascii", "backslashreplace").decode())


def _write_line(stream: TextIO, text: str) -> None:
    stream.write(f"{text}\n")  # in one piece: a signal between a text and its end would join two lines
    stream.flush()


def is_watched() -> bool:
    """Whether standard error is a terminal, so that a person may watch a bar there."""
    return sys.stderr is not None and sys.stderr.isatty()


def is_notebook() -> bool:
    """Whether this process is the kernel of a notebook, which shows a bar by its own means.

    Example:
      >>> is_notebook()
      False
    """
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return type(shell).__name__ == "ZMQInteractiveShell"
