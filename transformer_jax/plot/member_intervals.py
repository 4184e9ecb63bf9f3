"""Means with their intervals: a row a member, or beside another number."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformer_jax.plot.fonts import drawable
from transformer_jax.plot.style import (
    AXIS,
    INK,
    check_not_empty,
    dress_axes,
    finish,
    line_style,
    new_figure,
)

Spread = tuple[float, float | None, float | None]
"""A mean and the ends of its interval; None where there is none."""


def interval_rows(
    spreads: Mapping[str, Spread],
    points: Mapping[str, Sequence[float]],
    *,
    x_label: str,
    reference: float | None = None,
    path: str | Path | None = None,
) -> Any:
    """A row for each name: the mean, its interval, and the single values as faint dots.

    Args:
      spreads: Mean and interval by name, from the top down.
      points: Single values by the same names.
      x_label: What the values are.
      reference: Where a vertical line stands, such as the mean of what the others are compared with.
      path: File to write, or None.

    Returns:
      The ``matplotlib.figure.Figure``.

    Raises:
      DataError: If there is nothing to draw.

    Example:
      >>> figure = interval_rows({"a": (1.0, 0.5, 1.5)}, {"a": [0.8, 1.2]}, x_label="nats")
      >>> [text.get_text() for text in figure.axes[0].texts]
      ['a']
    """
    check_not_empty("spreads", spreads)
    figure, grid = new_figure(1, 1, width=4.8, height=0.9 + 0.52 * len(spreads))
    axes = grid[0][0]
    if reference is not None:
        axes.axvline(reference, color=AXIS, linewidth=1.2, linestyle="--", zorder=1)
    for place, (name, (mean, low, high)) in enumerate(spreads.items()):
        style = line_style(place)
        axes.scatter(
            points[name],
            [place + 0.22] * len(points[name]),
            s=14,
            color=style["color"],
            alpha=0.35,
            linewidths=0,
        )
        if low is not None:
            axes.plot([low, high], [place, place], color=style["color"], linewidth=2.0, solid_capstyle="butt")
        axes.plot([mean], [place], **{**style, "linestyle": "none", "markersize": 7.5})
    dress_axes(axes, x_label=x_label, y_label="")
    shown = drawable(list(spreads))
    for place, name in enumerate(shown.texts):  # above the row: names may be long, and screens narrow
        where = {"xy": (0.0, place - 0.24), "xycoords": axes.get_yaxis_transform(), "va": "bottom"}
        axes.annotate(name, **where, color=INK, fontsize=9.5, **shown.options)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(spreads) - 0.6, -0.75)
    axes.grid(False, axis="y")
    axes.margins(x=0.06)
    return finish(figure, path)


def interval_beside(
    spreads: Mapping[str, Spread],
    across: Mapping[str, float],
    *,
    x_label: str,
    y_label: str,
    path: str | Path | None = None,
) -> Any:
    """A point for each name: a number across, the mean and its interval upward; a legend names them.

    Args:
      spreads: Mean and interval by name.
      across: The other number by the same names.
      x_label: What that is.
      y_label: What the means are.
      path: File to write, or None.

    Returns:
      The ``matplotlib.figure.Figure``.

    Raises:
      DataError: If there is nothing to draw.

    Example:
      >>> figure = interval_beside({"a": (1.0, 0.5, 1.5)}, {"a": 800.0}, x_label="tokens a second", y_label="nats")
      >>> figure.axes[0].get_xlabel()
      'tokens a second'
    """
    from matplotlib.ticker import MaxNLocator

    check_not_empty("spreads", spreads)
    figure, grid = new_figure(1, 1, width=4.8, height=3.6 + 0.2 * len(spreads))
    axes = grid[0][0]
    names = drawable(list(spreads))
    for place, (name, (mean, low, high)) in enumerate(spreads.items()):
        style = line_style(place)
        if low is not None:
            axes.plot([across[name]] * 2, [low, high], color=style["color"], linewidth=1.6)
        axes.plot(
            [across[name]], [mean], label=names.texts[place],
            **{**style, "linestyle": "none", "markersize": 8.0},
        )  # fmt: skip
    dress_axes(axes, x_label=x_label, y_label=y_label)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.margins(x=0.12, y=0.08)
    legend = figure.legend(loc="outside lower left", frameon=False, fontsize=9.5)
    for text in legend.get_texts():
        text.set(color=INK, **names.options)
    return finish(figure, path)
