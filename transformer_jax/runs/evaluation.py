"""Scores of a run or model folder, with how the model came to be."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformer_jax.runs.ensemble import load_ensemble
from transformer_jax.runs.experiment import saved_config
from transformer_jax.runs.folder import CONFIG_NAME
from transformer_jax.runs.record import training_record
from transformer_jax.tasks.task import evaluation_options


def evaluate_run(
    run_dir: Path,
    options: Mapping[str, Any],
    *,
    against: Path | None = None,
    ensemble: Sequence[Path] = (),
) -> dict[str, Any]:
    """Score a run.

    Args:
      run_dir: A run folder or model folder.
      options: Of the task's evaluation by name, such as ``{"split": "test"}``.
      against: Another run to compare with.
      ensemble: Runs that are scored together with the first one, as one model; see `load_ensemble`.

    Returns:
      What the task's ``evaluate`` gives, ``"training"``, how the first model came to be, and of several
      ``"ensemble"``, their folders.

    Raises:
      RunError: If a folder holds no trained run.
      ConfigError: If the two runs are for different tasks, or the task has no such option.
    """
    if (run_dir / CONFIG_NAME).is_file():  # options that cannot be are refused before anything is loaded
        evaluation_options(saved_config(run_dir).task, options)
    run = load_ensemble([run_dir, *ensemble])
    training = training_record(run_dir, run)
    given = dict(options) | ({} if against is None else {"against": against})
    found = run.evaluate(**given) | {"training": training}
    return found | {"ensemble": [str(one) for one in (run_dir, *ensemble)]} if ensemble else found
