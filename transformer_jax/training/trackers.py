"""Where log rows go: a JSON-lines file that resuming can cut back; TensorBoard's files are of `tensorboard_log`."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from transformer_jax.errors import RunError
from transformer_jax.training.log_file import LogFile
from transformer_jax.training.metrics import Row

METRICS_FILE = "metrics.jsonl"


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
      tell: Called where the file was removed, replaced or cut by somebody else, and is restored: see `LogFile`.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        from_update: int,
        repeats_evaluation: bool = False,
        passed_over: int = 0,
        on_failure: Callable[[str], None] | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        def stays(row: Row) -> bool:
            repeated = repeats_evaluation and row["update"] == from_update and row["kind"] == "evaluation"
            undone = row.get("passed_over", 0) > passed_over
            return row["update"] <= from_update and not repeated and not undone

        kept = [row for row in read_rows(run_dir) if stays(row)]
        self._file = LogFile(
            run_dir / METRICS_FILE,
            run_dir,
            begin="".join(json.dumps(row) + "\n" for row in kept).encode(),
            replaces=True,
            on_failure=on_failure,
            tell=tell,
        )

    def write(self, row: Row) -> None:
        """Append one row.

        Raises:
          OSError: If that fails and was not to be told only.
        """
        self._file.append(json.dumps(as_written(row)).encode() + b"\n")

    def close(self) -> None:
        """Close the file, after a last try to write what could not be written.

        Raises:
          OSError: If that fails.
        """
        self._file.close()


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
