"""Series in, forecasts out: a trained forecaster with its scaler."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from flax import nnx

from transformer_jax.config_json import finite_json
from transformer_jax.data.buckets import PaddedLengths
from transformer_jax.data.series import Gaps, Series, Values, fill_gaps
from transformer_jax.data.series_scaler import SeriesScaler
from transformer_jax.errors import DataError, ShapeError, nearest_hint, shortened
from transformer_jax.inference.line_report import LineReport
from transformer_jax.inference.row_program import RowProgram

Outputs = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Forecast:
    """A forecast of one series.

    Attributes:
      name: Name of the series.
      columns: Names of its channels.
      values: ``[horizon, channels]``, the point forecast: the mean, or the median where there are quantiles.
      quantiles: Forecasts of the same shape by quantile, in growing order; none where the model gives points.
      times: Times of the steps, as texts; numbers of rows where the series has no times.
      context: ``[time, channels]``, the values that the model read.
      context_times: Times of the steps of the context.

    Example:
      >>> one = np.array([[2.0]])
      >>> Forecast(name="a", columns=("x",), values=one, quantiles={0.5: one}, times=("2024-01-31",), context=one,
      ...   context_times=("2023-12-31",)).as_dict()["quantiles"]
      {'0.5': [[2.0]]}
    """

    name: str
    columns: tuple[str, ...]
    values: Values
    quantiles: Mapping[float, Values]
    times: tuple[str, ...]
    context: Values
    context_times: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything but the context as plain values, for JSON; what is not finite is None."""
        return {
            "name": self.name,
            "columns": list(self.columns),
            "times": list(self.times),
            "values": finite_json(self.values.tolist()),
            "quantiles": {f"{key:g}": finite_json(value.tolist()) for key, value in self.quantiles.items()},
        }


