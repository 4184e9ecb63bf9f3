"""Config of the data of a forecaster: series, windows, scaling and batches."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, get_args

from transformer_jax.bounds import Length, Rows, Seed, check_at_least, check_bounds
from transformer_jax.data.dataset_kinds import dataset_kinds, with_absolute_dataset_paths
from transformer_jax.data.series import Gaps
from transformer_jax.data.series_scaler import Scaling
from transformer_jax.data.sources.named_series import NamedSeries
from transformer_jax.data.sources.series_files import SeriesFiles
from transformer_jax.errors import check_choice
from transformer_jax.kinds import Kinds

__all__ = ["NamedSeries", "SeriesConfig", "SeriesDatasetConfig", "SeriesFiles"]

BuiltInSeriesDatasetConfig = NamedSeries | SeriesFiles
DATASET_KINDS: Kinds[Any] = dataset_kinds("series", get_args(BuiltInSeriesDatasetConfig))

if TYPE_CHECKING:
    SeriesDatasetConfig = BuiltInSeriesDatasetConfig
else:
    SeriesDatasetConfig = Annotated[Any, DATASET_KINDS]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeriesConfig:
    """Data of a forecaster.

    Attributes:
      dataset: Where the series come from.
      context_len: Steps that a forecast is made from.
      horizon_len: Steps that are forecast.
      season_len: Steps of a season, such as 24 of hourly values: of the seasonal naive forecast and of MASE.
      scaling: ``"standard"`` brings each channel to mean 0 and variance 1 of the training part; ``"none"`` leaves
        values as they are, for models that scale each window by itself.
      gaps: What to do with missing values: refuse them, or hold the value before. Held values are never targets.
      batch_size: Windows of a batch.
      evaluation_stride: Steps between two forecasts of the development part during training; scores of trained models
        are of every step.
      seed: Seed of the order of batches.

    Raises:
      ConfigError: If a number is out of range.

    Example:
      >>> SeriesConfig(context_len=96, horizon_len=24).window_len
      120
    """

    dataset: SeriesDatasetConfig = dataclasses.field(default_factory=NamedSeries)
    context_len: Length = 168
    horizon_len: Length = 24
    season_len: Length = 24
    scaling: Scaling = "standard"
    gaps: Gaps = "fail"
    batch_size: Rows = 32
    evaluation_stride: Length = 1
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_bounds(self)
        for name in ("context_len", "horizon_len", "season_len", "batch_size", "evaluation_stride"):
            check_at_least(1, **{name: getattr(self, name)})
        check_at_least(0, seed=self.seed)
        check_choice("scaling", self.scaling, ("standard", "none"))
        check_choice("gaps", self.gaps, ("fail", "hold"))

    @property
    def window_len(self) -> int:
        """Steps of a training window: its context and its horizon."""
        return self.context_len + self.horizon_len


def with_absolute_series_paths(config: SeriesConfig) -> SeriesConfig:
    """The same data, to be found from any folder.

    Example:
      >>> config = SeriesConfig(dataset=SeriesFiles(path="/data/../mine.csv"))
      >>> with_absolute_series_paths(config).dataset.path
      '/mine.csv'
    """
    return dataclasses.replace(config, dataset=with_absolute_dataset_paths(config.dataset))
