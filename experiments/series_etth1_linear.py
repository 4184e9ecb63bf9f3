"""ETTh1, the next 24 hours of seven series from the last 14 days: one linear map of each window (NLinear).

Command: transformer-jax train experiments/series_etth1_linear.py --run-dir runs/etth1-linear
On a CSV of your own: --text mine.csv. Then: transformer-jax forecast runs/etth1-linear --input mine.csv
"""

from transformer_jax.data.series_config import NamedSeries, SeriesConfig
from transformer_jax.models.forecast_configs import LinearForecast
from transformer_jax.models.forecaster import ForecasterConfig
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.forecasting import Forecasting
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """Windows are shifted by their last value; 10 epochs of 8,281 windows."""
    return ExperimentConfig(
        name="series_etth1_linear",
        task=Forecasting(
            data=SeriesConfig(
                dataset=NamedSeries(name="ett"),
                context_len=336,
                horizon_len=24,
                season_len=24,
                batch_size=32,
            )
        ),
        model=ForecasterConfig(
            network=LinearForecast(),
            normalization="last",
        ),
        train=TrainConfig(
            updates=2600,
            optimizer=Adam(beta2=0.999, epsilon=1e-8),
            schedule=Cosine(peak_learning_rate=1e-3, warmup_updates=100),
            log_every=130,
            evaluate_every=260,
            checkpoint_every=260,
            metric="mse",
            metric_mode="min",
        ),
    )
