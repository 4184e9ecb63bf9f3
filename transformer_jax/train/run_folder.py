"""Whether a run may begin, go on or be replaced in a folder."""

import shutil
from pathlib import Path

from transformer_jax.errors import RunError
from transformer_jax.train.checkpoint import FOLDER
from transformer_jax.train.trackers import METRICS_FILE, TENSORBOARD_FOLDER


def holds_run(run_dir: Path | str) -> bool:
    """Whether a folder already holds checkpoints, a log or event files of a run."""
    run_dir = Path(run_dir)
    return any((run_dir / name).exists() for name in (FOLDER, METRICS_FILE, TENSORBOARD_FOLDER))


def prepare_run_folder(run_dir: Path | str, *, resume: bool, overwrite: bool) -> None:
    """Make the run folder, or make sure that what it holds may be continued or replaced.

    Args:
      run_dir: The run folder.
      resume: Its run is to be continued.
      overwrite: Its run is to be removed (checkpoints, log and event files; other files stay).

    Raises:
      RunError: If it holds a run and neither is asked, both are, or there is no run to resume.
    """
    run_dir = Path(run_dir)
    if resume and overwrite:
        raise RunError("--resume and --overwrite exclude each other: continue the run or replace it")
    if run_dir.exists() and not run_dir.is_dir():
        raise RunError(f"{run_dir} is a file: name a folder for the run")
    if resume and not holds_run(run_dir):
        raise RunError(f"{run_dir} holds no run to resume: train without --resume, or name the run's folder")
    if holds_run(run_dir) and not resume:
        if not overwrite:
            raise RunError(
                f"{run_dir} already holds a run: continue it with --resume, replace it with --overwrite, "
                "or name another folder"
            )
        for name in (FOLDER, TENSORBOARD_FOLDER):
            shutil.rmtree(run_dir / name, ignore_errors=True)
        (run_dir / METRICS_FILE).unlink(missing_ok=True)
    run_dir.mkdir(parents=True, exist_ok=True)
