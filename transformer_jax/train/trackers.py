"""Where log rows go: a JSON-lines file that resuming can cut back, and TensorBoard."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from transformer_jax.errors import RunError
from transformer_jax.train.metrics import Row

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


@runtime_checkable
class Tracker(Protocol):
    """Takes rows: ``kind`` (``"train"``, ``"evaluation"`` or ``"divergence"``), ``update`` and values by name."""

    def write(self, row: Row) -> None:
        """Record one row."""
        ...

    def close(self) -> None:
        """Flush and give back what was opened."""
        ...


class JsonLinesTracker:
    """One JSON object a line, flushed at once; numbers that are not finite become null.

    Args:
      run_dir: The run folder.
      from_update: Rows of later updates are removed first: a resumed run writes them again.
      repeats_evaluation: Whether the evaluation of that update will be written again, too.
      passed_over: Batches passed over so far: rows of roll-backs to ``from_update`` that passed over more are removed.
      on_failure: Called with the reason when the file cannot be written to; what was to be written is kept and tried
        again with the next row. ``None`` raises.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        from_update: int,
        repeats_evaluation: bool = False,
        passed_over: int = 0,
        on_failure: Callable[[str], None] | None = None,
    ) -> None:
        path = run_dir / METRICS_FILE

        def stays(row: Row) -> bool:
            repeated = repeats_evaluation and row["update"] == from_update and row["kind"] == "evaluation"
            undone = row.get("passed_over", 0) > passed_over
            return row["update"] <= from_update and not repeated and not undone

        kept = [row for row in read_rows(run_dir) if stays(row)]
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        os.replace(temporary, path)
        self._file = path.open("ab", buffering=0)
        self._whole = self._file.seek(0, os.SEEK_END)
        self._unwritten = b""
        self._on_failure = on_failure

    def write(self, row: Row) -> None:
        """Append one row.

        Raises:
          OSError: If that fails and was not to be told only.
        """
        self._unwritten += json.dumps(as_written(row)).encode() + b"\n"
        try:
            self._write_out()
        except OSError as error:
            if self._on_failure is None:
                raise
            self._on_failure(f"{self._file.name}: {error.strerror}")

    def _write_out(self) -> None:
        self._file.truncate(self._whole)  # without the half of a row that a full disk took
        left = self._unwritten
        while left:
            left = left[self._file.write(left) :]
        self._whole, self._unwritten = self._whole + len(self._unwritten), b""

    def close(self) -> None:
        """Close the file, after a last try to write what could not be written.

        Raises:
          OSError: If that fails.
        """
        with self._file:
            if self._unwritten and self._on_failure is not None:
                self._write_out()


class TensorBoardTracker:
    """Scalars ``<kind>/<name>`` in an event file.

    Args:
      run_dir: The run folder.
      from_update: Events of later updates are hidden: a resumed run writes them again.
    """

    def __init__(self, run_dir: Path, *, from_update: int) -> None:
        from tensorboardX import SummaryWriter

        purge_step = from_update + 1 if from_update else None
        self._writer = SummaryWriter(str(run_dir / TENSORBOARD_FOLDER), purge_step=purge_step)

    def write(self, row: Row) -> None:
        """Add the row's numbers at its update."""
        for name, value in row.items():
            if name not in ("kind", "update") and isinstance(value, int | float):
                self._writer.add_scalar(f"{row['kind']}/{name}", value, row["update"])

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


def read_rows(run_dir: Path | str) -> list[Row]:
    """The rows of a run's log, in order; a last line cut off by a crash is left out.

    Args:
      run_dir: The run folder; no log gives an empty list.

    Raises:
      RunError: If a line before the last is no JSON object with an ``update``.
    """
    path = Path(run_dir) / METRICS_FILE
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows: list[Row] = []
    for number, line in enumerate(lines, start=1):
        try:
            row: Any = json.loads(line)
            row["update"] + 0
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            if number == len(lines):
                break
            raise RunError(f"{path}, line {number}: not a log row; repair or remove the file") from error
        rows.append(row)
    return rows


def as_written(row: Row) -> Row:
    """The row as JSON can hold it: None for numbers that are not finite.

    Example:
      >>> as_written({"update": 3, "loss": math.inf})
      {'update': 3, 'loss': None}
    """
    return {name: None if _is_not_finite(value) else value for name, value in row.items()}


def _is_not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
