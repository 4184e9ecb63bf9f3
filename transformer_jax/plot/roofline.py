"""A roofline: what was reached beside what memory and multipliers allow."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transformer_jax.errors import DataError
from transformer_jax.plot.style import (
    COLOURS,
    FAINT_INK,
    check_not_empty,
    dress_axes,
    finish,
    line_style,
    new_figure,
    title_figure,
)


def roofline(
    points: Mapping[str, Sequence[tuple[float, float]]],
    *,
    peak: float,
    bandwidth: float,
    title: str | None = None,
    path: str | Path | None = None,
) -> Any:
    """Operations a second over operations a byte, both logarithmic, under the machine's two limits.

    Args:
      points: Name to pairs of operations a byte and operations a second.
      peak: Operations a second of the multipliers.
      bandwidth: Bytes a second of the memory.
      title: Title of the figure.
      path: File to write, or None.

    Returns:
      The ``matplotlib.figure.Figure``.

    Raises:
      DataError: If there is nothing to draw, or a number is not positive.

    Example:
      >>> figure = roofline({"gru": [(20.0, 5e10)]}, peak=1.5e11, bandwidth=2e10)
      >>> figure.axes[0].get_xscale()
      'log'
    """
    check_not_empty("points", points)
    numbers = [peak, bandwidth, *(value for pairs in points.values() for pair in pairs for value in pair)]
    if not all(np.isfinite(value) and value > 0 for value in numbers):
        raise DataError("points, peak and bandwidth of a roofline must be above 0")
    figure, grid = new_figure(1, 1, width=8.4, height=4.8)
    axes = grid[0][0]
    across = [pair[0] for pairs in points.values() for pair in pairs]
    left, right = min(*across, peak / bandwidth) / 2, max(*across, peak / bandwidth) * 2
    steps = np.geomspace(left, right, 200)
    axes.plot(steps, np.minimum(steps * bandwidth, peak), color=FAINT_INK, linewidth=1.4)
    axes.annotate(
        f"{peak / 1e9:,.0f} GFLOP/s", (right, peak), xytext=(-4, 4), textcoords="offset points", ha="right",
        fontsize=9, color=FAINT_INK,
    )  # fmt: skip
    for index, (name, pairs) in enumerate(points.items()):
        style = line_style(index)
        if index >= len(COLOURS):  # a further round of colours: hollow
            style.update(markerfacecolor="none", markeredgecolor=style["color"], markeredgewidth=1.4)
        axes.plot(
            [pair[0] for pair in pairs], [pair[1] for pair in pairs], label=name,
            **{**style, "linestyle": "none", "markersize": 6},
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    dress_axes(axes, x_label="operations for each byte moved", y_label="operations per second")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    title_figure(figure, title)
    return finish(figure, path)