@dataclasses.dataclass
class SeriesForecaster:
    """A trained forecaster.

    Attributes:
      name: Of the run, for messages.
      model: The model with its trained parameters.
      scaler: Scaler of the training part.
      context_len: Steps that a forecast is made from.
      horizon_len: Steps that are forecast.
      quantiles: Those that the model gives; none for points.
      gaps: What to do with missing values.
      report: Remarks on what was done to series so far.

    Example:
      >>> from transformer_jax.models import ForecasterConfig, LinearForecast, Sizes, build_model
      >>> sizes = Sizes(num_channels=1, context_len=4, horizon_len=2, num_outputs=1)
      >>> model = build_model(ForecasterConfig(network=LinearForecast()), sizes, seed=0)
      >>> forecaster = SeriesForecaster(
      ...   name="mean", model=model, scaler=SeriesScaler(("x",), (0.0,), (1.0,)), context_len=4, horizon_len=2)
      >>> forecast = forecaster.forecast(np.array([9.0, 1.0, 2.0, 3.0, 2.0]))[0]
      >>> forecast.values.round(3).tolist(), forecast.times  # an untrained map gives the mean of the context
      ([[2.0], [2.0]], ('6', '7'))
    """

    verbs: ClassVar[tuple[str, ...]] = ("forecast",)

    name: str
    model: Any
    scaler: SeriesScaler
    context_len: int
    horizon_len: int
    quantiles: tuple[float, ...] = ()
    gaps: Gaps = "fail"
    report: LineReport = dataclasses.field(default_factory=LineReport)
    _program: RowProgram | None = dataclasses.field(default=None, init=False, repr=False, compare=False)

    @property
    def state(self) -> nnx.State:
        """The model's state."""
        return nnx.split(self.model)[1]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the channels, in the order of the model."""
        return self.scaler.columns

    def forecast(self, series: Any, *, columns: Sequence[str] = ()) -> list[Forecast]:
        """The next steps of each series, from its last ones; a forecast does not depend on the series beside it.

        A run of one channel takes series of any channels: each of them is forecast by itself.

        Args:
          series: Series, or arrays ``[time, channels]`` (``[time]`` of one channel): a list of them, or one.
          columns: Names of the channels of series in the order of their values; none for those of the run.

        Returns:
          A forecast for each series, or for each channel of each series.

        Raises:
          DataError: If a series is shorter than the context, lacks a channel, or has a missing value that must not be.
          ShapeError: If an array has not the run's channels.
          TypeError: If there is something else than numbers.
        """
        wanted = [series] if isinstance(series, Series | np.ndarray) else list(series)
        found = [self._known(one, place, columns) for place, one in enumerate(wanted)]
        parts = [part for one, names in found for part in self._channels(one, names)]
        known = [self._context(one, names) for one, names in parts]
        contexts = [
            self.scaler.model_values(context, where=one.name)
            for (one, _), context in zip(parts, known, strict=True)
        ]
        if not parts:
            return []
        outputs = run_forecasts(self.program, self.state, np.stack(contexts))
        return [
            self._forecast(one, names, context, output)
            for (one, names), context, output in zip(parts, known, outputs, strict=True)
        ]

    def outputs(self, contexts: Values) -> Outputs:
        """Scaled numbers ``[series, horizon, channels, outputs]`` for contexts ``[series, time, channels]``."""
        scaled = self.scaler.model_values(contexts, where=self.name)
        return run_forecasts(self.program, self.state, scaled)

    @property
    def program(self) -> RowProgram:
        """The compiled model."""
        if self._program is None:
            self._program = forecast_program(self.model, context_len=self.context_len)
        return self._program

    def unscaled(self, outputs: Outputs) -> Values:
        """Numbers of the model in the units of the series, of the same shape."""
        return np.moveaxis(self.scaler.unscaled(np.moveaxis(outputs, -1, -2)), -1, -2)

    def point(self) -> int:
        """Place of the point forecast among a model's numbers."""
        return self.quantiles.index(0.5) if self.quantiles else 0

    def _known(self, one: Any, place: int, columns: Sequence[str]) -> tuple[Series, tuple[str, ...]]:
        if not isinstance(one, Series):
            try:
                values = np.asarray(one, np.float64)
            except (TypeError, ValueError):
                raise TypeError(f"series[{place}] must be numbers [time, channels], or a Series") from None
            if values.ndim not in (1, 2):
                raise ShapeError(
                    f"series[{place}] must be [time, channels] or [time], got shape {values.shape}"
                )
            one = Series(name=f"series {place + 1}", values=values.reshape(len(values), -1))
        if columns:
            names = tuple(columns)
        elif one.values.shape[1] == len(self.columns):
            names = self.columns
        else:
            names = tuple(f"channel {number + 1}" for number in range(one.values.shape[1]))
        if len(names) != one.values.shape[1]:
            raise ShapeError(f"{one.name}: {one.values.shape[1]} channels, and {len(names)} names of columns")
        return one, names

    def _channels(self, one: Series, names: tuple[str, ...]) -> list[tuple[Series, tuple[str, ...]]]:
        """A series of the run's channels, or each of its channels as a series of its own."""
        if len(self.columns) == 1:
            return [
                (dataclasses.replace(one, values=one.values[:, [place]]), (name,))
                for place, name in enumerate(names)
            ]
        if not set(self.columns) <= set(names):
            if len(names) == len(self.columns) == one.values.shape[1] and names[0].startswith("column "):
                return [(one, self.columns)]  # a file without names: in the order of the run
            missing = next(name for name in self.columns if name not in names)
            raise DataError(
                f"{one.name}: no column {missing!r}{nearest_hint(missing, names)}; {self.name} reads "
                f"{shortened(', '.join(self.columns))}"
            )
        extra = [name for name in names if name not in self.columns]
        if extra:
            self.report.remark(
                f"{one.name}: columns that {self.name} does not read: {shortened(', '.join(extra))}"
            )
        places = [names.index(name) for name in self.columns]
        return [(dataclasses.replace(one, values=one.values[:, places]), self.columns)]

    def _context(self, one: Series, names: Sequence[str]) -> Values:
        if len(one.values) < self.context_len:
            raise DataError(
                f"{one.name}: {len(one.values):,} rows, {self.name} forecasts from the last {self.context_len:,}: give "
                "more"
            )
        values = one.values
        if np.isnan(values).any():
            # What stands long before the context does not matter.
            start = max(0, len(values) - 2 * self.context_len)
            while start and np.isnan(values[start]).any():
                start -= 1
            axis = one.axis and dataclasses.replace(one.axis, start=one.axis.start + start * one.axis.step)
            cut = Series(name=one.name, values=values[start:], axis=axis)
            gaps = self.gaps if np.isnan(values[-self.context_len :]).any() else "hold"
            values = fill_gaps(cut, gaps, names, option="gaps")
        return values[-self.context_len :]

    def _forecast(self, one: Series, names: tuple[str, ...], context: Values, output: Outputs) -> Forecast:
        ordered = sort_quantiles(self.unscaled(output))
        end = len(one.values)
        rows = range(end, end + self.horizon_len)

        def text(row: int) -> str:
            return str(row + 1) if one.axis is None else one.axis.text(row)

        return Forecast(
            name=one.name,
            columns=names,
            values=ordered[..., self.point()],
            quantiles={quantile: ordered[..., place] for place, quantile in enumerate(self.quantiles)},
            times=tuple(map(text, rows)),
            context=context,
            context_times=tuple(map(text, range(end - self.context_len, end))),
        )


def sort_quantiles(outputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Quantiles from low to high: they come from the model by themselves, and may cross where they lie close together.

    Example:
      >>> sort_quantiles(np.array([[2.0, 1.0, 3.0]])).tolist()
      [[1.0, 2.0, 3.0]]
    """
    return np.sort(outputs, axis=-1)


def forecast_program(model: Any, *, context_len: int) -> RowProgram:
    """The program that computes scaled forecasts ``[horizon, channels, outputs]`` of contexts.

    Args:
      model: A forecaster, see `transformer_jax.models.forecaster`.
      context_len: Steps of a context.
    """
    return RowProgram(
        model, lambda model, context: model(context), lengths=PaddedLengths((context_len,)), batch_size=64
    )


def run_forecasts(program: RowProgram, state: Any, contexts: npt.NDArray[np.float32]) -> Outputs:
    """Scaled forecasts of scaled contexts, in batches.

    Args:
      program: As of `forecast_program`.
      state: The model's state, as of ``nnx.split(model)[1]``.
      contexts: ``[rows, time, channels]``.

    Returns:
      ``[rows, horizon, channels, outputs]``.
    """

    def make(indices: npt.NDArray[np.int64], num_rows: int, length: int) -> tuple[Any, ...]:
        batch = np.zeros((num_rows, *contexts.shape[1:]), np.float32)
        batch[: len(indices)] = contexts[indices]
        return (batch,)

    found = program.run(state, [contexts.shape[1]] * len(contexts), make)
    return np.stack(found) if found else np.zeros((0, 0, contexts.shape[2], 0), np.float32)
