"""A run's log beside that of the same run trained again."""

import contextlib
import tempfile
from pathlib import Path

from transformer_jax.errors import ConfigError, RunError
from transformer_jax.notes import note
from transformer_jax.runs.artifacts import load_artifacts
from transformer_jax.runs.experiment import saved_config
from transformer_jax.runs.experiment_runner import RunOptions, run_experiment
from transformer_jax.runs.folder import require_run
from transformer_jax.runs.lock import setting_differences, warm_start_of
from transformer_jax.runs.vector_start import start_of
from transformer_jax.training.metrics import Row
from transformer_jax.training.trackers import METRICS_FILE, as_written, read_rows

_OF_THE_MACHINE = ("seconds", "tokens_per_second")
"""Fields that differ from run to run."""


class Decided(Exception):
    """Nothing is left to compare: a row differs, or all that were wanted are the same."""


class Comparison:
    """Compares the rows of a run that is being trained again, as they come, with those of its log.

    Args:
      original: The run.
      run_dir: Where it is trained again.
      up_to: The first row at or after so many updates is the last; None compares all.

    Raises:
      RunError: If the run has no log.
    """

    def __init__(self, original: Path, run_dir: Path, *, up_to: int | None) -> None:
        self._original, self._run_dir = original, run_dir
        rows = read_rows(original)
        if not rows:
            raise RunError(
                f"{original} has no log to compare with ('{METRICS_FILE}'): nothing was trained there"
            )
        last = len(rows) - 1
        if up_to is not None:
            last = next((place for place, row in enumerate(rows) if row["update"] >= up_to), last)
        self._wanted, self._num_same = rows[: last + 1], 0
        self._difference: str | None = None
        # Rows that a roll-back removed from the log are repeated before it: whole logs are compared.
        self._waits = any("passed_over" in row for row in self._wanted)
        self._is_begun = False

    @property
    def is_same(self) -> bool:
        """Whether all rows came, and none differed."""
        return self._difference is None and self._num_same == len(self._wanted)

    def write(self, row: Row) -> None:
        """Compare the next row.

        Raises:
          Decided: If it differs or was the last.
        """
        if not self._is_begun:
            self._is_begun = True
            for line in setting_differences(self._original, self._run_dir):
                note(f"note: {line}")
        if not self._waits and not self._compare(as_written(row)):
            raise Decided

    def compare_whole(self) -> None:
        """Compare what could not be compared while the run went on."""
        if self._waits:
            all(self._compare(row) for row in read_rows(self._run_dir))

    def _compare(self, row: Row) -> bool:
        """Take one row; whether there is another to compare."""
        wanted = self._wanted[self._num_same]
        names = [name for name in wanted if name not in _OF_THE_MACHINE]
        differing = [
            f"{name} was {wanted[name]}, now it is {row.get(name)}"
            for name in names
            if wanted[name] != row.get(name)
        ]
        if differing:
            self._difference = f"update {wanted['update']} ({wanted['kind']}): {'; '.join(differing)}"
            return False
        self._num_same += 1
        return self._num_same < len(self._wanted)

    def close(self) -> None:
        """Nothing was opened."""

    def verdict(self) -> str:
        """Result of the comparison, as text."""
        same = self._wanted[: self._num_same]
        until = f"equal through update {same[-1]['update']:,}" if same else "no row is equal"
        if self._difference is not None:
            return f"{self._original} was not reproduced: {until}; first different at {self._difference}"
        if not self.is_same:
            return f"{self._original} was not reproduced: {until}, where the new run ended"
        digests = [row["digest"] for row in same if "digest" in row]
        parameters = (
            f"the parameters' digest is {digests[-1]}"
            if digests
            else "an older log, without digests of the parameters"
        )
        return f"{self._original} was reproduced: {len(same)} rows {until}; {parameters}"


def reproduce_run(original: Path, run_dir: Path | None = None, *, updates: int | None = None) -> Comparison:
    """Retrain a run from its config and artifacts, and compare each log row with that of its log.

    Args:
      original: The trained run.
      run_dir: Keep the new run there; None removes it.
      updates: Stop at the first row of the log at or after so many updates; None compares the whole run.

    Returns:
      The comparison: ``is_same`` and ``verdict()``.

    Raises:
      RunError: If ``original`` holds no trained run.
      ConfigError: If ``updates`` is below 1, or ``run_dir`` is the run itself.
    """
    if updates is not None and updates < 1:
        raise ConfigError(f"`updates` must be at least 1, got {updates}")
    require_run(original)
    if run_dir is not None and run_dir.resolve() == original.resolve():
        raise ConfigError(f"`run_dir={run_dir}` is the run itself: name another folder")
    config, warm_start = saved_config(original), warm_start_of(original)
    start = start_of(Path(warm_start), allow_partial=True) if warm_start is not None else None
    with contextlib.ExitStack() as stack:
        again = run_dir or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run"
        comparison = Comparison(original, again, up_to=updates)
        with contextlib.suppress(Decided):
            run_experiment(
                config,
                again,
                RunOptions(start=start, label=f"{config.name} again"),
                artifacts=load_artifacts(original, config.task.artifact_types),
                tracker=comparison,
            )
            comparison.compare_whole()
    return comparison
