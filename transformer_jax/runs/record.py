"""How a trained model came to be: updates, seconds and machine, of a run that ended or was stopped."""

import contextlib
from pathlib import Path
from typing import Any

from transformer_jax.errors import RunError
from transformer_jax.nn.parameters import parameter_count
from transformer_jax.runs.folder import read_result
from transformer_jax.runs.loading import LoadedRun
from transformer_jax.runs.lock import machine_of
from transformer_jax.training.checkpoint import CheckpointInfo, CheckpointStore


def training_record(run_dir: Path, run: LoadedRun) -> dict[str, Any] | None:
    """Record of training in a run or model folder.

    Args:
      run_dir: The folder.
      run: What was read from it.

    Returns:
      The document of ``result.json``, or, of a run that was stopped early, the same from its newest checkpoint,
      without scores; ``truncated`` says which. None for a model folder that tells nothing.
    """
    found = read_result(run_dir)
    if found is not None:
        return found
    info = _newest(CheckpointStore(run_dir))
    if info is None:
        return None
    return {
        "name": run.config.name,
        "task": run.config.task.kind,
        "parameters": parameter_count(run.model),
        "updates": info.update,
        "train_seconds": info.train_seconds,
        "tokens_per_second": info.tokens / info.train_seconds if info.train_seconds else 0.0,
        "truncated": info.update < run.config.train.updates,
        "machine": machine_of(run_dir),
    }


def _newest(store: CheckpointStore) -> CheckpointInfo | None:
    """Of the newest checkpoint that can be read; who loads it says what is damaged."""
    for update in reversed(store.updates()):
        with contextlib.suppress(RunError):
            return store.info(update)
    return None
