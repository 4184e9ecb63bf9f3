"""From a config to windows: read, scale by the training part alone, cut."""

import dataclasses

import numpy as np

from transformer_jax.data.series import PARTS, Part, SeriesSet, Values, fill_gaps
from transformer_jax.data.series_config import SeriesConfig
from transformer_jax.data.series_scaler import SeriesScaler
from transformer_jax.data.series_windows import SeriesWindows, WindowSet, row_offsets, window_origins
from transformer_jax.errors import DataError, shortened


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeriesReport:
    """Sizes of prepared series.

    Attributes:
      num_series: Series.
      columns: Names of the channels.
      num_rows: Rows of each part, by its name.
      num_windows: Windows of each part, by its name.
      batches: The training batches, in words.
      batches_per_epoch: Training batches of an epoch.
      notes: Remarks, for reports.
    """

    num_series: int
    columns: tuple[str, ...]
    num_rows: dict[Part, int]
    num_windows: dict[Part, int]
    batches: str
    batches_per_epoch: int
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report for people, a few lines."""
        parts = ", ".join(
            f"{self.num_rows[part]:,} {part} rows with {self.num_windows[part]:,} windows" for part in PARTS
        )
        names = shortened(", ".join(self.columns))
        return [
            f"data: {self.num_series:,} series of {len(self.columns)} channel(s): {names}",
            f"parts: {parts}",
            f"batches: {self.batches_per_epoch:,} an epoch; {self.batches}",
            *(f"note: {note}" for note in self.notes),
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedSeries:
    """Everything that training and evaluating a forecaster read.

    Attributes:
      config: What it was prepared from.
      data: The series as they were read.
      values: ``[time, channels]`` of each series, unscaled, without gaps.
      scaler: The scaler of the training parts.
      windows: Windows of each part.
      owners: Number of the series of each window, of each part.
      train: Training batches; None where none were wanted.
      report: Sizes and remarks.
    """

    config: SeriesConfig
    data: SeriesSet
    values: tuple[Values, ...]
    scaler: SeriesScaler
    windows: dict[Part, WindowSet]
    owners: dict[Part, np.ndarray]
    train: SeriesWindows | None
    report: SeriesReport


def prepare_series(
    config: SeriesConfig, *, scaler: SeriesScaler | None = None, is_training: bool = True
) -> PreparedSeries:
    """Read, scale and cut.

    Args:
      config: What to prepare.
      scaler: A scaler to use, as of a run to resume; None fits one on the training parts.
      is_training: Whether training batches are wanted; otherwise there need be no training window.

    Raises:
      DataError: If a file is missing or bad, a value is missing and must not be, the columns are not those of the
        scaler, or no series is long enough for a window of its training part.

    Example:
      >>> import tempfile
      >>> from pathlib import Path
      >>> from transformer_jax.data.series_config import SeriesFiles
      >>> with tempfile.TemporaryDirectory() as folder:
      ...   path = Path(folder) / "a.csv"
      ...   count = path.write_text("x\\n" + "\\n".join(map(str, range(20))))
      ...   data = SeriesFiles(path=str(path), num_development=4, num_test=6)
      ...   prepared = prepare_series(SeriesConfig(dataset=data, context_len=3, horizon_len=2))
      >>> prepared.scaler.mean, {part: len(windows) for part, windows in prepared.windows.items()}
      ((4.5,), {'train': 6, 'development': 3, 'test': 5})
    """
    data = config.dataset.load()
    values = tuple(fill_gaps(one, config.gaps, data.columns) for one in data.series)
    if scaler is None:
        scaler = SeriesScaler.fit(data.series, data.columns, config.scaling)
    elif scaler.columns != data.columns:
        raise DataError(
            f"the data have the columns {shortened(', '.join(data.columns))}, the scaler is of "
            f"{shortened(', '.join(scaler.columns))}"
        )
    starts = row_offsets(values)
    scaled = np.concatenate(
        [scaler.model_values(one, where=series.name) for one, series in zip(values, data.series, strict=True)]
    )
    observed = ~np.isnan(np.concatenate([one.values for one in data.series]))
    windows, owners = {}, {}
    for part in PARTS:
        origins = [window_origins(one, part, config.context_len, config.horizon_len) for one in data.series]
        owners[part] = np.repeat(np.arange(len(origins)), [len(one) for one in origins])
        windows[part] = WindowSet(
            values=scaled,
            observed=observed,
            origins=np.concatenate([one + start for one, start in zip(origins, starts, strict=True)]),
            context_len=config.context_len,
            horizon_len=config.horizon_len,
        )
    if is_training and not len(windows["train"]):
        longest = max(len(one.training_values()) for one in data.series)
        raise DataError(
            f"no training window: the longest training part has {longest:,} rows, a window {config.window_len:,} "
            f"(context_len {config.context_len:,} and horizon_len {config.horizon_len:,}); lower them"
        )
    train = None
    if is_training:
        train = SeriesWindows(windows["train"], batch_size=config.batch_size, seed=config.seed)
    report = SeriesReport(
        num_series=len(data.series),
        columns=data.columns,
        num_rows={part: data.num_rows(part) for part in PARTS},
        num_windows={part: len(windows[part]) for part in PARTS},
        batches="none" if train is None else train.describe(),
        batches_per_epoch=0 if train is None else train.batches_per_epoch,
        notes=(*data.notes, *_notes(data, config)),
    )
    return PreparedSeries(
        config=config,
        data=data,
        values=values,
        scaler=scaler,
        windows=windows,
        owners=owners,
        train=train,
        report=report,
    )


def _notes(data: SeriesSet, config: SeriesConfig) -> list[str]:
    notes = []
    num_missing = sum(int(np.isnan(one.values).sum()) for one in data.series)
    if num_missing:
        notes.append(f"{num_missing:,} missing value(s): the value before is held, and they are no targets")
    for place, column in enumerate(data.columns):
        parts = [one.training_values()[:, place] for one in data.series]
        known = np.concatenate([one[~np.isnan(one)] for one in parts])
        if len(known) and known.min() == known.max():
            notes.append(f"column {column!r} is constant in the training part and is not scaled")
    short = sum(len(one.training_values()) < config.window_len for one in data.series)
    if short and len(data.series) > 1:
        notes.append(f"{short:,} series are shorter than a training window and are not trained on")
    return notes
