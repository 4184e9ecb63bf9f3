"""Early stopping: whether a run's score has not become better for some evaluations."""

import math
from collections.abc import Iterable
from typing import Literal

from transformer_jax.training.metrics import Row


def lost_patience(
    rows: Iterable[Row], *, metric: str, metric_mode: Literal["min", "max"], patience: int
) -> bool:
    """Whether the best score is ``patience`` or more evaluations old; of equals the first is the best.

    Args:
      rows: The rows of a run's log; those of evaluations count.
      metric: Name of the score.
      metric_mode: Whether low or high scores are good.
      patience: How many evaluations without a better score are too many.

    Example:
      >>> rows = [{"kind": "evaluation", "loss": loss} for loss in (3.0, 1.0, 2.0, 1.5)]
      >>> lost_patience(rows, metric="loss", metric_mode="min", patience=2)
      True
    """
    sign = 1.0 if metric_mode == "min" else -1.0
    scores = [finite(row.get(metric)) for row in rows if row["kind"] == "evaluation"]
    badness = [math.inf if score is None else sign * score for score in scores]
    return len(badness) - 1 - badness.index(min(badness)) >= patience if badness else False


def finite(value: float | None) -> float | None:
    """The value where it is a number, None where it is NaN or infinite."""
    return value if value is not None and math.isfinite(value) else None
