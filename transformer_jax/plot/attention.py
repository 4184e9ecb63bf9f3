"""Heat maps of attention: alignments of one example by several models, and the heads of one model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transformer_jax.errors import DataError
from transformer_jax.plot.fonts import drawable
from transformer_jax.plot.style import FAINT_INK, INK, check_not_empty, finish, new_figure, title_figure

_CELL_INCHES = 0.3


def alignment_maps(
    maps: Mapping[str, Any],
    source_labels: Sequence[str],
    target_labels: Sequence[str] | Mapping[str, Sequence[str]],
    *,
    title: str | None = None,
    path: str | Path | None = None,
) -> Any:
    """Attention of several models over one example, side by side.

    Rows are output tokens from top to bottom, columns source tokens, dark is a weight near 1. Maps may be
    larger than the labels (padding): what has no label is cut off.

    Args:
      maps: Model name to weights ``[target_len, source_len]``, or ``[heads, target_len, source_len]``, whose
        heads are averaged.
      source_labels: Source tokens.
      target_labels: Output tokens, the same for all models or by model name.
      title: Title over the panels.
      path: File to write, or None.

    Returns:
      The ``matplotlib.figure.Figure``; its last axes are the colour bar.

    Raises:
      DataError: If there is nothing to draw, a map has not two or three axes, or is smaller than its labels.

    Example:
      >>> figure = alignment_maps({"gru+bahdanau": np.eye(3)}, list("cat"), ["K", "AE", "T"])
      >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
      ['K', 'AE', 'T']
    """
    check_not_empty("maps", maps)
    by_model = target_labels if isinstance(target_labels, Mapping) else dict.fromkeys(maps, target_labels)
    panels = []
    for name, weights in maps.items():
        if name not in by_model:
            raise DataError(
                f"target_labels has no entry for {name!r}; it has {', '.join(map(repr, by_model))}"
            )
        panels.append((name, _cut(name, weights, len(by_model[name]), len(source_labels)), by_model[name]))
    tallest = max(len(labels) for _, _, labels in panels)
    width = 0.9 + len(panels) * (0.75 + _CELL_INCHES * len(source_labels))
    figure, grid = new_figure(
        1, len(panels), width=max(width, 5.2), height=max(1.3 + _CELL_INCHES * tallest, 2.2)
    )
    for axes, (name, weights, labels) in zip(grid[0], panels):
        image = _draw(axes, weights, source_labels, labels)
        shown = drawable([name])
        axes.set_title(shown.texts[0], fontsize=10.5, color=INK, **shown.options)
    _colour_bar(figure, image, grid)
    title_figure(figure, title)
    return finish(figure, path)


def attention_heads(
    maps: Mapping[str, Any],
    source_labels: Sequence[str],
    target_labels: Sequence[str],
    *,
    title: str | None = None,
    path: str | Path | None = None,
) -> Any:
    """Every head of every layer of one model: a row for each layer, a column for each head.

    Args:
      maps: Layer name to weights ``[heads, target_len, source_len]``.
      source_labels: Tokens that were looked at.
      target_labels: Tokens that looked.
      title: Title over the panels.
      path: File to write, or None.

    Returns:
      The ``matplotlib.figure.Figure``; its last axes are the colour bar.

    Raises:
      DataError: If there is nothing to draw, a map does not have three axes, or is smaller than its labels.

    Example:
      >>> weights = np.full((2, 3, 3), 1 / 3)
      >>> len(attention_heads({"layer 1": weights}, list("cat"), ["K", "AE", "T"]).axes)
      3
    """
    check_not_empty("maps", maps)
    layers = {name: np.asarray(weights, dtype=np.float64) for name, weights in maps.items()}
    for name, weights in layers.items():
        if weights.ndim != 3:
            raise DataError(
                f"map {name!r} must be [heads, target_len, source_len]; got shape {weights.shape}"
            )
    num_heads = max(weights.shape[0] for weights in layers.values())
    num_rows, num_columns = len(target_labels), len(source_labels)
    figure, grid = new_figure(
        len(layers),
        num_heads,
        width=max(1.4 + num_heads * (0.3 + 0.8 * _CELL_INCHES * num_columns), 3.2),
        height=max(1.1 + len(layers) * (0.3 + 0.8 * _CELL_INCHES * num_rows), 2.2),
    )
    for row, (name, weights) in enumerate(layers.items()):
        for head, axes in enumerate(grid[row]):
            if head >= weights.shape[0]:
                axes.set_axis_off()
                continue
            is_last_row, is_first_column = row == len(layers) - 1, head == 0
            image = _draw(
                axes,
                _cut(name, weights[head], num_rows, num_columns),
                source_labels if is_last_row else None,
                target_labels if is_first_column else None,
            )
            if row == 0:
                axes.set_title(f"head {head + 1}", fontsize=9.5, color=INK)
            if is_first_column:
                axes.set_ylabel(name, fontsize=9.5, color=INK)
    _colour_bar(figure, image, grid)
    title_figure(figure, title)
    return finish(figure, path)


def _cut(name: str, weights: Any, num_rows: int, num_columns: int) -> np.ndarray:
    """The labelled part of a map; the mean over heads where it has heads."""
    weights = np.asarray(weights, dtype=np.float64)
    if weights.ndim == 3:
        weights = weights.mean(axis=0)
    if weights.ndim != 2:
        raise DataError(
            f"map {name!r} must be [target_len, source_len], heads first at most; got {weights.shape}"
        )
    if num_rows == 0 or num_columns == 0 or weights.shape[0] < num_rows or weights.shape[1] < num_columns:
        raise DataError(
            f"map {name!r} must cover its labels, {num_rows} target by {num_columns} source tokens, at least "
            f"one each; got {weights.shape}"
        )
    return weights[:num_rows, :num_columns]


def _draw(
    axes: Any, weights: np.ndarray, source_labels: Sequence[str] | None, target_labels: Sequence[str] | None
) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    # White for nothing, one hue to almost black: readable in print, and no colour that means something.
    shades = ["#ffffff", "#bcd3ec", "#4b83c3", "#173f75", "#0a1f40"]
    colours = LinearSegmentedColormap.from_list("weights", shades).with_extremes(bad="#f3d9d9")
    image = axes.imshow(
        np.ma.masked_invalid(weights),
        cmap=colours,
        vmin=0.0,
        vmax=1.0,
        aspect="equal",
        interpolation="nearest",
    )
    # Thin lines between the cells, so that empty rows can be counted.
    axes.set_xticks(np.arange(0.5, weights.shape[1] - 1), minor=True)
    axes.set_yticks(np.arange(0.5, weights.shape[0] - 1), minor=True)
    axes.grid(which="minor", color="#ededed", linewidth=0.7)
    axes.tick_params(which="both", length=0, colors=FAINT_INK)
    sources, targets = drawable(_plain(source_labels)), drawable(_plain(target_labels))
    longest = max((len(label) for label in sources.texts), default=0)
    axes.set_xticks(
        range(weights.shape[1]) if source_labels is not None else [],
        sources.texts,
        fontsize=9.5,
        color=INK,
        rotation=90 if longest > 3 else 0,
        **sources.options,
    )
    axes.set_yticks(
        range(weights.shape[0]) if target_labels is not None else [],
        targets.texts,
        fontsize=9.5,
        color=INK,
        **targets.options,
    )
    for spine in axes.spines.values():
        spine.set_color("#bdbdbd")
    return image


def _plain(labels: Sequence[str] | None) -> list[str]:
    """Labels whose spaces can be seen."""
    return [label.replace(" ", "␣") for label in labels or []]


def _colour_bar(figure: Any, image: Any, grid: np.ndarray) -> None:
    bar = figure.colorbar(image, ax=grid, shrink=0.75, aspect=18, pad=0.015, ticks=[0.0, 0.5, 1.0])
    bar.ax.tick_params(labelsize=8.5, length=0, colors=FAINT_INK)
    bar.set_label("attention weight", fontsize=9, color=FAINT_INK)
    bar.outline.set_visible(False)
