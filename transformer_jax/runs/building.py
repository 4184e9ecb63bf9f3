"""From an experiment's config to its model, checked against data and checkpoints before anything long begins."""

from pathlib import Path
from typing import Any

import jax

from transformer_jax.errors import RunError, TransformerJaxError
from transformer_jax.models.build import build_model, model_shapes
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.task import Artifacts, Evaluator
from transformer_jax.training.array_checks import require_same
from transformer_jax.training.checkpoint import CheckpointStore
from transformer_jax.training.state import split_model


def build_from(config: ExperimentConfig, artifacts: Artifacts, *, is_training: bool = False) -> Any:
    """The experiment's model with initial parameters, sized for these artifacts."""
    sizes = config.task.sizes(artifacts, is_training=is_training)
    return build_model(config.model, sizes, seed=config.train.seed)


def shapes_from(config: ExperimentConfig, artifacts: Artifacts, *, num_arrays: int, where: Path) -> Any:
    """The experiment's model with shapes in the place of arrays, for what a run or model folder holds.

    Args:
      config: The folder's.
      artifacts: The folder's.
      num_arrays: Stored in the folder for the model.
      where: The folder, for messages.

    Raises:
      RunError: If the config has more layers than there are arrays, or its values do not go together.
    """
    try:
        return model_shapes(config.model, config.task.sizes(artifacts), num_arrays=num_arrays)
    except TransformerJaxError as error:
        raise RunError(f"{where}: {error}") from None


def require_fitting(config: ExperimentConfig, artifacts: Artifacts, run_dir: Path) -> None:
    """Check that a run's last checkpoint holds a model of this config; only shapes are compared.

    Raises:
      RunError: If it does not; says in what.
    """
    store = CheckpointStore(run_dir)
    try:
        found = store.model_shapes(store.updates()[-1])
    except RunError:  # damaged: whoever reads it says so, and takes the one before
        return
    _, params, others = split_model(shapes_from(config, artifacts, num_arrays=len(found), where=run_dir))
    require_same(found, params | others, run_dir)


def build_checked(config: ExperimentConfig, prepared: Any) -> tuple[Any, Evaluator]:
    """The experiment's model, and the evaluator of its development set, traced once to see that it can run.

    Raises:
      ConfigError: If model, data, objective and search do not fit together.
      ShapeError: If the model cannot take sequences of the data's lengths.
    """
    config.task.check_objective(config.model)
    model = build_from(config, prepared.artifacts, is_training=True)
    num_devices = 1 if config.train.sharding is None else jax.local_device_count()
    evaluator = config.task.evaluator(model, prepared, num_devices=num_devices)
    evaluator.check()
    return model, evaluator
