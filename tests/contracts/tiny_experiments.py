"""What the cases of tasks share: words, and experiments of four updates."""

from pathlib import Path
from typing import Any

from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.training.config import Adam, Constant, TrainConfig

WORDS = ("cat", "tack", "at", "act", "tact", "attack", "cactus", "tic", "cut", "suit", "is", "sit")


def experiment(task: Any, model: Any, metric: str) -> ExperimentConfig:
    """Four updates, evaluated and checkpointed every two."""
    return ExperimentConfig(
        name="tiny",
        task=task,
        model=model,
        train=TrainConfig(
            updates=4,
            optimizer=Adam(),
            schedule=Constant(peak_learning_rate=0.01),
            log_every=1,
            evaluate_every=2,
            checkpoint_every=2,
            metric=metric,
            metric_mode=task.metrics[metric],
        ),
    )


def write(path: Path, text: str) -> str:
    """The path of a new file, as the config has it."""
    path.write_text(text)
    return str(path)
