"""forecast, and evaluate of a forecaster: a CSV in, a CSV out; objects, pictures, and refusals of one line."""

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import transformer_jax as tj
from transformer_jax.data.series_config import SeriesConfig, SeriesFiles
from transformer_jax.models import ForecasterConfig, LinearForecast
from transformer_jax.objectives import PinballLoss
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.forecasting import Forecasting
from transformer_jax.training.config import Adam, Constant, TrainConfig


def table(rows: range) -> str:
    lines = [
        f"2024-01-{1 + row // 24:02d} {row % 24:02d}:00,{math.sin(row / 4):.5f},{row % 5}" for row in rows
    ]
    return "\n".join(["date,wave,saw", *lines]) + "\n"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, compilation_cache: None) -> Path:
    folder = tmp_path_factory.mktemp("series")
    (folder / "a.csv").write_text(table(range(120)))
    config = ExperimentConfig(
        name="waves",
        task=Forecasting(
            data=SeriesConfig(
                dataset=SeriesFiles(path=str(folder / "a.csv")), context_len=12, horizon_len=6, season_len=5
            ),
            objective=PinballLoss(),
        ),
        model=ForecasterConfig(network=LinearForecast()),
        train=TrainConfig(
            updates=30,
            optimizer=Adam(),
            schedule=Constant(peak_learning_rate=0.02),
            log_every=30,
            evaluate_every=30,
            checkpoint_every=30,
            metric="mae",
            metric_mode="min",
        ),
    )
    tj.train(config, folder / "run", quiet=True)
    return folder / "run"


def rows_of(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_a_csv_goes_on(run_dir: Path, tmp_path: Path, run_command: Callable[..., Any]) -> None:
    (tmp_path / "b.csv").write_text(table(range(40)))
    ran = run_command("forecast", run_dir, "--input", tmp_path / "b.csv", "--figures", tmp_path / "pictures")
    assert ran.status == 0, ran.err
    header, *rows = rows_of(ran.out)
    assert header == [
        "time",
        *(f"{name}{end}" for name in ("wave", "saw") for end in ("", " q0.1", " q0.5", " q0.9")),
    ]
    assert [row[0] for row in rows] == [f"2024-01-02 {hour}:00:00" for hour in range(16, 22)]
    assert (tmp_path / "pictures" / "forecast.png").stat().st_size > 5_000
    numbers = np.array([[float(one) for one in row[1:]] for row in rows])
    (found,) = tj.load(run_dir).forecast(
        np.array([[float(one) for one in row[1:]] for row in rows_of(table(range(40)))[1:]])
    )
    np.testing.assert_allclose(numbers[:, [0, 4]], found.values, rtol=1e-6)
    np.testing.assert_allclose(numbers[:, 3], found.quantiles[0.9][:, 0], rtol=1e-6)
    # The output with the input before it is an input again, and columns in another order are found by name.
    turned = [[row[0], row[2], "note", row[1]] for row in rows_of(table(range(40)))]
    (tmp_path / "c.csv").write_text("\n".join(";".join(row) for row in turned))
    again = run_command("forecast", run_dir, "--input", tmp_path / "c.csv", "--output", tmp_path / "d.csv")
    assert again.status == 0, again.err
    assert (tmp_path / "d.csv").read_text() == ran.out


def test_an_object_a_series_from_standard_input(
    run_dir: Path, run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(table(range(20)).encode())))
    ran = run_command("forecast", run_dir, "--json")
    assert ran.status == 0, ran.err
    (document,) = (json.loads(line) for line in ran.out.splitlines())
    assert document["columns"] == ["wave", "saw"]
    assert np.shape(document["quantiles"]["0.9"]) == (6, 2)
    gap = table(range(20)).replace(",3\n", ",\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(gap.encode())))
    assert run_command("forecast", run_dir, "--gaps", "hold").status == 0


def test_month_ends_go_on_and_a_first_row_of_numbers_is_settled(
    run_dir: Path, tmp_path: Path, run_command: Callable[..., Any], fails: Callable[..., str]
) -> None:
    ends = ["0131", "0229", "0331", "0430", "0531", "0630", "0731", "0831", "0930", "1031", "1130", "1231"]
    path = tmp_path / "b.csv"
    path.write_text(
        "\n".join(["when,saw,wave", *(f"2024{end},{row},{row / 8}" for row, end in enumerate(ends))])
    )
    ran = run_command("forecast", run_dir, "--input", path)
    assert ran.status == 0, ran.err
    assert [row[0] for row in rows_of(ran.out)[1:]] == [f"2025{end}" for end in ["0131", "0228", *ends[2:6]]]
    path.write_text("\n".join(["1,2", *(f"{row}.5,{row}.25" for row in range(12))]))
    ran = run_command("forecast", run_dir, "--input", path)
    assert ran.status == 0, ran.err
    assert "the first row, 1, 2, is read as data; --header settles it" in ran.err
    assert "no column 'wave'" in fails("forecast", run_dir, "--input", path, "--header", "yes")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (table(range(11)), ["11 rows", "last 12"]),
        (table(range(20)).replace("saw", "sew"), ["no column 'saw'", "did you mean 'sew'"]),
        (table(range(20)).replace("10:00,", "09:00,"), ["line 12", "stands in line 11"]),
        (table(range(20)).replace(",3\n", ",three\n"), ["line 5", "'saw'", "'three'", "--columns"]),
        (table(range(20)).replace(",3\n", ",\n"), ["values are missing", "'saw' at", "--gaps hold"]),
        ("", ["empty"]),
    ],
)
def test_bad_input_is_one_line(
    run_dir: Path, tmp_path: Path, fails: Callable[..., str], text: str, parts: list[str]
) -> None:
    (tmp_path / "bad.csv").write_text(text)
    line = fails("forecast", run_dir, "--input", tmp_path / "bad.csv")
    assert all(part in line for part in parts), line


def test_evaluate_prints_naive_forecasts_beside(run_dir: Path, run_command: Callable[..., Any]) -> None:
    ran = run_command("evaluate", run_dir, "--split", "test")
    assert ran.status == 0, ran.err
    assert all(
        name in ran.out for name in ("waves", "seasonal naive", "repeat last", "Naive 2", "OWA", "below 0.9")
    )


def test_other_commands_name_the_right_one(run_dir: Path, fails: Callable[..., str]) -> None:
    assert "use transformer-jax forecast" in fails("classify", run_dir)
