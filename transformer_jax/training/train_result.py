"""How a run of the trainer ends: with a result, or with one of two errors of its own."""

import dataclasses

from transformer_jax.errors import RunError
from transformer_jax.training.metrics import Row
from transformer_jax.training.stopping import Stopped


class TrainingInterrupted(Stopped):
    """Ctrl-C or SIGTERM was received; the message says where the run can be resumed."""


class ChangedMetadataError(RunError):
    """A run would be resumed with other metadata than its checkpoint's.

    Args:
      message: What differs.
      name: Of the metadata.
    """

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainResult:
    """Report of a finished run; times and tokens cover the whole run, sessions before a resume included.

    Attributes:
      updates: Updates done.
      train_seconds: Time of the updates; compilation, evaluation and saving apart.
      compile_seconds: Time spent compiling steps in this session.
      tokens: Real tokens trained on, source and target.
      tokens_per_second: ``tokens / train_seconds``.
      curve: A row for each log row: ``update``, ``seconds``, ``loss``, and, where evaluated, the development
        metrics.
      peak_bytes: Memory of the largest step that was compiled in this session: state, batch and temporary arrays; None
        where XLA does not tell, or nothing was compiled.
      unplanned_compilations: Batch shapes that the source had not announced.
      best_update: Update of the best score; None when nothing was evaluated.
      best_score: The best value of the run's metric.
    """

    updates: int
    train_seconds: float
    compile_seconds: float
    tokens: int
    tokens_per_second: float
    curve: list[Row]
    peak_bytes: int | None
    unplanned_compilations: int
    best_update: int | None
    best_score: float | None
