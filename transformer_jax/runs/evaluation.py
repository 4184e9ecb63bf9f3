"""Scores of a run or model folder, with what a figure needs beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformer_jax.errors import ConfigError
from transformer_jax.runs.loading import load_run
from transformer_jax.runs.record import training_record
from transformer_jax.tasks.task import evaluation_options


def evaluate_run(run_dir: Path, options: Mapping[str, Any], *, against: Path | None = None) -> dict[str, Any]:
    """Score a run.

    Args:
      run_dir: A run folder or model folder.
      options: Of the task's evaluation by name, such as ``{"split": "test"}``.
      against: Another run to compare with.

    Returns:
      What the task's ``evaluate`` gives, and ``"training"``: how the model came to be.

    Raises:
      RunError: If a folder holds no trained run.
      ConfigError: If the two runs are for different tasks, or the task has no such option.
    """
    run = load_run(run_dir)
    task = run.config.task
    given = dict(options)
    if against is not None:
        compared = load_run(against)
        if compared.config.task.kind != task.kind:
            raise ConfigError(f"{against} is for {compared.config.task.kind}, {run_dir} for {task.kind}")
        given["against"] = (str(against), compared.predictor)
    chosen = evaluation_options(task, given)
    training = training_record(run_dir, run)
    return task.evaluate(run.predictor, chosen) | {"training": training}
