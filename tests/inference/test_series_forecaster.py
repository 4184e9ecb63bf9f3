"""A forecaster of series: channels by name, gaps, quantiles in order, and series that do not depend on each other."""

import functools

import numpy as np
import pytest

from transformer_jax.data.series import Series
from transformer_jax.data.series_scaler import SeriesScaler
from transformer_jax.data.time_axis import TimeAxis
from transformer_jax.errors import DataError, ShapeError
from transformer_jax.inference import SeriesForecaster
from transformer_jax.models import ForecasterConfig, LinearForecast, PatchForecast, Sizes, build_model

CONTEXT, HORIZON = 8, 3
PATCHES = PatchForecast(
    patch_len=4, stride=2, model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=8, num_layers=1
)
VALUES = np.random.default_rng(4).normal(size=(20, 2)) * [1.0, 30.0] + [0.0, 100.0]


@functools.cache
def forecaster(columns=("x", "y"), quantiles=(), gaps="fail", network=PATCHES):
    sizes = Sizes(
        num_channels=len(columns),
        context_len=CONTEXT,
        horizon_len=HORIZON,
        num_outputs=max(1, len(quantiles)),
    )
    return SeriesForecaster(
        name="tiny",
        model=build_model(ForecasterConfig(network=network), sizes, seed=1),
        scaler=SeriesScaler(columns, (0.0, 100.0)[: len(columns)], (1.0, 30.0)[: len(columns)]),
        context_len=CONTEXT,
        horizon_len=HORIZON,
        quantiles=quantiles,
        gaps=gaps,
    )


def test_a_forecast_depends_on_nothing_but_the_end_of_its_series():
    """Neighbours, their number and order, and rows before the context change no bit."""
    made = forecaster()
    alone = made.forecast(VALUES)[0].values
    others = [np.random.default_rng(seed).normal(size=(8 + seed, 2)) for seed in range(70)]
    among = made.forecast([*others, VALUES])[-1].values
    np.testing.assert_array_equal(among, alone)
    np.testing.assert_array_equal(made.forecast([VALUES, *others])[0].values, alone)
    np.testing.assert_array_equal(made.forecast(VALUES[-CONTEXT:])[0].values, alone)
    changed = VALUES.copy()
    changed[-1] += 1.0
    assert not np.array_equal(made.forecast(changed)[0].values, alone)
    assert made.forecast([]) == []


def test_channels_are_found_by_their_names():
    made = forecaster()
    wanted = made.forecast(VALUES)[0]
    turned = np.concatenate([VALUES[:, [1]], 7.0 + VALUES[:, [0]], VALUES[:, [0]]], axis=1)
    (found,) = made.forecast(turned, columns=("y", "z", "x"))
    np.testing.assert_array_equal(found.values, wanted.values)
    assert found.columns == ("x", "y")
    assert any("does not read: z" in remark for remark in made.report.take_remarks())
    with pytest.raises(DataError, match=r"no column 'x'.*tiny reads x, y"):
        made.forecast(VALUES, columns=("y", "a"))
    # A file whose columns have no names is read in the order of the run.
    np.testing.assert_array_equal(
        made.forecast(VALUES, columns=("column 1", "column 2"))[0].values, wanted.values
    )


def test_one_channel_forecasts_each_column_by_itself():
    made = forecaster(columns=("value",))
    found = made.forecast(VALUES, columns=("a", "b"))
    assert [one.columns for one in found] == [("a",), ("b",)]
    for place, one in enumerate(found):
        np.testing.assert_array_equal(one.values, made.forecast(VALUES[:, place])[0].values)


def test_quantiles_are_in_order_and_their_median_is_the_forecast():
    made = forecaster(quantiles=(0.1, 0.5, 0.9))
    (found,) = made.forecast(VALUES)
    low, middle, high = (found.quantiles[one] for one in (0.1, 0.5, 0.9))
    assert (low <= middle).all()
    assert (middle <= high).all()
    np.testing.assert_array_equal(found.values, middle)
    document = found.as_dict()
    assert list(document["quantiles"]) == ["0.1", "0.5", "0.9"]
    assert np.shape(document["values"]) == (HORIZON, 2)


def test_times_go_on_behind_the_series():
    axis = TimeAxis(unit="months", start=2023.0 * 12 + 10, step=1.0, form="date")
    series = Series(name="sales", values=VALUES[:CONTEXT], axis=axis)
    (found,) = forecaster().forecast(series)
    assert found.times == ("2024-07-01", "2024-08-01", "2024-09-01")
    assert found.context_times[0] == "2023-11-01"
    assert forecaster().forecast(VALUES)[0].times == ("21", "22", "23")


def test_gaps_in_the_context_are_refused_or_held():
    gap = VALUES.copy()
    gap[-3, 1] = np.nan
    with pytest.raises(
        DataError, match=r"series 1: 1 of .* values are missing.*the first is 'y' at row .*`gaps=hold`"
    ):
        forecaster().forecast(gap)
    held = VALUES.copy()
    held[-3, 1] = held[-4, 1]
    wanted = forecaster().forecast(held)[0].values
    np.testing.assert_array_equal(forecaster(gaps="hold").forecast(gap)[0].values, wanted)
    early = VALUES.copy()
    early[2] = np.nan  # before the context: nobody's concern
    np.testing.assert_array_equal(
        forecaster().forecast(early)[0].values, forecaster().forecast(VALUES)[0].values
    )
    # The context may begin with a gap, where a value stands before it.
    gap = VALUES.copy()
    gap[-CONTEXT - 4 : -CONTEXT + 1] = np.nan
    held = VALUES.copy()
    held[-CONTEXT] = held[-CONTEXT - 5]
    wanted = forecaster().forecast(held)[0].values
    np.testing.assert_array_equal(forecaster(gaps="hold").forecast(gap)[0].values, wanted)


def test_bad_series():
    made = forecaster()
    with pytest.raises(DataError, match=r"series 2: 7 rows, tiny forecasts from the last 8"):
        made.forecast([VALUES, VALUES[:7]])
    with pytest.raises(DataError, match="infinite"):
        made.forecast(np.where(np.arange(20)[:, None] == 19, np.inf, VALUES))
    with pytest.raises(DataError, match=r"above 1e\+15 when scaled"):
        made.forecast(VALUES * 1e300)
    with pytest.raises(TypeError, match=r"series\[0\] must be numbers"):
        made.forecast([["a", "b"]])
    with pytest.raises(ShapeError, match=r"must be \[time, channels\]"):
        made.forecast(VALUES[None])
    with pytest.raises(ShapeError, match="2 channels, and 1 names"):
        made.forecast(VALUES, columns=("x",))
    assert forecaster(network=LinearForecast()).forecast(np.full((9, 2), 5.0))[0].values == pytest.approx(
        5.0, abs=1e-3
    )
