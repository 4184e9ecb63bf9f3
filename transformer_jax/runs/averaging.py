"""The mean of a run's last checkpoints, as a run folder of its own."""

import shutil
from pathlib import Path

from transformer_jax.errors import ConfigError, RunError
from transformer_jax.files import write_json
from transformer_jax.runs.artifacts import save_artifacts
from transformer_jax.runs.experiment import saved_config
from transformer_jax.runs.folder import CONFIG_NAME, RESULT_NAME, require_run, run_entries
from transformer_jax.runs.loading import load_run
from transformer_jax.runs.record import training_record
from transformer_jax.training.run_folder import holds_any, remove_run
from transformer_jax.training.stored_models import average_checkpoints


def average_run(run_dir: Path, output: Path, *, num_last: int = 5) -> list[int]:
    """Make a run folder whose one checkpoint is the mean of a run's last ones.

    Args:
      run_dir: The trained run; it must keep so many checkpoints (``train.keep_last``).
      output: Folder to make; removed again if it cannot be made whole.
      num_last: How many checkpoints.

    Returns:
      Their updates.

    Raises:
      ConfigError: If ``num_last`` is below 1 or more than the run keeps.
      RunError: If ``run_dir`` holds no trained run, or ``output`` is a file or holds a run.
    """
    if num_last < 1:
        raise ConfigError(f"`last` must be at least 1, got {num_last}")
    require_run(run_dir)
    kept = saved_config(run_dir).train.keep_last
    if num_last > kept:  # what else is there was kept for its score
        raise ConfigError(
            f"`last={num_last}`: the run keeps {kept} of its last checkpoints (train.keep_last); train again with "
            f"train.keep_last={num_last}"
        )
    if output.exists() and not output.is_dir():
        raise RunError(f"{output} is a file: name a folder for the run")
    if holds_any(output, run_entries()):
        raise RunError(f"{output} already holds a run: name another folder")
    try:
        updates = average_checkpoints(run_dir, output, num_last=num_last)
        run = load_run(run_dir)
        save_artifacts(output, run.artifacts)
        record = training_record(run_dir, run)
        assert record is not None  # of a run with checkpoints
        scores = ("development", "best_update", "best_score")  # of the run, not of the mean
        record = {key: value for key, value in record.items() if key not in scores}
        write_json(output / RESULT_NAME, record | {"averaged": updates})
        shutil.copyfile(run_dir / CONFIG_NAME, output / CONFIG_NAME)  # last: it makes a run
    except BaseException:
        remove_run(output, run_entries())
        raise
    return updates
