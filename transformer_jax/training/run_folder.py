"""Whether a run may begin, be resumed or be replaced in a folder."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from transformer_jax.errors import RunError
from transformer_jax.training.checkpoint import FOLDER, run_folder
from transformer_jax.training.tensorboard_log import TENSORBOARD_FOLDER
from transformer_jax.training.trackers import METRICS_FILE

TRAINER_ENTRIES = (FOLDER, METRICS_FILE, TENSORBOARD_FOLDER)
"""Files that the trainer writes into a run folder."""


def holds_any(run_dir: Path | str, entries: Sequence[str] = TRAINER_ENTRIES) -> bool:
    """Whether a folder holds anything that a run leaves."""
    return any((Path(run_dir) / name).exists() for name in entries)


def check_run_folder(
    run_dir: Path | str, *, resume: bool, overwrite: bool, entries: Sequence[str] = TRAINER_ENTRIES
) -> None:
    """Check that a run may begin, be resumed or be replaced in ``run_dir``; nothing is changed.

    Args:
      run_dir: The run folder.
      resume: Its run is to be continued.
      overwrite: Its run is to be removed (with `remove_run`, once the new one is known to be possible).
      entries: The names that tell that a folder holds a run.

    Raises:
      RunError: If its name is empty or not UTF-8, it holds a run and neither is asked, both are, there is no run to
        resume, or the path is a file.
    """
    run_folder(run_dir)
    run_dir = Path(run_dir)
    if resume and overwrite:
        raise RunError("`resume` and `overwrite` exclude each other: continue the run or replace it")
    if run_dir.exists() and not run_dir.is_dir():
        raise RunError(f"{run_dir} is a file: name a folder for the run")
    holds = holds_any(run_dir, entries)
    if resume and not holds:
        raise RunError(f"{run_dir} holds no run to resume: leave `resume` out, or name the run's folder")
    if holds and not resume and not overwrite:
        raise RunError(
            f"{run_dir} already holds a run: continue it with `resume=True`, replace it with `overwrite=True`, "
            "or name another folder"
        )


def remove_run(run_dir: Path | str, entries: Sequence[str] = TRAINER_ENTRIES) -> None:
    """Remove what a run left in ``run_dir``, in the order of ``entries``; other files stay."""
    for name in entries:
        path = Path(run_dir) / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
