"""The look that all figures share. Figures are made without pyplot: no global state, no windows."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transformer_jax.errors import DataError
from transformer_jax.plot.fonts import drawable

# Dark enough on white, apart for colour-blind eyes, and apart by marker on paper without colour.
COLOURS = ("#3b6fb6", "#d1495b", "#2a9d7f", "#e08e1b", "#7b52ab", "#5c5c5c", "#1aa0c4", "#a0522d")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK = "#222222"
FAINT_INK = "#6b6b6b"
GRID = "#e4e4e4"
AXIS = "#bdbdbd"

_DARK = {
    "#ffffff": "#1b2027", INK: "#e6e9ee", FAINT_INK: "#9fabb8", GRID: "#2f3741", AXIS: "#4a5561",
    "#3b6fb6": "#6ea3ec", "#d1495b": "#f07585", "#2a9d7f": "#46c3a2", "#e08e1b": "#efa944", "#7b52ab": "#b08ae0",
    "#5c5c5c": "#a3a9b0", "#1aa0c4": "#3fc0e2", "#a0522d": "#d2855f",
}  # fmt: skip
"""Colours on a dark page in the place of those on white."""


def new_figure(num_rows: int, num_columns: int, *, width: float, height: float) -> tuple[Any, np.ndarray]:
    """A figure with a grid of axes.

    Args:
      num_rows: Rows of axes.
      num_columns: Columns of axes.
      width: Inches.
      height: Inches.

    Returns:
      The ``matplotlib.figure.Figure`` and its axes ``[num_rows, num_columns]``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(num_rows, num_columns, squeeze=False)


def finish(figure: Any, path: str | Path | None, *, dots_per_inch: int = 160) -> Any:
    """Write the figure where a path is given (its suffix says the format), and return it."""
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=dots_per_inch)
    return figure


def svg_bytes(figure: Any) -> bytes:
    """The figure as SVG; figures that are drawn alike give the same bytes."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "transformer-jax"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def on_dark_ground(svg: bytes) -> bytes:
    """A figure of `svg_bytes` in colours for a dark page.

    Example:
      >>> on_dark_ground(b"fill: #ffffff; stroke: #222222")
      b'fill: #1b2027; stroke: #e6e9ee'
    """
    text = svg.decode()
    for light, dark in _DARK.items():
        text = text.replace(light, dark)
    # Text in matplotlib's default black has no fill of its own.
    return text.replace('<g id="figure_1">', f'<g id="figure_1" fill="{_DARK[INK]}">', 1).encode()


def title_figure(figure: Any, title: str | None) -> None:
    """A left-aligned title over all axes."""
    if title:
        shown = drawable([title])
        figure.suptitle(
            shown.texts[0], x=0.01, ha="left", fontsize=12.5, fontweight="bold", color=INK, **shown.options
        )


def dress_axes(axes: Any, *, x_label: str, y_label: str) -> None:
    """Labels, a faint grid behind the data, no box."""
    axes.set_xlabel(x_label, color=INK, fontsize=10)
    axes.set_ylabel(y_label, color=INK, fontsize=10)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FAINT_INK, labelsize=9, length=0)
    axes.minorticks_off()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(AXIS)


def line_style(index: int) -> dict[str, Any]:
    """Colour and marker of the ``index``-th line; a further round of colours is dashed."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": ("-", "--", ":", "-.")[index // len(COLOURS) % 4],
        "linewidth": 1.8,
        "markersize": 4.5,
        "markeredgecolor": "white",
        "markeredgewidth": 0.6,
    }


def label_line_ends(axes: Any, ends: Sequence[tuple[float, float, str, str]], *, gap: float = 0.06) -> None:
    """Names of lines right of the axes at the height of their last points, pushed apart where they collide.

    Args:
      axes: Axes with their final limits and scales.
      ends: x, y, name and colour of each line's last point.
      gap: Least distance of two names, as a share of the axes' height.
    """
    to_share = axes.transData + axes.transAxes.inverted()
    shares = [tuple(to_share.transform((x, y))) for x, y, _, _ in ends]
    order = np.argsort([y for _, y in shares], kind="stable")
    heights = _spread(np.array([shares[place][1] for place in order]), gap)
    for place, height in zip(order, heights):
        _, _, name, colour = ends[place]
        x, y = shares[place]
        shown = drawable([name])
        # A thin line from the last point to a name that had to move.
        axes.annotate(
            shown.texts[0],
            xy=(x, y),
            xytext=(1.035, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=colour,
            fontsize=9.5,
            fontweight="bold",
            va="center",
            ha="left",
            annotation_clip=False,
            **shown.options,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.7,
                "alpha": 0.55,
                "shrinkA": 1,
                "relpos": (0, 0.5),
            },
        )


def _spread(heights: np.ndarray, gap: float) -> np.ndarray:
    """Rising heights at least ``gap`` apart, each group of colliding ones around its own middle."""
    groups: list[list[float]] = []
    for height in heights:
        groups.append([float(height)])
        # Joining two groups may make the new one reach the one below.
        while len(groups) > 1 and _low(groups[-1], gap) < _low(groups[-2], gap) + gap * len(groups[-2]):
            last = groups.pop()
            groups[-1] = groups[-1] + last
    placed = [_low(group, gap) + gap * place for group in groups for place in range(len(group))]
    return np.array(placed)


def _low(group: list[float], gap: float) -> float:
    return sum(group) / len(group) - gap * (len(group) - 1) / 2


def finite_points(name: str, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two vectors of the same length without the points that are not numbers.

    Args:
      name: Name of the line, for the message.
      x: Numbers.
      y: As many numbers.

    Returns:
      The points where both are finite, in the given order.

    Raises:
      DataError: If the lengths differ, or no point is left.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise DataError(f"line {name!r} needs x and y of one length; got shapes {x.shape} and {y.shape}")
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite.any():
        raise DataError(f"line {name!r} has no finite point to draw; got {len(x)} points")
    return x[finite], y[finite]


def check_not_empty(name: str, mapping: Mapping[str, Any]) -> None:
    """Raise DataError where there is nothing to draw."""
    if not mapping:
        raise DataError(f"{name} must name at least one line or map; got none")
