"""Learning curves of several models side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from transformer_jax.errors import DataError
from transformer_jax.plot.style import (
    INK,
    check_not_empty,
    dress_axes,
    finish,
    finite_points,
    label_line_ends,
    line_style,
    new_figure,
    title_figure,
)

_X_LABELS = {"updates": "updates", "seconds": "seconds of training"}


def learning_curves(
    curves: Mapping[str, Mapping[str, Any]],
    *,
    metric: str,
    y_label: str | None = None,
    across: Sequence[str] = ("updates", "seconds"),
    x_labels: Mapping[str, str] | None = None,
    scale: Literal["linear", "log"] = "linear",
    percent: bool = False,
    order: Sequence[str] | None = None,
    names_below: bool = False,
    title: str | None = None,
    path: str | Path | None = None,
) -> Any:
    """One panel for each x axis, one line for each model.

    Lines that all end at the same x are named at their ends; else a legend names them, in the order of their
    last values. Points that are not finite are left out.

    Args:
      curves: Model name to columns: vectors of one length for ``metric`` and for each name in ``across``.
      metric: Column on the y axis.
      y_label: Label of the y axis; None for ``metric``.
      across: Columns for the x axes, one panel each.
      x_labels: Labels of the x axes where they are not the columns' names.
      scale: Scale of the y axis: ``log`` for losses and error rates that fall by orders of magnitude.
      percent: Whether the metric is a fraction to be shown in per cent.
      order: All names that such figures may show: a model keeps its colour where others are left out. None
        for the names of ``curves``.
      names_below: Name all lines in a legend below the panels, which long names need.
      title: Title over the panels.
      path: File to write, or None.

    Returns:
      The ``matplotlib.figure.Figure``.

    Raises:
      DataError: If there is nothing to draw, a column is missing, lengths differ, or ``order`` lacks a name.

    Example:
      >>> curve = {"updates": [1, 2, 4], "seconds": [0.5, 1.0, 2.0], "loss": [3.0, 2.0, 1.5]}
      >>> len(learning_curves({"gru": curve}, metric="loss").axes)
      2

    """
    check_not_empty("curves", curves)
    if scale not in ("linear", "log"):
        raise DataError(f"scale must be 'linear' or 'log'; got {scale!r}")
    places = {name: place for place, name in enumerate(curves if order is None else order)}
    if missing := [name for name in curves if name not in places]:
        raise DataError(f"order must hold every curve's name; it lacks {', '.join(map(repr, missing))}")
    labels = {**_X_LABELS, **(x_labels or {})}
    points = {
        (name, column): finite_points(name, _column(name, curve, column), _column(name, curve, metric))
        for name, curve in curves.items()
        for column in across
    }
    width, height = 1.6 + 4.6 * len(across), 4.2
    if names_below:
        width, height = 4.8 * len(across), 3.4 + 0.2 * len(curves)
    figure, grid = new_figure(1, len(across), width=width, height=height)
    named_at_ends = False
    for place, (axes, column) in enumerate(zip(grid[0], across)):
        ends = []
        for name in curves:
            x, y = points[name, column]
            style = line_style(places[name])
            if len(x) > 25:
                style["markevery"] = max(1, len(x) // 12)
            axes.plot(x, 100 * y if percent else y, label=name, **style)
            ends.append((x[-1], 100 * y[-1] if percent else y[-1], name, style["color"]))
        dress_axes(
            axes, x_label=labels.get(column, column), y_label=(y_label or metric) if place == 0 else ""
        )
        _set_limits(axes, [end[0] for end in ends], scale)
        last = np.array([end[0] for end in ends])
        # Names at the ends need room on the right, which only the last panel has.
        if (
            not names_below
            and place == len(across) - 1
            and np.ptp(last) <= 0.02 * max(abs(last).max(), 1e-12)
        ):
            label_line_ends(axes, ends)
            named_at_ends = True
    if not named_at_ends:
        ends_of = {name: points[name, across[0]][1][-1] for name in curves}
        _legend(figure, grid[0][0], ends_of, below=names_below)
    title_figure(figure, title)
    return finish(figure, path)


def _column(name: str, curve: Mapping[str, Any], column: str) -> Any:
    if column not in curve:
        raise DataError(f"curve {name!r} has no column {column!r}; it has {', '.join(map(repr, curve))}")
    return curve[column]


def _set_limits(axes: Any, last_x: Sequence[float], scale: str) -> None:
    """From zero on the x axis; zero on a linear y axis too, where the data come near it."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_xlim(0, max(max(last_x), 1e-9) * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    if scale == "log":
        _log_ticks(axes)
    else:
        low, high = axes.get_ylim()
        if 0 <= low < 0.5 * high:
            axes.set_ylim(0, high)


def _log_ticks(axes: Any) -> None:
    """Plain numbers at 1, 2 and 5 times the powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()


def _legend(figure: Any, axes: Any, last_values: Mapping[str, float], *, below: bool) -> None:
    """One legend for all panels, right of them or below, in the order in which the lines end."""
    handles = dict(zip(*reversed(axes.get_legend_handles_labels())))
    names = sorted(last_values, key=lambda name: -last_values[name])
    where = "outside lower left" if below else "outside right center"
    legend = figure.legend([handles[name] for name in names], names, loc=where, frameon=False, fontsize=9.5)
    for text in legend.get_texts():
        text.set(color=INK, parse_math=False)
