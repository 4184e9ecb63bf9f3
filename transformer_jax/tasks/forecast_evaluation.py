"""Scores of forecasts: during training of the development windows, and of a trained model beside naive forecasts."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from flax import nnx

from transformer_jax.data.prepare_series import PreparedSeries, prepare_series
from transformer_jax.data.series import Part, Values
from transformer_jax.data.series_config import SeriesConfig, SeriesFiles
from transformer_jax.data.sources.series_files import read_series_file
from transformer_jax.environment import environment_table
from transformer_jax.errors import ConfigError, DataError, nearest_hint, shortened
from transformer_jax.inference.series_forecaster import (
    SeriesForecaster,
    forecast_program,
    run_forecasts,
    sort_quantiles,
)
from transformer_jax.tasks.evaluation_source import EvaluationSource
from transformer_jax.tasks.forecast_targets import ForecastTargets

METRICS = ("mse", "mae", "smape", "mase", "owa")
"""Names of the scores, in the order in which they are printed."""

NUM_FIGURES = 4
"""Forecasts that the figures show."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForecastEvaluation(EvaluationSource):
    """Options of a forecaster's evaluation.

    Attributes:
      figures: Folder for a figure of the error by step and figures of some forecasts.

    Example:
      >>> ForecastEvaluation(split="test").where
      'test set'
    """

    file_form: ClassVar[str] = "a CSV file of series"
    path_fields: ClassVar[tuple[str, ...]] = ("source", "figures")

    figures: Path | None = None


class ForecastEvaluator:
    """Scores of the development windows.

    Args:
      model: The model; only its structure is kept.
      prepared: The prepared series.
      point: Place of the point forecast among the model's numbers.
    """

    notes: Sequence[str] = ()
    settings: Mapping[str, str] = {}
    record: Mapping[str, Any] = {}

    def __init__(self, model: Any, prepared: PreparedSeries, *, point: int) -> None:
        config = prepared.config
        self._truth = ForecastTargets.of(prepared, "development", stride=config.evaluation_stride)
        self._scaler, self._point = prepared.scaler, point
        self._program = forecast_program(model, context_len=config.context_len)
        self._state = nnx.split(model)[1]

    @property
    def compile_seconds(self) -> float:
        """Seconds spent on compiling so far."""
        return self._program.compile_seconds

    def check(self) -> None:
        """Raise what evaluating would raise for this model, by shapes alone."""
        channels = len(self._scaler.columns)

        def make(indices: Any, num_rows: int, length: int) -> tuple[Any, ...]:
            return (np.zeros((num_rows, length, channels), np.float32),)

        self._program.check(self._state, make)

    def __call__(self, state: Any) -> dict[str, float]:
        """Scores by name, from the model's state as of ``nnx.split(model)[1]``."""
        outputs = sort_quantiles(run_forecasts(self._program, state, self._truth.contexts))
        return self._truth.scores(self._scaler.unscaled(outputs[..., self._point]), self._scaler)


