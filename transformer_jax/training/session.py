"""Counters of the host during a run."""

import dataclasses
import time


class Stopwatch:
    """Seconds while running; what compilation takes in between can be left out."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started: float | None = None

    def start(self) -> None:
        """Begin, or resume."""
        self._started = time.perf_counter()

    def stop(self) -> None:
        """Halt; the seconds stay."""
        self.seconds = self.read()
        self._started = None

    def exclude(self, seconds: float) -> None:
        """Leave out seconds that went by while running."""
        self.seconds -= seconds

    def read(self) -> float:
        """Seconds so far, running or not."""
        running = 0.0 if self._started is None else time.perf_counter() - self._started
        return self.seconds + running


@dataclasses.dataclass
class Session:
    """The host's counters: updates and tokens so far, time, and where the current log window began.

    ``evaluation_due`` says that a run to be continued was stopped in the evaluation of its last checkpoint.
    ``passed_over`` batches were taken by no update, after ``divergences`` skipped updates or roll-backs.
    """

    update: int = 0
    tokens: int = 0
    passed_over: int = 0
    divergences: int = 0
    stopwatch: Stopwatch = dataclasses.field(default_factory=Stopwatch)
    window_tokens: int = 0
    window_seconds: float = 0.0
    evaluation_due: bool = False

    @property
    def batches(self) -> int:
        """Batches up to this update: the position in the data."""
        return self.update + self.passed_over

    def start_window(self) -> None:
        """Begin a log window here."""
        self.window_tokens, self.window_seconds = self.tokens, self.stopwatch.read()

    def close_window(self, seconds: float) -> float:
        """Tokens per second since the window began; begins the next."""
        elapsed = max(seconds - self.window_seconds, 1e-9)
        rate = (self.tokens - self.window_tokens) / elapsed
        self.window_tokens, self.window_seconds = self.tokens, seconds
        return rate
