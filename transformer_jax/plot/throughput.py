"""Throughput over sequence length, on two logarithmic axes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from transformer_jax.errors import DataError
from transformer_jax.plot.style import (
    check_not_empty,
    dress_axes,
    finish,
    finite_points,
    label_line_ends,
    line_style,
    new_figure,
    title_figure,
)


def throughput_over_length(
    panels: Mapping[str, Mapping[str, Mapping[str, Any]]],
    *,
    x_label: str = "sequence length (tokens)",
    y_label: str = "tokens per second",
    title: str | None = None,
    path: str | Path | None = None,
) -> Any:
    """One panel a measurement, one line an implementation, with its quartiles as a band.

    Args:
      panels: Panel title (such as ``training step``) to line name to columns: ``length``, ``median`` and,
        where known, ``low`` and ``high`` (the quartiles), vectors of one length.
      x_label: Label of the x axes.
      y_label: Label of the y axis.
      title: Title over the panels.
      path: File to write, or None.

    Returns:
      The ``matplotlib.figure.Figure``.

    Raises:
      DataError: If there is nothing to draw, a column is missing, or a value is not positive.

    Example:
      >>> lines = {"gru": {"length": [32, 64, 128], "median": [900.0, 950.0, 960.0]}}
      >>> throughput_over_length({"forward": lines}).axes[0].get_xscale()
      'log'
    """
    check_not_empty("panels", panels)
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    figure, grid = new_figure(1, len(panels), width=1.2 + 4.8 * len(panels), height=4.3)
    lowest, highest = np.inf, 0.0
    all_ends = []
    for place, (axes, (panel, lines)) in enumerate(zip(grid[0], panels.items())):
        check_not_empty(f"panel {panel!r}", lines)
        ends, lengths = [], set()
        for name, columns in lines.items():
            length, median = _positive_points(name, columns, "median")
            style = line_style(names.index(name))
            axes.plot(length, median, label=name, **style)
            if "low" in columns and "high" in columns:
                low, high = (_positive_points(name, columns, column)[1] for column in ("low", "high"))
                if len(low) == len(high) == len(length):
                    axes.fill_between(length, low, high, color=style["color"], alpha=0.15, linewidth=0)
            ends.append((length[-1], median[-1], name, style["color"]))
            lengths.update(length.tolist())
            lowest, highest = min(lowest, median.min()), max(highest, median.max())
        dress_axes(axes, x_label=x_label, y_label=y_label if place == 0 else "")
        axes.set_title(panel, loc="left", fontsize=10.5)
        _set_length_ticks(axes, sorted(lengths))
        all_ends.append(ends)
    for axes, ends in zip(grid[0], all_ends):
        _set_rate_ticks(axes, lowest, highest)
        label_line_ends(axes, ends)
    title_figure(figure, title)
    return finish(figure, path)


def _positive_points(name: str, columns: Mapping[str, Any], column: str) -> tuple[np.ndarray, np.ndarray]:
    for wanted in ("length", column):
        if wanted not in columns:
            raise DataError(f"line {name!r} has no column {wanted!r}; it has {', '.join(map(repr, columns))}")
    length, value = finite_points(name, columns["length"], columns[column])
    if length.min() <= 0 or value.min() <= 0:
        raise DataError(f"line {name!r} must be positive for logarithmic axes; {column} has {value.min():g}")
    order = np.argsort(length, kind="stable")
    return length[order], value[order]


def _set_length_ticks(axes: Any, lengths: list[float]) -> None:
    """A tick at every measured length, as a plain number; at most about ten."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(lengths[:: 1 + (len(lengths) - 1) // 10]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlim(lengths[0] / 1.15, lengths[-1] * 1.15)


def _set_rate_ticks(axes: Any, lowest: float, highest: float) -> None:
    """The same y axis for all panels."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.set_ylim(lowest / 1.3, highest * 1.3)
    subs = (1.0,) if highest / lowest > 300 else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=subs))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short_number(value)))


def _short_number(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
