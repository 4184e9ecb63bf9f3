"""Forecasting: scores beside naive forecasts, files of one's own, another run, and impossible configs."""

import dataclasses

import numpy as np
import pytest

from transformer_jax.config_json import to_json
from transformer_jax.data.series_config import NamedSeries, SeriesConfig, SeriesFiles
from transformer_jax.errors import ConfigError, DataError
from transformer_jax.evaluate.forecast_scores import naive_error
from transformer_jax.models import (
    ClassifierConfig,
    ForecasterConfig,
    LinearForecast,
    RecurrentForecast,
    build_model,
)
from transformer_jax.models.text_encoders import TokenVectors
from transformer_jax.objectives import PinballLoss
from transformer_jax.tasks.forecast_evaluation import ForecastEvaluation
from transformer_jax.tasks.forecast_targets import ForecastTargets
from transformer_jax.tasks.forecasting import Forecasting

LINEAR = ForecasterConfig(network=LinearForecast(), normalization="last")


@pytest.fixture
def task(tmp_path):
    steps = np.arange(90)
    values = np.stack([np.sin(steps / 2) + 3.0, np.where(steps < 60, 4.0, steps / 10)], axis=1)
    (tmp_path / "a.csv").write_text("x,flat\n" + "\n".join(f"{one},{other}" for one, other in values) + "\n")
    dataset = SeriesFiles(path=str(tmp_path / "a.csv"), num_development=10, num_test=20)
    data = SeriesConfig(dataset=dataset, context_len=9, horizon_len=4, season_len=6, batch_size=8)
    return Forecasting(data=data)


def predictor(task, name="tiny"):
    prepared = task.prepare()
    model = build_model(LINEAR, task.sizes(prepared.artifacts), seed=0)
    return task.predictor(model, prepared.artifacts, model_config=LINEAR, name=name)


def test_scores_are_those_of_a_loop(task):
    made = predictor(task)
    found = task.evaluate(made, ForecastEvaluation(split="test"))
    series = task.prepare().series
    values, scaler = series.values[0], series.scaler
    squared, percent, scaled = [], [], []
    scale = naive_error(values[:70], 6)
    for origin in range(70, 90 - 4 + 1):
        forecast = made.forecast(values[origin - 9 : origin])[0].values
        truth = values[origin : origin + 4]
        squared.append(((forecast - truth) / np.array(scaler.scale)) ** 2)
        percent.append(200 * np.abs(forecast - truth) / (np.abs(forecast) + np.abs(truth)))
        scaled.append(np.abs(forecast - truth) / scale)
    assert found["lines"] == len(squared) == 17
    assert found["mse"] == pytest.approx(np.mean(squared), rel=1e-5)
    assert found["smape"] == pytest.approx(np.mean(percent), rel=1e-5)
    assert found["mase"] == pytest.approx(np.mean(scaled), rel=1e-5)
    naive = found["naive"]
    repeated = np.stack([np.repeat(values[[origin - 1]], 4, axis=0) for origin in range(70, 87)])
    wanted = np.stack([values[origin : origin + 4] for origin in range(70, 87)])
    assert naive["repeat last"]["mae"] == pytest.approx(
        np.abs((repeated - wanted) / np.array(scaler.scale)).mean()
    )
    ratio = (found["smape"] / naive["Naive 2"]["smape"] + found["mase"] / naive["Naive 2"]["mase"]) / 2
    assert found["owa"] == pytest.approx(ratio)
    assert naive["Naive 2"]["owa"] == 1.0
    by_step = ForecastTargets.of(series, "test").errors_by_step(repeated)
    np.testing.assert_allclose(by_step, (np.abs(repeated - wanted) / scale).mean(axis=(0, 2)), rtol=1e-6)
    assert any(line.startswith("seasonal naive") for line in found["text"])


def test_the_last_season_may_lie_before_the_models_context(task):
    data = dataclasses.replace(task.data, context_len=3)
    series = dataclasses.replace(task, data=data).prepare().series
    truth = ForecastTargets.of(series, "test")
    values = series.values[0]
    wanted = [values[origin - 6 : origin - 2] for origin in range(70, 87)]
    np.testing.assert_array_equal(truth.seasonal, wanted)
    np.testing.assert_array_equal(truth.repeat_last[:, 0], values[69:86])


