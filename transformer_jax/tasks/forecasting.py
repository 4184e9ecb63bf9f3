"""Forecasting: the next steps of time series, as points or quantiles, beside naive forecasts."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from transformer_jax.data.prepare_series import PreparedSeries, SeriesReport, prepare_series
from transformer_jax.data.series_config import NamedSeries, SeriesConfig, with_absolute_series_paths
from transformer_jax.data.series_scaler import SeriesScaler
from transformer_jax.data.series_windows import SeriesBatch, SeriesWindows, abstract_series_batch
from transformer_jax.data.sources.stored_files import is_at_hand
from transformer_jax.errors import ConfigError
from transformer_jax.inference.series_forecaster import SeriesForecaster
from transformer_jax.models.sizes import Sizes
from transformer_jax.objectives import SquaredError
from transformer_jax.objectives.families import SeriesObjective
from transformer_jax.tasks.forecast_evaluation import (
    METRICS,
    ForecastEvaluation,
    ForecastEvaluator,
    evaluate_forecasts,
)
from transformer_jax.tasks.task import Artifacts, Direction, check_files, check_sizes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forecasting:
    """The next steps of time series.

    Attributes:
      data: Series, windows and batches.
      objective: Loss that an update minimises: squared error for points, pinball loss for quantiles.

    Example:
      >>> sorted(Forecasting.metrics)
      ['mae', 'mase', 'mse', 'owa', 'smape']
    """

    kind: Literal["forecasting"] = "forecasting"
    metrics: ClassVar[Mapping[str, Direction]] = dict.fromkeys(METRICS, "min")
    artifact_types: ClassVar[Mapping[str, Any]] = {"scaler": SeriesScaler}
    sizes_given: ClassVar[tuple[str, ...]] = ("num_channels", "context_len", "horizon_len", "num_outputs")
    evaluation_type: ClassVar[Any] = ForecastEvaluation

    data: SeriesConfig = dataclasses.field(default_factory=SeriesConfig)
    objective: SeriesObjective = dataclasses.field(default_factory=SquaredError)

    def check(self, model: Any) -> None:
        """Raise ``ConfigError`` if a model's config does not go with the task."""
        check_sizes(self, model)
        network = getattr(model, "network", None)
        if network is not None:
            network.check(self.data.context_len, self.data.horizon_len)

    def check_objective(self, model: Any) -> None:
        """Nothing: each objective goes with each forecaster."""

    def prepare(self, artifacts: Artifacts | None = None) -> "PreparedForecasting":
        """Read the series, fit the scaler on the training parts unless it is given, and plan the batches."""
        return PreparedForecasting(prepare_series(self.data, scaler=(artifacts or {}).get("scaler")))

    def sizes(self, artifacts: Artifacts, *, is_training: bool = False) -> Sizes:
        """Channels, lengths, and the numbers that forecast a value."""
        return self._sizes(len(artifacts["scaler"].columns))

    def _sizes(self, num_channels: int) -> Sizes:
        return Sizes(
            num_channels=num_channels,
            context_len=self.data.context_len,
            horizon_len=self.data.horizon_len,
            num_outputs=max(1, len(self.objective.quantiles)),
        )

    def evaluator(
        self, model: Any, prepared: "PreparedForecasting", *, num_devices: int = 1
    ) -> ForecastEvaluator:
        """Scores of the development windows."""
        quantiles = self.objective.quantiles
        return ForecastEvaluator(model, prepared.series, point=quantiles.index(0.5) if quantiles else 0)

    def predictor(
        self, model: Any, artifacts: Artifacts, *, model_config: Any, name: str
    ) -> SeriesForecaster:
        """A forecaster of series."""
        return SeriesForecaster(
            name=name,
            model=model,
            scaler=artifacts["scaler"],
            context_len=self.data.context_len,
            horizon_len=self.data.horizon_len,
            quantiles=self.objective.quantiles,
            gaps=self.data.gaps,
        )

    def evaluate(self, predictor: SeriesForecaster, options: ForecastEvaluation) -> dict[str, Any]:
        """Scores beside naive forecasts, see `evaluate_forecasts`."""
        return evaluate_forecasts(self, predictor, options)

    def file_overrides(self, files: Mapping[str, Sequence[str]]) -> list[str]:
        """Overrides that train on a CSV file of one's own, whose last rows are held out."""
        check_files(self.kind, files, known=("text",), needed=("text",))
        if len(files["text"]) > 1:
            raise ConfigError(f"`text`: a forecaster trains on one file, got {len(files['text'])}")
        return [f"task.data.dataset={json.dumps({'kind': 'files', 'path': files['text'][0]})}"]

    def tokenizer_overrides(self, path: str) -> list[str]:
        """Refused: series have no tokens.

        Raises:
          ConfigError: Always.
        """
        raise ConfigError("task 'forecasting' reads numbers and takes no `tokenizer`: leave it out")

    def with_absolute_paths(self) -> Self:
        """The same task, its files to be found from any folder."""
        return dataclasses.replace(self, data=with_absolute_series_paths(self.data))

    def plan_lengths(self) -> tuple[int, ...]:
        """Steps of a context."""
        return (self.data.context_len,)

    def plan_rows(self, lengths: tuple[int, ...]) -> int:
        """Windows of a training batch."""
        return self.data.batch_size

    def abstract_batch(self, rows: int, lengths: tuple[int, ...]) -> SeriesBatch:
        """Shapes of a training batch."""
        return abstract_series_batch(rows, lengths[0], self.data.horizon_len, len(self._columns()))

    def known_sizes(self, vocab_sizes: tuple[int, ...] = ()) -> Sizes | None:
        """Sizes of the config, with the channels of the data."""
        return self._sizes(len(self._columns()))

    def _columns(self) -> tuple[str, ...]:
        dataset = self.data.dataset
        return dataset.columns or dataset.load().columns

    def is_at_hand(self) -> bool:
        """Whether the series can be read without fetching anything."""
        return not isinstance(self.data.dataset, NamedSeries) or is_at_hand(self.data.dataset.name)

    def splits(self) -> tuple[str, ...]:
        """Parts that the series have."""
        found = self.data.dataset.load()
        return tuple(part for part in ("test", "development") if found.num_rows(part))


@dataclasses.dataclass(frozen=True)
class PreparedForecasting:
    """Prepared series, as the task protocol sees them.

    Attributes:
      series: The prepared series.
    """

    series: PreparedSeries

    @property
    def train(self) -> SeriesWindows:
        """Training batches."""
        assert self.series.train is not None  # as `Forecasting.prepare` makes it
        return self.series.train

    @property
    def artifacts(self) -> dict[str, SeriesScaler]:
        """The scaler."""
        return {"scaler": self.series.scaler}

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of the training and the development windows."""
        return {
            "training data": self.train.fingerprint(),
            "development data": self.series.windows["development"].fingerprint(),
        }

    @property
    def has_development(self) -> bool:
        """Whether there is a development window."""
        return len(self.series.windows["development"]) > 0

    @property
    def report(self) -> SeriesReport:
        """Sizes and remarks."""
        return self.series.report