def evaluate_forecasts(
    task: Any, forecaster: SeriesForecaster, options: ForecastEvaluation
) -> dict[str, Any]:
    """Score a forecaster on every window of a part, beside naive forecasts.

    Args:
      task: The task that it was trained for.
      forecaster: The trained model with its scaler.
      options: What to score it on.

    Returns:
      The scores by name: ``"mse"`` and ``"mae"`` of scaled values, as published; ``"smape"``, ``"mase"``, ``"owa"``
      (against Naive 2 of the M4 competition); ``"naive"`` with the same of the naive forecasts; ``"quantiles"`` with
      the share of targets below each quantile and the mean pinball loss; ``"text"`` and ``"remarks"`` for people.

    Raises:
      DataError: If a file is missing or bad, or the data have no such part.
      ConfigError: If the other run reads other windows.

    Example:
      >>> import tempfile
      >>> from transformer_jax.models import ForecasterConfig, LinearForecast, build_model
      >>> from transformer_jax.tasks.forecasting import Forecasting
      >>> with tempfile.TemporaryDirectory() as folder:
      ...   path = Path(folder) / "a.csv"
      ...   count = path.write_text("x\\n" + "\\n".join("1324" * 10))
      ...   files = SeriesFiles(path=str(path), num_development=0, num_test=8)
      ...   task = Forecasting(data=SeriesConfig(dataset=files, context_len=8, horizon_len=4, season_len=4))
      ...   config, artifacts = ForecasterConfig(network=LinearForecast()), task.prepare().artifacts
      ...   model = build_model(config, task.sizes(artifacts), seed=0)
      ...   forecaster = task.predictor(model, artifacts, model_config=config, name="mean")
      ...   scores = task.evaluate(forecaster, ForecastEvaluation(split="test"))
      >>> scores["lines"], round(scores["mae"], 3), scores["naive"]["seasonal naive"]["mae"]
      (5, 0.894, 0.0)
    """
    prepared, part = _prepared(task, forecaster, options)
    truth = ForecastTargets.of(prepared, part)
    if not len(truth):
        raise DataError(
            f"{options.where}: no window of {prepared.config.horizon_len:,} steps behind a context of "
            f"{prepared.config.context_len:,}"
        )
    outputs = sort_quantiles(run_forecasts(forecaster.program, forecaster.state, truth.contexts))
    values = forecaster.unscaled(outputs)
    scores = {forecaster.name: truth.scores(values[..., forecaster.point()], forecaster.scaler)}
    compared: dict[str, Any] = {}
    if options.against is not None:
        name, other = options.against
        scores[name] = _other_scores(truth, forecaster, name, other)
        compared = {"against": {"run": name, **scores[name]}}
    naive = {
        "seasonal naive": truth.scores(truth.seasonal, forecaster.scaler),
        "repeat last": truth.scores(truth.repeat_last, forecaster.scaler),
        "Naive 2": truth.scores(truth.naive2, forecaster.scaler),
    }
    text = [
        f"{options.where}: {len(truth):,} forecasts of {prepared.config.horizon_len:,} steps and "
        f"{len(forecaster.columns)} channel(s) from {prepared.config.context_len:,}",
        *_table({**scores, **naive}),
    ]
    remarks = [] if options.source is None else list(prepared.data.notes)
    if not np.isfinite(values).all():
        remarks.append("the model gives non-finite forecasts")
    constant = int(np.isnan(truth.mase_scales).sum())
    if constant:
        remarks.append(
            f"{constant:,} of {truth.mase_scales.size:,} channels are constant before the part: no MASE"
        )
    quantiles = _quantile_scores(truth, forecaster, outputs)
    if quantiles:
        below = ", ".join(f"{share:.1%} below {name}" for name, share in quantiles["below"].items())
        text.append(f"quantiles: {below}; pinball loss {quantiles['pinball']:.4f}")
    if options.figures is not None:
        text.append(f"figures: {', '.join(_draw(options.figures, prepared, truth, forecaster, values))}")
    return {
        "task": task.kind,
        "heading": f"{len(truth):,} forecasts",
        "lines": len(truth),
        **scores[forecaster.name],
        "naive": naive,
        **({"quantiles": quantiles} if quantiles else {}),
        **compared,
        "environment": environment_table(),
        "text": text,
        "remarks": remarks,
    }


def _prepared(
    task: Any, forecaster: SeriesForecaster, options: ForecastEvaluation
) -> tuple[PreparedSeries, Part]:
    """The series to score on, scaled by the run's own scaler, and the part of them."""
    config: SeriesConfig = task.data
    if options.source is None:
        part: Part = "test" if options.split == "test" else "development"
        return prepare_series(config, scaler=forecaster.scaler), part
    own = config.dataset
    known = own if isinstance(own, SeriesFiles) else SeriesFiles(path=str(options.source))
    found = read_series_file(
        str(options.source),
        time_column=known.time_column,
        wanted=forecaster.columns,
        skip_text=len(forecaster.columns) == 1,
    )
    columns = _file_columns(found.columns, forecaster, str(options.source))
    rows = len(found.series[0].values)
    if rows < config.window_len:
        raise DataError(
            f"{options.source}: {rows:,} rows, wanted at least {config.window_len:,}: a context of "
            f"{config.context_len:,} and a horizon of {config.horizon_len:,}"
        )
    # The first context is what stands before the test part: naive forecasts are measured on it.
    dataset = dataclasses.replace(
        known,
        path=str(options.source),
        columns=columns,
        has_header=None,
        num_development=0,
        num_test=rows - config.context_len,
    )
    scaler = dataclasses.replace(forecaster.scaler, columns=columns)
    config = dataclasses.replace(config, dataset=dataset)
    return prepare_series(config, scaler=scaler, is_training=False), "test"


