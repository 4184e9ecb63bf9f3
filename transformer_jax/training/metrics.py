"""Running metrics: sums and counts on the device, fetched and divided only when a row is logged."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from transformer_jax.functional.losses import LossSum

Row = dict[str, Any]


def add_metrics(total: dict[str, LossSum], new: dict[str, LossSum]) -> dict[str, LossSum]:
    """Sum of two sets of metrics with the same names.

    Example:
      >>> total = add_metrics({"loss": LossSum.of(2.0, 1)}, {"loss": LossSum.of(4.0, 2)})
      >>> float(total["loss"].mean())
      2.0
    """
    return {name: metric + new[name] for name, metric in total.items()}


def fetch_means(metrics: dict[str, LossSum]) -> dict[str, float]:
    """Each metric's ``sum / count`` on the host (NaN where nothing was counted); waits for the device.

    Example:
      >>> fetch_means({"loss": LossSum.of(6.0, 3)})
      {'loss': 2.0}
    """
    fetched = jax.device_get(metrics)
    return {
        name: float(metric.sum) / float(metric.count) if metric.count else math.nan
        for name, metric in fetched.items()
    }


def zero_metrics(metrics: dict[str, LossSum]) -> dict[str, LossSum]:
    """Metrics of the same names at zero; made without a computation, so nothing compiles in the loop."""
    return jax.tree.map(lambda leaf: jax.device_put(np.zeros(leaf.shape, leaf.dtype)), metrics)


def learning_curve(rows: list[Row]) -> list[Row]:
    """Training rows with the development metrics of the same update merged in.

    A development metric whose name training rows use already becomes ``development_<name>``, see `development_column`.

    Example:
      >>> rows = [
      ...     {"kind": "train", "update": 5, "seconds": 1.0, "loss": 2.0},
      ...     {"kind": "evaluation", "update": 5, "seconds": 1.0, "per": 40.0},
      ... ]
      >>> learning_curve(rows)
      [{'update': 5, 'seconds': 1.0, 'loss': 2.0, 'per': 40.0}]
    """
    of_training = {name for row in rows if row["kind"] == "train" for name in row}
    curve: dict[int, Row] = {}
    for row in rows:
        if row["kind"] not in ("train", "evaluation"):
            continue
        numbers = {name: value for name, value in row.items() if name not in ("kind", "digest")}
        point = curve.setdefault(row["update"], {"update": row["update"], "seconds": row["seconds"]})
        for name, value in numbers.items():
            if row["kind"] == "evaluation" and name not in ("update", "seconds"):
                point[f"development_{name}" if name in of_training else name] = value
            else:
                point[name] = value
    return [curve[update] for update in sorted(curve)]


def development_column(curve: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Name of a development metric in a `learning_curve`.

    Example:
      >>> rows = [
      ...     {"kind": "train", "update": 5, "seconds": 1.0, "accuracy": 0.9},
      ...     {"kind": "evaluation", "update": 5, "seconds": 1.0, "accuracy": 0.7, "per": 40.0},
      ... ]
      >>> [development_column(learning_curve(rows), name) for name in ("accuracy", "per")]
      ['development_accuracy', 'per']
    """
    own = f"development_{metric}"
    return own if any(own in point for point in curve) else metric
