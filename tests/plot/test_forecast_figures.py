"""Figures of forecasts: the lines are the numbers, and the axis has the times."""

from pathlib import Path

import numpy as np
import pytest

from transformer_jax.errors import DataError
from transformer_jax.plot.forecast_figures import (
    MAX_PANELS,
    ForecastPanel,
    band_name,
    error_figure,
    forecast_figure,
)

CONTEXT, FORECAST = np.arange(30.0), np.array([29.0, 28.0, 27.0])


def test_a_panel_has_the_end_of_the_context_and_the_forecast_with_its_band(tmp_path: Path) -> None:
    panel = ForecastPanel(
        title="load",
        context=CONTEXT,
        forecast=FORECAST,
        truth=FORECAST + 1.0,
        band=(FORECAST - 2.0, FORECAST + 2.0),
        times=[f"t{row}" for row in range(33)],
    )
    figure = forecast_figure([panel], band_name="80 %", title="A forecast", path=tmp_path / "new" / "a.png")
    axes = figure.axes[0]
    known, came, forecast = (axes.lines[place].get_xydata() for place in range(3))
    np.testing.assert_array_equal(known, np.stack([np.arange(-11, 1), CONTEXT[-12:]], axis=1))
    np.testing.assert_array_equal(came[:, 1], FORECAST + 1.0)
    np.testing.assert_array_equal(forecast, np.stack([[1, 2, 3], FORECAST], axis=1))
    band = axes.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (25.0, 31.0)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["t18", "t32"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "known",
        "80 %",
        "came",
        "forecast",
    ]
    assert (tmp_path / "new" / "a.png").stat().st_size > 5_000


def test_a_panel_of_points_without_truth_and_many_panels() -> None:
    panel = ForecastPanel(title="load", context=CONTEXT[:2], forecast=FORECAST)
    axes = forecast_figure([panel]).axes[0]
    assert not axes.collections
    assert len(axes.lines) == 3  # known, forecast, and the line between them
    many = forecast_figure([panel] * (MAX_PANELS + 5))
    assert len([one for one in many.axes if one.get_visible()]) == MAX_PANELS
    assert [one.get_visible() for one in forecast_figure([panel] * 3).axes] == [True, True, True, False]
    with pytest.raises(DataError, match="no forecast to draw"):
        forecast_figure([])


def test_errors_by_step() -> None:
    figure = error_figure({"model": FORECAST, "naive": FORECAST * 2})
    np.testing.assert_array_equal(
        figure.axes[0].lines[1].get_xydata(), np.stack([[1, 2, 3], FORECAST * 2], axis=1)
    )
    assert figure.axes[0].get_ylim()[0] == 0
    with pytest.raises(DataError, match="no error to draw"):
        error_figure({})


def test_name_of_a_band() -> None:
    assert band_name((0.5,)) == ""