def _file_columns(found: Sequence[str], forecaster: SeriesForecaster, where: str) -> tuple[str, ...]:
    """Columns of a file that stand for the run's channels, in their order.

    They are those of the same names; otherwise the only column of numbers is the only channel, and the columns of a
    file without names are the channels in their order.
    """
    wanted = forecaster.columns
    if set(wanted) <= set(found):
        return wanted
    if len(found) == len(wanted) and (len(wanted) == 1 or found[0].startswith("column ")):
        return tuple(found)
    columns = shortened(", ".join(found))
    if len(wanted) == 1:
        raise DataError(
            f"{where}: {len(found)} columns of numbers, {columns}; {forecaster.name} reads one: leave the others "
            f"out, or name it {wanted[0]!r}"
        )
    missing = next(name for name in wanted if name not in found)
    raise DataError(
        f"{where}: no column {missing!r}{nearest_hint(missing, found)}; it has {columns}, {forecaster.name} reads "
        f"{shortened(', '.join(wanted))}"
    )


def _other_scores(
    truth: ForecastTargets, forecaster: SeriesForecaster, name: str, other: Any
) -> dict[str, float]:
    """Scores of another run on the same windows, in the units of the first one's scaler."""
    same = isinstance(other, SeriesForecaster) and (other.columns, other.horizon_len) == (
        forecaster.columns,
        forecaster.horizon_len,
    )
    if not same or other.context_len > forecaster.context_len:
        raise ConfigError(
            f"{name} has other columns or another horizon than {forecaster.name}, or a longer context: only runs on "
            "the same windows can be compared"
        )
    contexts = forecaster.scaler.unscaled(truth.contexts[:, -other.context_len :])
    values = sort_quantiles(other.unscaled(other.outputs(contexts)))
    return truth.scores(values[..., other.point()], forecaster.scaler)


def _table(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    width = max(len(name) for name in scores)
    titles = {"mse": "MSE", "mae": "MAE", "smape": "sMAPE", "mase": "MASE", "owa": "OWA"}
    lines = [f"{'':<{width}}" + "".join(f"{titles[name]:>11}" for name in METRICS)]
    for name, found in scores.items():
        lines.append(f"{name:<{width}}" + "".join(f"{_shown(found[one]):>11}" for one in METRICS))
    return lines


def _shown(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:.3e}"


def _quantile_scores(truth: ForecastTargets, forecaster: SeriesForecaster, outputs: Any) -> dict[str, Any]:
    if not forecaster.quantiles:
        return {}
    errors = truth.scaled[..., None] - np.asarray(outputs, np.float64)
    quantiles = np.array(forecaster.quantiles)
    pinball = np.maximum(quantiles * errors, (quantiles - 1.0) * errors).mean(axis=-1)
    counted = truth.weights > 0
    below = {
        f"{quantile:g}": float((errors[..., place] <= 0)[counted].mean())
        for place, quantile in enumerate(forecaster.quantiles)
    }
    return {"below": below, "pinball": float(pinball[counted].mean())}


def _draw(
    folder: Path,
    prepared: PreparedSeries,
    truth: ForecastTargets,
    forecaster: SeriesForecaster,
    values: Values,
) -> list[str]:
    from transformer_jax.plot.forecast_figures import ForecastPanel, band_name, error_figure, forecast_figure

    names = forecaster.columns
    files = [folder / "error_by_step.png"]
    forecasts = {
        forecaster.name: values[..., forecaster.point()],
        "seasonal naive": truth.seasonal,
        "repeat last": truth.repeat_last,
    }
    error_figure({name: truth.errors_by_step(found) for name, found in forecasts.items()}, path=files[0])
    ordered = np.sort(values, axis=-1)
    contexts = forecaster.scaler.unscaled(truth.contexts)
    chosen = np.unique(np.linspace(0, len(truth) - 1, NUM_FIGURES).astype(int))
    for window in chosen.tolist():
        panels = [
            ForecastPanel(
                title=name if len(names) > 1 else truth.names[window],
                context=contexts[window, :, channel],
                forecast=ordered[window, :, channel, forecaster.point()],
                truth=truth.targets[window, :, channel],
                band=(ordered[window, :, channel, 0], ordered[window, :, channel, -1])
                if len(forecaster.quantiles) > 1
                else None,
            )
            for channel, name in enumerate(names)
        ]
        files.append(folder / f"forecast_{window + 1}.png")
        forecast_figure(panels, band_name=band_name(forecaster.quantiles), path=files[-1])
    return [str(file) for file in files]
