"""Gradient norms over the depth of a model, on a logarithmic axis."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transformer_jax.errors import DataError
from transformer_jax.plot.fonts import drawable
from transformer_jax.plot.style import (
    INK,
    check_not_empty,
    dress_axes,
    finish,
    line_style,
    new_figure,
    title_figure,
)


def gradient_norms_by_depth(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    title: str | None = None,
    path: str | Path | None = None,
) -> Any:
    """One panel a moment of training, one line a model, a point a layer.

    Args:
      panels: Panel title (such as ``at initialisation``) to line name to norms, first layer first.
      title: Title over the panels.
      path: File to write, or None.

    Returns:
      The ``matplotlib.figure.Figure``.

    Raises:
      DataError: If there is nothing to draw, or a norm is neither positive nor zero; zeros are left out of the lines.

    Example:
      >>> figure = gradient_norms_by_depth({"at initialisation": {"post": [0.1, 1.0], "pre": [0.5, 0.4]}})
      >>> figure.axes[0].get_yscale()
      'log'
    """
    check_not_empty("panels", panels)
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    shown = drawable(names)
    figure, grid = new_figure(1, len(panels), width=1.0 + 3.9 * len(panels), height=3.9)
    for place, (axes, (panel, lines)) in enumerate(zip(grid[0], panels.items(), strict=True)):
        check_not_empty(f"panel {panel!r}", lines)
        if place:
            axes.sharey(grid[0][0])
        depth = 1
        for name, norms in lines.items():
            values = np.asarray(norms, np.float64)
            if not (len(values) and np.isfinite(values).all() and (values >= 0).all()):
                raise DataError(
                    f"norms of {name!r} in panel {panel!r} must be at least one, finite and at least 0"
                )
            index = names.index(name)
            layers = np.arange(1, len(values) + 1)
            positive = np.where(values > 0, values, np.nan)
            axes.plot(layers, positive, label=shown.texts[index], **line_style(index))
            depth = max(depth, len(values))
        dress_axes(axes, x_label="layer", y_label="gradient norm" if place == 0 else "")
        axes.set_yscale("log")
        axes.minorticks_off()
        axes.set_xticks(np.unique(np.linspace(1, depth, min(depth, 7)).round().astype(int)))
        axes.set_title(panel, loc="left", fontsize=10.5)
        axes.margins(x=0.06, y=0.08)
    labels: dict[str, Any] = {}
    for axes in grid[0]:
        handles, texts = axes.get_legend_handles_labels()
        labels |= dict(zip(texts, handles, strict=True))
    legend = figure.legend(
        list(labels.values()), list(labels), loc="outside lower left", ncols=min(len(labels), 4), frameon=False,
        fontsize=9.5,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set(color=INK, **shown.options)
    title_figure(figure, title)
    return finish(figure, path)
