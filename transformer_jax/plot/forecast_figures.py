"""Figures of forecasts: what was known, what is forecast with its band, and what came."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transformer_jax.errors import DataError, shortened
from transformer_jax.plot.fonts import drawable
from transformer_jax.plot.style import (
    COLOURS,
    FAINT_INK,
    INK,
    dress_axes,
    finish,
    line_style,
    new_figure,
    title_figure,
)

MAX_PANELS = 24


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ForecastPanel:
    """One channel of a forecast.

    Attributes:
      title: Its name.
      context: ``[time]``, the values before.
      forecast: ``[horizon]``.
      truth: ``[horizon]``, the values that came; None where nobody knows them.
      band: Lower and upper quantile, ``[horizon]`` each; None for points.
      times: Texts for the steps of the context and of the forecast; None where steps are only counted.
    """

    title: str
    context: np.ndarray
    forecast: np.ndarray
    truth: np.ndarray | None = None
    band: tuple[np.ndarray, np.ndarray] | None = None
    times: Sequence[str] | None = None


def forecast_figure(
    panels: Sequence[ForecastPanel],
    *,
    band_name: str = "",
    title: str | None = None,
    path: str | Path | None = None,
) -> Any:
    """Forecasts side by side, each with the last steps of its context, at most four horizons of them.

    Args:
      panels: The channels; of more than `MAX_PANELS` the first are drawn.
      band_name: What the band is.
      title: Title over them.
      path: File to write, or None.

    Returns:
      The ``matplotlib.figure.Figure``.

    Raises:
      DataError: If there is no forecast.
    """
    if not panels:
        raise DataError("there is no forecast to draw")
    panels = panels[:MAX_PANELS]
    columns = 1 if len(panels) == 1 else 2 if len(panels) <= 8 else 4
    rows = math.ceil(len(panels) / columns)
    width = 7.2 if columns == 1 else 5.0 * columns
    figure, axes = new_figure(rows, columns, width=width, height=max(2.6 * rows, 3.2) + 0.5)
    for place, panel in enumerate(panels):
        _draw_panel(axes.flat[place], panel, band_name)
    for rest in axes.flat[len(panels) :]:
        rest.set_visible(False)
    handles, names = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper right", ncols=4, frameon=False, fontsize=9)
    title_figure(figure, title)
    return finish(figure, path)


def _draw_panel(axes: Any, panel: ForecastPanel, band_name: str) -> None:
    horizon = len(panel.forecast)
    known = np.asarray(panel.context)[-4 * horizon :]
    steps = np.arange(1, horizon + 1)
    axes.plot(np.arange(1 - len(known), 1), known, color=INK, linewidth=1.1, label="known")
    if panel.band is not None:
        axes.fill_between(steps, *panel.band, color=COLOURS[0], alpha=0.22, linewidth=0, label=band_name)
    if panel.truth is not None:
        axes.plot(steps, panel.truth, color=COLOURS[3], linewidth=1.3, label="came")
    axes.plot(steps, panel.forecast, color=COLOURS[0], linewidth=1.7, label="forecast")
    axes.axvline(0.5, color=FAINT_INK, linewidth=0.8, linestyle=":")
    dress_axes(axes, x_label="steps", y_label="")
    if panel.times is not None:
        shown = drawable([panel.times[-len(known) - horizon], panel.times[-1]])
        axes.set_xticks([1 - len(known), horizon], shown.texts, fontsize=8, **shown.options)
        for label, side in zip(axes.get_xticklabels(), ("left", "right"), strict=True):
            label.set_horizontalalignment(side)
        axes.set_xlabel("")
    name = drawable([shortened(panel.title, 40)])
    axes.set_title(name.texts[0], loc="left", fontsize=10, color=INK, **name.options)


def error_figure(
    curves: Mapping[str, np.ndarray], *, title: str | None = None, path: str | Path | None = None
) -> Any:
    """Error by the step of the horizon, a line for each forecaster.

    Args:
      curves: MASE ``[horizon]`` by name.
      title: Title over it.
      path: File to write, or None.

    Returns:
      The ``matplotlib.figure.Figure``.

    Raises:
      DataError: If there is no line.
    """
    if not curves:
        raise DataError("there is no error to draw")
    figure, axes = new_figure(1, 1, width=6.4, height=4.0)
    panel = axes[0, 0]
    for index, (name, errors) in enumerate(curves.items()):
        shown = drawable([shortened(name, 40)])
        style = line_style(index) | ({"marker": None} if len(errors) > 32 else {})
        panel.plot(np.arange(1, len(errors) + 1), errors, label=shown.texts[0], **style)
    panel.set_ylim(bottom=0)
    dress_axes(panel, x_label="steps ahead", y_label="error over the seasonal naive one, MASE")
    panel.legend(frameon=False, fontsize=9)
    title_figure(figure, title)
    return finish(figure, path)


def band_name(quantiles: Sequence[float]) -> str:
    """Name of the band between the outermost quantiles.

    Example:
      >>> band_name((0.1, 0.5, 0.9))
      'quantiles 0.1 to 0.9'
    """
    return f"quantiles {quantiles[0]:g} to {quantiles[-1]:g}" if len(quantiles) > 1 else ""
