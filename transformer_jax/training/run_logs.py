"""The logs of a run: ``metrics.jsonl``, TensorBoard, and a tracker of the caller's own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformer_jax.training import hosts
from transformer_jax.training.metrics import Row
from transformer_jax.training.session import Session
from transformer_jax.training.tensorboard_log import TensorBoardTracker
from transformer_jax.training.trackers import JsonLinesTracker, Tracker


class RunLogs:
    """Writes each row to every log; of several hosts the first alone keeps the folder's.

    Args:
      run_dir: The run folder.
      goes_on: Whether a log that cannot be written is reported and skipped, instead of ending the run.
      tell: Called with what a person should know.
      tracker: Gets the rows last; what it raises ends the run.
    """

    def __init__(
        self, run_dir: Path, *, goes_on: bool, tell: Callable[[str], None], tracker: Tracker | None
    ) -> None:
        self._run_dir, self._goes_on, self._tell, self._tracker = run_dir, goes_on, tell, tracker
        self._open: list[Tracker] = []

    def open(self, session: Session) -> None:
        """Open the folder's logs after an update; rows of later updates, which will be repeated, are removed."""
        self._open = []
        if not hosts.is_first():
            return
        on_failure = self._tell if self._goes_on else None
        self._open.append(
            JsonLinesTracker(
                self._run_dir,
                from_update=session.update,
                repeats_evaluation=session.evaluation_due,
                passed_over=session.passed_over,
                on_failure=on_failure,
                tell=self._tell,
            )
        )
        self._open.append(  # second: it takes from the first what it lacks
            TensorBoardTracker(
                self._run_dir, from_update=session.update, on_failure=on_failure, tell=self._tell
            )
        )

    def close(self, kind: Any = None, error: Any = None, trace: Any = None) -> None:
        """Close the logs; where a block failed, on a full disk say, its error is the one reported."""
        while self._open:
            try:
                self._open.pop().close()
            except OSError:
                if kind is None:
                    raise

    def write(self, row: Row) -> None:
        """Write a row to every log."""
        for tracker in self._open:
            tracker.write(row)
        if self._tracker is not None:
            self._tracker.write(row)
