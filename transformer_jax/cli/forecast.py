"""``transformer-jax forecast``: a CSV of series in, a CSV of their next steps out."""

import csv
import dataclasses
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from transformer_jax.errors import ConfigError, DataError

DESCRIPTION = """Forecast the next steps of time series with a trained model: a CSV of columns in, a CSV out.

The input has a row for each point in time, the oldest first or with a column of times (date, time, timestamp, ...),
by which rows are sorted; its columns are those of the run, and others are left alone. A run of one channel, as of M4,
forecasts each column of numbers by itself. The output goes on with the times of the input and has a column for each
series, and further ones for the quantiles where the model gives them.

A value that is missing is an error, unless --gaps hold, or the run (data.gaps=hold), holds the one before it. Fewer
rows than the model reads (data.context_len), text among the numbers and a time that stands twice are errors that name
the line. Text in columns that the run does not read is no matter.

Examples:
  transformer-jax forecast runs/etth1-linear --input ETTh1.csv
  transformer-jax forecast runs/m4 --input sales.csv --output next.csv --figures pictures
  transformer-jax forecast runs/m4 --json < sales.csv

--json writes an object for each series: times, values, and quantiles by name.
--figures FOLDER draws each series with its forecast and the band between the outermost quantiles."""


@dataclasses.dataclass(frozen=True)
class Command:
    run_dir: tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="RUN_DIR")]] = None
    """Folder of a trained run, or of an exported model."""

    pretrained: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Instead of a folder: a model that comes with the library."""

    input: Annotated[Path | None, tyro.conf.arg(metavar="FILE.csv")] = None
    """Series to go on with; without it standard input."""

    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE.csv")] = None
    """Where the forecasts go; without it standard output."""

    time_column: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Column of the times; without it one that is named so, or the first one if it holds dates."""

    columns: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    """Columns to forecast, of a run of one channel; without it all but the times."""

    header: Literal["yes", "no"] | None = None
    """Whether the first row names the columns; without it the rows tell."""

    gaps: Literal["fail", "hold"] | None = None
    """Missing values: `fail` refuses them, `hold` repeats the value before; without it as in training."""

    figures: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Draw the series with their forecasts there."""

    json: bool = False
    """Write a JSON object for each series."""

    def run(self) -> int:
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.cli.line_groups import note_remarks, opened_output, write_texts
        from transformer_jax.cli.loaded import load_for
        from transformer_jax.files import require_other_file
        from transformer_jax.inference.series_forecaster import SeriesForecaster
        from transformer_jax.notes import note
        from transformer_jax.runs.model_folder import chosen_folder

        require_other_file("--output", self.output, [self.input])
        folder = chosen_folder(self.run_dir, self.pretrained)
        forecaster: SeriesForecaster = load_for("forecast", SeriesForecaster, folder).predictor
        forecaster.gaps = self.gaps or forecaster.gaps
        found = self._series(forecaster)
        for remark in found.notes:
            note(f"note: {_with_flag(remark)}")
        forecasts = forecaster.forecast(found.series[0], columns=found.columns)
        note_remarks(forecaster.report)
        if self.json:
            texts = [json.dumps(one.as_dict(), allow_nan=False) + "\n" for one in forecasts]
        else:
            texts = [as_csv(forecasts)]
        with opened_output(self.output) as out:
            write_texts(out, texts, self.output)
        if self.figures is not None:
            draw(forecasts, self.figures)
            note(f"note: figures in {self.figures}")
        return 0

    def _series(self, forecaster: Any) -> Any:
        from transformer_jax.cli.streams import require_open
        from transformer_jax.data.readers import split_lines
        from transformer_jax.data.sources.series_files import parse_series, read_series_file

        # Text in a column that the run does not read does not matter.
        wanted = forecaster.columns if len(forecaster.columns) > 1 else ()
        options: dict[str, Any] = {
            "time_column": self.time_column,
            "columns": self.columns,
            "wanted": wanted,
            "has_header": None if self.header is None else self.header == "yes",
            "skip_text": not wanted,
        }
        if self.columns and wanted:
            raise ConfigError(f"--columns: the run reads {', '.join(wanted)}; leave it out")
        try:
            if self.input is not None:
                return read_series_file(self.input, **options)
            require_open(0, "--input FILE.csv")
            lines = split_lines(sys.stdin.buffer.read(), "standard input")
            return parse_series(lines, "standard input", **options)
        except DataError as error:
            raise DataError(_with_flag(str(error))) from None


def _with_flag(text: str) -> str:
    """A message with this command's own flags in the place of values of the config."""
    return text.replace("`data.dataset.columns`", "--columns").replace(
        "`data.dataset.has_header`", "--header"
    )


def as_csv(forecasts: Sequence[Any]) -> str:
    """A row for each step, a column for each channel, and behind it one for each quantile."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    titles, columns = ["time"], []
    for one in forecasts:
        for place, name in enumerate(one.columns):
            titles.append(name)
            columns.append(one.values[:, place])
            for quantile, values in one.quantiles.items():
                titles.append(f"{name} q{quantile:g}")
                columns.append(values[:, place])
    writer.writerow(titles)
    for row, time in enumerate(forecasts[0].times):
        writer.writerow([time, *(f"{column[row]:.9g}" for column in columns)])
    return file.getvalue()


def draw(forecasts: Sequence[Any], folder: Path) -> None:
    """A figure of the forecasts: a panel for each channel, 24 of them a file."""
    from transformer_jax.plot.forecast_figures import (
        MAX_PANELS,
        ForecastPanel,
        band_name,
        forecast_figure,
    )

    panels = []
    for one in forecasts:
        names = list(one.quantiles)
        for place, name in enumerate(one.columns):
            band = None
            if len(names) > 1:
                band = (one.quantiles[names[0]][:, place], one.quantiles[names[-1]][:, place])
            panels.append(
                ForecastPanel(
                    title=name,
                    context=one.context[:, place],
                    forecast=one.values[:, place],
                    band=band,
                    times=(*one.context_times, *one.times),
                )
            )
    quantiles = tuple(forecasts[0].quantiles)
    for number, start in enumerate(range(0, len(panels), MAX_PANELS), start=1):
        name = f"forecast_{number}.png" if len(panels) > MAX_PANELS else "forecast.png"
        forecast_figure(
            panels[start : start + MAX_PANELS], band_name=band_name(quantiles), path=folder / name
        )
