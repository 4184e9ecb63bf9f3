"""Ratios with their intervals, on one logarithmic axis."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from transformer_jax.plot.style import (
    FAINT_INK,
    check_not_empty,
    dress_axes,
    finish,
    line_style,
    new_figure,
    title_figure,
)


def ratio_panels(
    panels: Mapping[tuple[str, str], Mapping[str, Mapping[str, Mapping[str, float]]]],
    *,
    x_label: str,
    title: str | None = None,
    path: str | Path | None = None,
) -> Any:
    """A grid of panels; in each a line a case, on it a point a name with its interval, and the line of 1.

    Args:
      panels: (row, column) of the panel to name to case to ``median``, ``low`` and ``high``.
      x_label: Label of the x axes.
      title: Title over the panels.
      path: File to write, or None.

    Returns:
      The ``matplotlib.figure.Figure``.

    Raises:
      DataError: If there is nothing to draw.

    Example:
      >>> ratio = {"median": 1.5, "low": 1.4, "high": 1.7}
      >>> figure = ratio_panels({("gru", "forward"): {"torch": {"16 x 64": ratio}}}, x_label="time over ours")
      >>> figure.axes[0].get_xscale()
      'log'
    """
    from matplotlib.ticker import FuncFormatter, LogLocator

    check_not_empty("panels", {" ".join(place): panel for place, panel in panels.items()})
    rows, columns = (list(dict.fromkeys(values)) for values in zip(*panels, strict=True))
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    cases = list(dict.fromkeys(case for panel in panels.values() for own in panel.values() for case in own))
    ratios = [ratio for panel in panels.values() for own in panel.values() for ratio in own.values()]
    lowest, highest = min(0.5, *(one["low"] for one in ratios)), max(2.0, *(one["high"] for one in ratios))
    height = 1.3 + len(rows) * (0.9 + 0.32 * len(cases))
    figure, grid = new_figure(len(rows), len(columns), width=2.0 + 4.2 * len(columns), height=height)
    for (row, column), axes in np.ndenumerate(grid):
        dress_axes(axes, x_label=x_label if row == len(rows) - 1 else "", y_label="")
        axes.set_title(f"{rows[row]}, {columns[column]}", loc="left", fontsize=10.5)
        axes.axvline(1.0, color=FAINT_INK, linewidth=1.2, zorder=1)
        for index, name in enumerate(names):
            own = panels.get((rows[row], columns[column]), {}).get(name, {})
            shift = 0.5 * ((index + 0.5) / len(names) - 0.5)  # so that they do not cover each other
            heights = [cases.index(case) + shift for case in own]
            low, median, high = ([ratio[key] for ratio in own.values()] for key in ("low", "median", "high"))
            style = {**line_style(index), "linestyle": "none"}
            axes.hlines(heights, low, high, color=style["color"], linewidth=1.8, zorder=2)
            axes.plot(median, heights, label=name, zorder=3, **style)
        axes.set_yticks(range(len(cases)), cases if column == 0 else [""] * len(cases))
        axes.set_ylim(len(cases) - 0.5, -0.5)
        axes.set_xscale("log")
        axes.set_xlim(lowest / 1.15, highest * 1.15)
        subs = (1.0,) if highest / lowest > 300 else (1.0, 2.0, 5.0)
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=subs))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.minorticks_off()
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower right", ncols=len(labels), frameon=False, fontsize=9.5)
    title_figure(figure, title)
    return finish(figure, path)
