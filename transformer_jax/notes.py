"""Lines on standard error: never on standard output, and never the end of a program that cannot write them."""

import contextlib
import sys
from typing import TextIO


def note(text: str, *, stream: TextIO | None = None) -> None:
    r"""Print a text and a line end on standard error, at once.

    A service may have no standard error: ``sys.stderr`` is then None, and ``print(file=sys.stderr)`` would write to
    standard output, among the results. Here the text is dropped, as where the stream is full or its reader is gone.

    Args:
      text: One line or several.
      stream: Another text stream; None for the ``sys.stderr`` of now.

    Example:
      >>> import io
      >>> stream = io.StringIO()
      >>> note("note: 3 lines were skipped", stream=stream)
      >>> stream.getvalue()
      'note: 3 lines were skipped\n'
    """
    stream = sys.stderr if stream is None else stream
    if stream is None:
        return
    with contextlib.suppress(OSError):
        try:
            print(text, file=stream, flush=True)
        except UnicodeEncodeError:  # a file name that is not UTF-8, say
            print(text.encode("ascii", "backslashreplace").decode(), file=stream, flush=True)


def is_watched() -> bool:
    """Whether standard error is a terminal, so that a person may watch a bar there."""
    return sys.stderr is not None and sys.stderr.isatty()
