"""Scores of a run or model folder, with what a figure needs beside it."""

from pathlib import Path
from typing import Any

from transformer_jax.errors import ConfigError
from transformer_jax.runs.loading import load_run
from transformer_jax.runs.record import training_record


def evaluate_run(run_dir: Path, options: Any, *, against: Path | None = None) -> dict[str, Any]:
    """Score a run.

    Args:
      run_dir: A run folder or model folder.
      options: Makes the options of the task's evaluation from its keyword ``against``, such as
        ``functools.partial(PairEvaluation, split="test")``.
      against: Another run to compare with.

    Returns:
      What the task's ``evaluate`` gives, and ``"training"``: how the model came to be.

    Raises:
      RunError: If a folder holds no trained run.
      ConfigError: If the two runs are for different tasks.
    """
    run = load_run(run_dir)
    other = None
    if against is not None:
        compared = load_run(against)
        if compared.config.task.kind != run.config.task.kind:
            raise ConfigError(
                f"{against} is for {compared.config.task.kind}, {run_dir} for {run.config.task.kind}"
            )
        other = (str(against), compared.predictor)
    training = training_record(run_dir, run)
    found = run.config.task.evaluate(run.predictor, options(against=other))
    return found | {"training": training}
