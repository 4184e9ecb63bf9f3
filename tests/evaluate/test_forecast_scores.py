"""Scores of forecasts, by hand and beside the M4 competition's own figures."""

import math
import os
from pathlib import Path

import numpy as np
import pytest

from transformer_jax.evaluate.forecast_scores import (
    SeasonalFactors,
    is_seasonal,
    naive_error,
    seasonal_naive,
    smape,
)


def test_scores_by_hand():
    assert smape(np.array([2.0, -1.0]), np.array([1.0, 1.0])).tolist() == pytest.approx([200 / 3, 200.0])
    values = np.array([[1.0, 5.0], [4.0, 5.0], [2.0, 5.0], [np.nan, 5.0], [8.0, 5.0]])
    assert naive_error(values, 2).tolist() == [(1 + 6) / 2, 0.0]
    assert naive_error(values[:3], 5).tolist() == [2.5, 0.0]  # too short for a season: the last value


def test_a_non_finite_forecast_is_no_good_one():
    found = smape(np.array([1.0, 0.0]), np.array([np.nan, np.nan]))
    assert np.isnan(found).all()


def test_seasonal_naive_repeats_the_last_season():
    context = np.arange(14.0).reshape(2, 7, 1)
    assert seasonal_naive(context, 5, 3)[:, :, 0].tolist() == [[4, 5, 6, 4, 5], [11, 12, 13, 11, 12]]
    assert seasonal_naive(context, 2, 1)[:, :, 0].tolist() == [[6, 6], [13, 13]]
    assert seasonal_naive(context[:, :2], 3, 24)[0, :, 0].tolist() == [0, 1, 0]


def test_naive_2_continues_a_season_and_a_level():
    season = np.array([0.5, 1.0, 1.5])
    values = np.tile(season, 12) * 8.0
    factors = SeasonalFactors.of(values, 3)
    np.testing.assert_allclose(factors.factors, season)
    found = factors.forecast(np.array([values[-1]]), np.array([len(values)]), 4)
    np.testing.assert_allclose(found, [[4.0, 8.0, 12.0, 4.0]])
    # Even seasons have a moving average of one step more, with halves at its ends.
    even = np.tile([1.0, 2.0, 3.0, 6.0], 10)
    np.testing.assert_allclose(SeasonalFactors.of(even, 4).factors, [1 / 3, 2 / 3, 1.0, 2.0])


@pytest.mark.parametrize(
    "values",
    [
        np.full(30, 7.0),
        np.tile([-1.0, 1.0, 2.0], 10),
        np.arange(1.0, 8.0),
        np.random.default_rng(0).random(30) + 1.0,
    ],
)
def test_naive_2_is_the_last_value_without_a_season(values):
    """Of constant and of negative values, of short series, and of series without a season of this length."""
    found = SeasonalFactors.of(values, 3).forecast(values[-1:], np.array([len(values)]), 2)
    assert found.tolist() == [[values[-1]] * 2]


def test_seasonality_by_a_loop():
    values = np.random.default_rng(3).normal(size=60) + np.tile([0.0, 1.0, 3.0, 0.0], 15)
    mean, total = values.mean(), ((values - values.mean()) ** 2).sum()

    def autocorrelation(lag):
        return sum((values[t] - mean) * (values[t - lag] - mean) for t in range(lag, 60)) / total

    for season in (4, 5):
        limit = 1.645 * math.sqrt((1 + 2 * sum(autocorrelation(lag) ** 2 for lag in range(1, season))) / 60)
        assert is_seasonal(values, season) == (abs(autocorrelation(season)) > limit)


@pytest.mark.skipif(
    not (Path(os.environ.get("TRANSFORMER_JAX_DATA", "/none")) / "m4").is_dir(), reason="M4 is not here"
)
def test_naive_forecasts_of_m4_have_the_published_scores():
    """Naive 2: sMAPE 18.383, MASE 2.395; seasonal naive: 13.912, 1.193, OWA 0.627 (the competition's files)."""
    from transformer_jax.data.prepare_series import prepare_series
    from transformer_jax.data.series_config import NamedSeries, SeriesConfig
    from transformer_jax.tasks.forecast_targets import ForecastTargets

    config = SeriesConfig(dataset=NamedSeries(name="m4"), horizon_len=48, scaling="none")
    prepared = prepare_series(config)
    truth = ForecastTargets.of(prepared, "test")
    assert len(truth) == 414
    naive2 = truth.scores(truth.naive2, prepared.scaler)
    seasonal = truth.scores(truth.seasonal, prepared.scaler)
    assert [round(naive2[name], 3) for name in ("smape", "mase", "owa")] == [18.383, 2.395, 1.0]
    assert [round(seasonal[name], 3) for name in ("smape", "mase")] == [13.912, 1.193]
    assert seasonal["owa"] == pytest.approx(0.627, abs=1e-3)