def test_columns_of_a_file_stand_for_the_channels_of_a_run(task, tmp_path):
    dataset = dataclasses.replace(task.data.dataset, columns=("x",))
    single = dataclasses.replace(task, data=dataclasses.replace(task.data, dataset=dataset))
    made = predictor(single)
    assert made.columns == ("x",)
    values = [line.split(",")[0] for line in (tmp_path / "a.csv").read_text().splitlines()[1:]]

    def scores(name, header, row):
        path = tmp_path / name
        path.write_text("\n".join([header, *(row(place, one) for place, one in enumerate(values))]))
        return single.evaluate(made, ForecastEvaluation(source=path))["mse"]

    named = scores("named.csv", "x,other", lambda place, one: f"{one},{place}")
    assert scores("only.csv", "note,101", lambda place, one: f"a,{one}") == named
    assert scores("bare.csv", "", lambda place, one: one) == named
    with pytest.raises(
        DataError, match=r"2 columns of numbers, a, b; tiny reads one: leave .* or name it 'x'"
    ):
        scores("two.csv", "a,b", lambda place, one: f"{one},{place}")
    with pytest.raises(DataError, match=r"no column 'flat'.*tiny reads x, flat"):
        task.evaluate(predictor(task), ForecastEvaluation(source=tmp_path / "named.csv"))


def test_a_channel_that_is_constant_has_no_mase(task):
    truth = ForecastTargets.of(task.prepare().series, "development")
    assert np.isnan(truth.mase_scales[:, 1]).all()
    found = task.evaluate(predictor(task), ForecastEvaluation(split="development"))
    assert np.isfinite(found["mase"])
    assert "constant before the part" in found["remarks"][0]


def test_a_stride_takes_each_nth_window(task):
    prepared = task.prepare().series
    every, third = (ForecastTargets.of(prepared, "test", stride=stride) for stride in (1, 3))
    np.testing.assert_array_equal(third.targets, every.targets[::3])
    np.testing.assert_array_equal(third.naive2, every.naive2[::3])


def test_another_run_on_the_same_windows_and_a_file(task, tmp_path):
    made = predictor(task)
    short = dataclasses.replace(task, data=dataclasses.replace(task.data, context_len=6))
    found = task.evaluate(
        made, ForecastEvaluation(split="test", against=("other", predictor(short, "other")))
    )
    alone = short.evaluate(predictor(short), ForecastEvaluation(split="test"))
    assert found["against"]["mse"] == pytest.approx(alone["mse"], rel=1e-5)
    with pytest.raises(ConfigError, match="longer context"):
        short.evaluate(predictor(short), ForecastEvaluation(split="test", against=("long", made)))
    other = tmp_path / "other.csv"
    lines = (tmp_path / "a.csv").read_text().splitlines()
    other.write_text(
        "\n".join(["flat,more,x", *(f"{b},0,{a}" for a, b in (one.split(",") for one in lines[1:]))])
    )
    found = task.evaluate(made, ForecastEvaluation(source=other))
    assert found["lines"] == 90 - 9 - 4 + 1
    (tmp_path / "short.csv").write_text("\n".join(lines[:14]))
    assert task.evaluate(made, ForecastEvaluation(source=tmp_path / "short.csv"))["lines"] == 1
    (tmp_path / "short.csv").write_text("\n".join(lines[:13]))
    with pytest.raises(DataError, match="12 rows, wanted at least 13: a context of 9 and a horizon of 4"):
        task.evaluate(made, ForecastEvaluation(source=tmp_path / "short.csv"))


def test_figures_are_drawn(task, tmp_path):
    quantiles = dataclasses.replace(task, objective=PinballLoss())
    found = quantiles.evaluate(
        predictor(quantiles), ForecastEvaluation(split="test", figures=tmp_path / "pictures")
    )
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == [
        "error_by_step.png",
        "forecast_1.png",
        "forecast_11.png",
        "forecast_17.png",
        "forecast_6.png",
    ]
    assert all(path.stat().st_size > 5_000 for path in (tmp_path / "pictures").iterdir())
    below = found["quantiles"]["below"]
    assert list(below) == ["0.1", "0.5", "0.9"]
    assert below["0.1"] <= below["0.5"] <= below["0.9"]


def test_what_does_not_go_together():
    with pytest.raises(ConfigError, match="task 'forecasting' gives num_channels"):
        Forecasting().check(ClassifierConfig(encoder=TokenVectors(embedding_dim=4)))
    with pytest.raises(ConfigError, match="segment_len 5 must divide context_len 168"):
        Forecasting().check(ForecasterConfig(network=RecurrentForecast(hidden_dim=4, segment_len=5)))
    with pytest.raises(ConfigError, match="takes no `tokenizer`"):
        Forecasting().tokenizer_overrides("a.json")
    with pytest.raises(ConfigError, match="trains on one file, got 2"):
        Forecasting().file_overrides({"text": ["a.csv", "b.csv"]})
    with pytest.raises(ConfigError, match="does not train on `source`"):
        Forecasting().file_overrides({"source": ["a.csv"], "text": ["b.csv"]})
    assert Forecasting().file_overrides({"text": ["a.csv"]}) == [
        'task.data.dataset={"kind": "files", "path": "a.csv"}'
    ]
    assert '"horizon_len": 24' in to_json(Forecasting(data=SeriesConfig(dataset=NamedSeries(name="m4"))))
