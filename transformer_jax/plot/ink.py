"""Attention over the strokes of a drawing, and over an image."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transformer_jax.errors import DataError
from transformer_jax.plot.fonts import drawable
from transformer_jax.plot.style import INK, finish, new_figure, title_figure

MAX_PANELS = 96
"""Tokens that are drawn; a picture of more could not be read."""

_COLUMNS = 4


def stroke_attention(
    points: Any,
    strokes: Any,
    weights: Any,
    tokens: Sequence[str],
    *,
    title: str | None = None,
    path: str | Path | None = None,
) -> Any:
    """A panel for each token: the drawing in grey, and over it in colour where the model looked as it wrote the token.

    The darkest colour is the largest weight of the token; a dot marks its middle.

    Args:
      points: ``[frames, 2]``, x to the right and y downward.
      strokes: ``[frames]``, number of the stroke of each frame; a line joins the frames of one.
      weights: ``[tokens, frames]``.
      tokens: As many texts.
      title: Title over the panels.
      path: File to write, or None.

    Returns:
      The ``matplotlib.figure.Figure``; there is a panel for each of the first `MAX_PANELS` tokens.

    Raises:
      DataError: If there is nothing to draw, or the shapes do not fit.

    Example:
      >>> points, strokes = np.array([[0, 0], [1, 1], [2, 0]]), np.array([0, 0, 1])
      >>> figure = stroke_attention(points, strokes, np.array([[0.9, 0.1, 0.0], [0.0, 0.0, 1.0]]), ["x", "."])
      >>> [axes.get_title() for axes in figure.axes]
      ['x', '.', '', '']
    """
    points, weights = np.asarray(points, np.float64), np.asarray(weights, np.float64)
    strokes = np.asarray(strokes)
    if not len(tokens) or not len(points):
        raise DataError(f"nothing to draw: {len(tokens)} tokens over {len(points)} frames")
    if points.shape != (len(strokes), 2) or weights.shape != (len(tokens), len(points)):
        raise DataError(
            f"wanted points [frames, 2], strokes [frames] and weights [{len(tokens)}, frames]; got {points.shape}, "
            f"{strokes.shape} and {weights.shape}"
        )
    low, size = points.min(axis=0), np.maximum(np.ptp(points, axis=0), 1e-6)
    margin = 0.06 * size.max()
    figure, panels = _panels(tokens, size[1] / size[0])
    for axes, of_token in zip(panels, weights):
        _draw(axes, points, strokes, of_token)
        axes.set_xlim(low[0] - margin, low[0] + size[0] + margin)
        axes.set_ylim(low[1] + size[1] + margin, low[1] - margin)  # y grows downward
        axes.set_aspect("equal")
    title_figure(figure, title)
    return finish(figure, path)


def image_attention(
    image: Any,
    weights: Any,
    tokens: Sequence[str],
    *,
    title: str | None = None,
    path: str | Path | None = None,
) -> Any:
    """The same over an image: a panel for each token, in colour where the model looked as it wrote the token.

    Args:
      image: ``[height, width]``, 0 is the background and 1 ink.
      weights: ``[tokens, height, width]``.
      tokens: As many texts.
      title: Title over the panels.
      path: File to write, or None.

    Returns:
      The ``matplotlib.figure.Figure``; there is a panel for each of the first `MAX_PANELS` tokens.

    Raises:
      DataError: If there is nothing to draw, or the shapes do not fit.

    Example:
      >>> image_attention(np.eye(3), np.ones((1, 3, 3)) / 9, ["x"]).axes[0].get_title()
      'x'
    """
    image, weights = np.asarray(image, np.float64), np.asarray(weights, np.float64)
    if not len(tokens) or not image.size:
        raise DataError(f"nothing to draw: {len(tokens)} tokens over an image {image.shape}")
    if image.ndim != 2 or weights.shape != (len(tokens), *image.shape):
        raise DataError(
            f"wanted an image [height, width] and weights [{len(tokens)}, height, width]; got {image.shape} and "
            f"{weights.shape}"
        )
    figure, panels = _panels(tokens, image.shape[0] / image.shape[1])
    for axes, of_token in zip(panels, np.nan_to_num(weights)):
        share = of_token / max(float(of_token.max()), 1e-12)
        ground = np.stack([np.ones_like(share), 1.0 - 0.45 * share, 1.0 - 0.75 * share], axis=-1)
        axes.imshow(ground * (1.0 - 0.85 * np.clip(image, 0.0, 1.0))[..., None], interpolation="nearest")
    title_figure(figure, title)
    return finish(figure, path)


def _panels(tokens: Sequence[str], aspect: float) -> tuple[Any, list[Any]]:
    """A figure with a panel for each token, under its text; height over width of a panel."""
    shown = list(tokens[:MAX_PANELS])
    aspect = float(np.clip(aspect, 0.15, 2.5))
    num_rows = math.ceil(len(shown) / _COLUMNS)
    height = 0.5 + num_rows * (0.35 + 11.0 / _COLUMNS * aspect)
    figure, grid = new_figure(num_rows, _COLUMNS, width=11.0, height=height)
    for axes in grid.flat:
        axes.set_axis_off()
    panels = list(grid.flat)[: len(shown)]
    for axes, text in zip(panels, shown, strict=True):
        label = drawable([text.replace("$", r"\$")])
        axes.set_title(label.texts[0], fontsize=11, color=INK, **label.options)
    return figure, panels


def _draw(axes: Any, points: np.ndarray, strokes: np.ndarray, weights: np.ndarray) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("ink", ["#d5d5d5", "#f2a65a", "#d1495b", "#8f1d2c"])
    share = np.nan_to_num(weights) / max(float(np.nan_to_num(weights).max()), 1e-12)
    joined = strokes[1:] == strokes[:-1]
    lines = np.stack([points[:-1], points[1:]], axis=1)[joined]
    of_lines = np.maximum(share[:-1], share[1:])[joined]
    axes.add_collection(
        LineCollection(
            list(lines), colors=colours(of_lines), linewidths=1.0 + 2.2 * of_lines, capstyle="round"
        )
    )
    alone = ~np.concatenate([[False], joined]) & ~np.concatenate([joined, [False]])  # dots
    axes.scatter(*points[alone].T, s=6 + 14 * share[alone], c=colours(share[alone]), linewidths=0)
    total = np.nan_to_num(weights).sum()
    if total > 0:
        middle = (points * np.nan_to_num(weights)[:, None]).sum(axis=0) / total
        axes.scatter(*middle, s=9, c="#173f75", linewidths=0, zorder=3)
