"""Training: a functional step, schedules and optimisers, checkpoints, logs, and the loop around them.

A model is known here only as an NNX module together with an objective
``(model, batch, rng_key) -> (LossSum, metrics, new model state)``.
"""

from transformer_jax.training.checkpoint import CheckpointInfo, CheckpointStore
from transformer_jax.training.config import (
    Adam,
    AdamW,
    Constant,
    Cosine,
    LinearDecay,
    Noam,
    RowAdagrad,
    TrainConfig,
)
from transformer_jax.training.contracts import BatchSource, Objective, RowObjective
from transformer_jax.training.loop import Trainer
from transformer_jax.training.metrics import learning_curve
from transformer_jax.training.run_folder import check_run_folder, remove_run
from transformer_jax.training.stored_models import load_params
from transformer_jax.training.trackers import read_rows
from transformer_jax.training.train_result import TrainingInterrupted, TrainResult

__all__ = [
    "Adam",
    "AdamW",
    "BatchSource",
    "CheckpointInfo",
    "CheckpointStore",
    "Constant",
    "Cosine",
    "LinearDecay",
    "Noam",
    "Objective",
    "RowAdagrad",
    "RowObjective",
    "TrainConfig",
    "TrainResult",
    "Trainer",
    "TrainingInterrupted",
    "check_run_folder",
    "learning_curve",
    "load_params",
    "read_rows",
    "remove_run",
]
