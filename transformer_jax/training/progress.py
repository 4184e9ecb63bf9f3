"""Progress of a training run as its user sees it: a bar on a terminal, a line now and then elsewhere."""

import importlib.util
import time
from typing import Any, Protocol, runtime_checkable

from transformer_jax.notes import is_notebook, is_watched, print_note


@runtime_checkable
class Progress(Protocol):
    """Told of every update and of every log row."""

    def advance(self, update: int) -> None:
        """``update`` updates are done (or at least dispatched)."""
        ...

    def show(self, text: str, *, update: int) -> None:
        """The newest numbers."""
        ...

    def message(self, text: str) -> None:
        """Something to keep on the screen."""
        ...

    def close(self) -> None:
        """The run is over."""
        ...


class BarProgress:
    """A rich progress bar: updates done, time left, and the newest numbers."""

    def __init__(self, label: str, *, total: int, done: int, console: Any) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task(label, total=total, completed=done, numbers="")
        self._bar.start()

    def advance(self, update: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=update)

    def show(self, text: str, *, update: int) -> None:
        """Put the numbers beside the bar."""
        self._bar.update(self._task, completed=update, numbers=text)

    def message(self, text: str) -> None:
        """Print above the bar."""
        self._bar.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()


class LineProgress:
    """Plain lines, at most one in ``seconds_between`` seconds, for logs and pipes; on standard error by default."""

    def __init__(
        self, label: str, *, total: int, done: int, stream: Any = None, seconds_between: float = 30.0
    ) -> None:
        self._label, self._total, self._stream = label, total, stream
        self._first_update, self._start = done, time.monotonic()
        self._between, self._last = seconds_between, time.monotonic()

    def advance(self, update: int) -> None:
        """Nothing to draw."""

    def show(self, text: str, *, update: int) -> None:
        """Print the numbers and the time left, unless a line was printed just now."""
        now = time.monotonic()
        if now - self._last < self._between and update < self._total:
            return
        self._last = now
        done = max(update - self._first_update, 1)
        left = (now - self._start) / done * (self._total - update)
        self.message(f"{self._label} {update}/{self._total}  {text}  left {_clock(left)}")

    def message(self, text: str) -> None:
        """Print one line."""
        print_note(text, stream=self._stream)

    def close(self) -> None:
        """Nothing to take away."""


class NoProgress:
    """Says nothing."""

    def advance(self, update: int) -> None:
        """Nothing."""

    def show(self, text: str, *, update: int) -> None:
        """Nothing."""

    def message(self, text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def start_progress(label: str, *, total: int, done: int, quiet: bool = False) -> Progress:
    """A bar when standard error is a terminal or a notebook with ``ipywidgets``; else lines; nothing when ``quiet``.

    Args:
      label: Name of the run.
      total: Updates of the run.
      done: Updates done before.
      quiet: Say nothing.

    Returns:
      The display, started.
    """
    if quiet:
        return NoProgress()
    in_notebook = is_notebook()
    if is_watched() or (in_notebook and importlib.util.find_spec("ipywidgets") is not None):
        from rich.console import Console

        return BarProgress(label, total=total, done=done, console=Console(stderr=not in_notebook))
    return LineProgress(label, total=total, done=done, seconds_between=5.0 if in_notebook else 30.0)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
