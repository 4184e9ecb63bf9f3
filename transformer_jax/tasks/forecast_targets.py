"""Windows to forecast, and what forecasts of them are measured by."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from transformer_jax.data.prepare_series import PreparedSeries
from transformer_jax.data.series import Part, Values
from transformer_jax.evaluate.forecast_scores import (
    SeasonalFactors,
    naive_error,
    overall_weighted_average,
    scaled_errors,
    seasonal_naive,
    smape,
)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ForecastTargets:
    """Windows of a part, and what their forecasts are measured by.

    Attributes:
      contexts: ``[windows, time, channels]``, scaled.
      targets: ``[windows, horizon, channels]``, in the units of the series.
      scaled: The same, scaled.
      weights: 1 where a target was observed.
      mase_scales: ``[windows, channels]``: error of the seasonal naive forecast before the part; NaN where it is 0.
      naive2: ``[windows, horizon, channels]``: Naive 2 of the M4 competition.
      repeat_last: The last value, again and again.
      seasonal: The last season, again and again.
      names: ``[windows]``, names of the series.

    Example:
      >>> import tempfile
      >>> from pathlib import Path
      >>> from transformer_jax.data.prepare_series import prepare_series
      >>> from transformer_jax.data.series_config import SeriesConfig, SeriesFiles
      >>> with tempfile.TemporaryDirectory() as folder:
      ...   path = Path(folder) / "a.csv"
      ...   count = path.write_text("x\\n" + "\\n".join("1324" * 10))
      ...   data = SeriesFiles(path=str(path), num_development=0, num_test=8)
      ...   config = SeriesConfig(dataset=data, context_len=8, horizon_len=4, season_len=4)
      ...   targets = ForecastTargets.of(prepare_series(config), "test")
      >>> len(targets), targets.targets[0, :, 0].tolist(), targets.repeat_last[0, :, 0].tolist()
      (5, [1.0, 3.0, 2.0, 4.0], [4.0, 4.0, 4.0, 4.0])
    """

    contexts: npt.NDArray[np.float32]
    targets: Values
    scaled: Values
    weights: Values
    mase_scales: Values
    naive2: Values
    repeat_last: Values
    seasonal: Values
    names: tuple[str, ...]

    @classmethod
    def of(cls, prepared: PreparedSeries, part: Part, *, stride: int = 1) -> "ForecastTargets":
        """The windows of a part.

        Args:
          prepared: The prepared series.
          part: The part.
          stride: Windows of each series are counted from its first one, and every ``stride``-th is taken.
        """
        found, owners = prepared.windows[part], prepared.owners[part]
        # Counted from the first window of each series, so that each has at least one.
        firsts = np.searchsorted(owners, owners)
        chosen = np.flatnonzero((np.arange(len(owners)) - firsts) % stride == 0)
        owners = owners[chosen]
        contexts, scaler, config = found.inputs(chosen), prepared.scaler, prepared.config
        channels = found.values.shape[1]
        season, horizon = config.season_len, config.horizon_len
        targets = np.zeros((len(chosen), horizon, channels))
        naive2, mase_scales = np.zeros_like(targets), np.full((len(chosen), channels), np.nan)
        repeat_last, seasonal = np.zeros_like(targets), np.zeros_like(targets)
        starts = np.concatenate([[0], np.cumsum([len(one) for one in prepared.values])])
        for number in np.unique(owners):
            rows = np.flatnonzero(owners == number)
            values, series = prepared.values[number], prepared.data.series[number]
            origins = found.origins[chosen[rows]] - starts[number]
            targets[rows] = values[origins[:, None] + np.arange(horizon)]
            # A season before each window, also where the model's context is shorter.
            back = values[origins[:, None] + np.arange(-min(season, int(origins.min())), 0)]
            repeat_last[rows] = seasonal_naive(back, horizon, 1)
            seasonal[rows] = seasonal_naive(back, horizon, season)
            known = values[: len(series.before(part))]
            error = naive_error(series.before(part), season)
            mase_scales[rows] = np.where(error > 0, error, np.nan)
            for channel in range(channels):
                factors = SeasonalFactors.of(known[:, channel], season)
                naive2[rows, :, channel] = factors.forecast(values[origins - 1, channel], origins, horizon)
        return cls(
            contexts=contexts,
            targets=targets,
            scaled=scaler.scaled(targets),
            weights=found.weights(chosen).astype(np.float64),
            mase_scales=mase_scales,
            naive2=naive2,
            repeat_last=repeat_last,
            seasonal=seasonal,
            names=tuple(prepared.data.series[number].name for number in owners.tolist()),
        )

    def __len__(self) -> int:
        return len(self.contexts)

    def scores(self, forecasts: Values, scaler: Any) -> dict[str, float]:
        r"""Scores of point forecasts, means over the observed targets of all windows, steps and channels.

        .. math:: \mathrm{MSE} = \overline{(z - \hat z)^2}, \quad \mathrm{MAE} = \overline{|z - \hat z|}

        of scaled values :math:`z`; sMAPE (`smape`), MASE (`scaled_errors`) and OWA (`overall_weighted_average`) of
        values in the units of the series. Channels that are constant before the part do not count in MASE.

        Args:
          forecasts: ``[windows, horizon, channels]``, in the units of the series.
          scaler: `SeriesScaler` of the scaled targets.

        Returns:
          ``"mse"``, ``"mae"``, ``"smape"``, ``"mase"`` and ``"owa"``.
        """
        found = self._errors(forecasts)
        scaled = scaler.scaled(forecasts) - self.scaled
        naive2 = self._errors(self.naive2)
        owa = overall_weighted_average(found["smape"], found["mase"], naive2["smape"], naive2["mase"])
        return {
            "mse": self._mean(np.square(scaled)),
            "mae": self._mean(np.abs(scaled)),
            **found,
            "owa": owa,
        }

    def errors_by_step(self, forecasts: Values) -> Values:
        """MASE of each step of the horizon, from forecasts ``[windows, horizon, channels]``."""
        weights = self.weights * np.isfinite(self.mase_scales)[:, None]
        errors = np.abs(forecasts - self.targets) / np.nan_to_num(self.mase_scales, nan=1.0)[:, None]
        total = np.maximum(weights.sum(axis=(0, 2)), 1.0)
        return np.where(weights > 0, errors, 0.0).sum(axis=(0, 2)) / total

    def _errors(self, forecasts: Values) -> dict[str, float]:
        scaled = scaled_errors(self.targets, forecasts, self.mase_scales)
        has_scale = np.broadcast_to(np.isfinite(self.mase_scales)[:, None], scaled.shape)
        return {
            "smape": self._mean(smape(self.targets, forecasts)),
            "mase": self._mean(np.where(has_scale, scaled, 0.0), has_scale),
        }

    def _mean(self, errors: Values, counted: npt.NDArray[np.bool_] | None = None) -> float:
        weights = self.weights if counted is None else self.weights * counted
        total = float(weights.sum())
        return float((np.where(weights > 0, errors, 0.0) * weights).sum() / total) if total else 0.0
