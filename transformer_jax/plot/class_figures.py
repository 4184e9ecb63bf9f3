"""Figures of a classifier: which classes are taken for which, and whether its probabilities hold."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transformer_jax.errors import DataError, shortened
from transformer_jax.plot.fonts import drawable
from transformer_jax.plot.style import COLOURS, FAINT_INK, INK, dress_axes, finish, new_figure, title_figure

WRITTEN_CLASSES = 16
"""Up to so many classes each cell has its number written in it."""


def confusion_figure(
    confusion: np.ndarray,
    names: Sequence[str],
    *,
    title: str | None = None,
    path: str | Path | None = None,
) -> Any:
    """A confusion matrix: a row for each true class, coloured by the share of the row, with the counts.

    Args:
      confusion: ``[classes, classes]``, rows are the truth.
      names: Of the classes.
      title: Title over it.
      path: File to write, or None.

    Returns:
      The ``matplotlib.figure.Figure``.

    Raises:
      DataError: If the matrix is not square, or has not one row for each name.
    """
    confusion = np.asarray(confusion)
    if confusion.shape != (len(names), len(names)):
        raise DataError(f"the confusion matrix must be {len(names)} by {len(names)}, got {confusion.shape}")
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    size = min(14.0, max(4.2, 2.2 + 0.45 * len(names)))
    figure, axes = new_figure(1, 1, width=size + 0.6, height=size)
    panel = axes[0, 0]
    image = panel.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    shown = drawable([shortened(name, 20) for name in names])
    small = 9 if len(names) <= WRITTEN_CLASSES else 5
    panel.set_xticks(range(len(names)), shown.texts, rotation=90, fontsize=small, **shown.options)
    panel.set_yticks(range(len(names)), shown.texts, fontsize=small, **shown.options)
    panel.tick_params(colors=FAINT_INK, length=0)
    panel.set_xlabel("predicted", color=INK)
    panel.set_ylabel("true", color=INK)
    for spine in panel.spines.values():
        spine.set_visible(False)
    if len(names) <= WRITTEN_CLASSES:
        for row, column in np.argwhere(confusion > 0):
            dark = shares[row, column] > 0.55
            panel.text(
                column,
                row,
                f"{confusion[row, column]:,}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else INK,
            )
    bar = figure.colorbar(image, ax=panel, shrink=0.8)
    bar.set_label("share of the true class", color=INK)
    bar.outline.set_visible(False)
    title_figure(figure, title)
    return finish(figure, path)


def reliability_figure(
    edges: np.ndarray,
    counts: np.ndarray,
    confidence: np.ndarray,
    accuracy: np.ndarray,
    *,
    title: str | None = None,
    path: str | Path | None = None,
) -> Any:
    """How often predictions of a probability are right: points on the diagonal say what they mean.

    Args:
      edges: ``[bins + 1]``, edges of the bins of probability.
      counts: ``[bins]``, predictions in each; the bars below.
      confidence: ``[bins]``, their mean probability.
      accuracy: ``[bins]``, the share that is right.
      title: Title over it.
      path: File to write, or None.

    Returns:
      The ``matplotlib.figure.Figure``.

    Raises:
      DataError: If there is no prediction.
    """
    filled = np.asarray(counts) > 0
    if not filled.any():
        raise DataError("there is no prediction to draw")
    figure, axes = new_figure(2, 1, width=5.2, height=5.6)
    panel, below = axes[0, 0], axes[1, 0]
    figure.get_layout_engine().set(h_pad=0.06)
    panel.plot([0, 1], [0, 1], color=FAINT_INK, linestyle="--", linewidth=1.0)
    panel.plot(
        np.asarray(confidence)[filled],
        np.asarray(accuracy)[filled],
        color=COLOURS[0],
        marker="o",
        linewidth=1.6,
    )
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1.02)
    dress_axes(panel, x_label="", y_label="share that is right")
    middles, widths = (edges[:-1] + edges[1:]) / 2, np.diff(edges)
    below.bar(middles, counts, width=0.9 * widths, color=COLOURS[0])
    below.set_xlim(0, 1)
    dress_axes(below, x_label="probability of the prediction", y_label="predictions")
    title_figure(figure, title)
    return finish(figure, path)
