"""M4 competition, 414 hourly series, the next 48 hours: an LSTM with attention over the last 14 days.

Command: transformer-jax train experiments/series_m4_hourly.py --run-dir runs/m4
Forecast any columns of numbers with it: transformer-jax forecast runs/m4 --input mine.csv
"""

from transformer_jax.data.series_config import NamedSeries, SeriesConfig
from transformer_jax.models.forecast_configs import RecurrentForecast
from transformer_jax.models.forecaster import ForecasterConfig
from transformer_jax.objectives import PinballLoss
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.forecasting import Forecasting
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """Each window is scaled by itself; the loss is of three quantiles, in units of the deviation within a context."""
    return ExperimentConfig(
        name="series_m4_hourly",
        task=Forecasting(
            data=SeriesConfig(
                dataset=NamedSeries(name="m4"),
                context_len=336,
                horizon_len=48,
                season_len=24,
                scaling="none",
                batch_size=64,
            ),
            objective=PinballLoss(quantiles=(0.1, 0.5, 0.9), units="context"),
        ),
        model=ForecasterConfig(
            network=RecurrentForecast(
                cell="lstm", hidden_dim=128, attention_dim=32, segment_len=24, dropout_rate=0.1
            ),
            normalization="standard",
        ),
        train=TrainConfig(
            updates=6000,
            optimizer=Adam(beta2=0.999, epsilon=1e-8),
            schedule=Cosine(peak_learning_rate=2e-3, warmup_updates=100),
            log_every=100,
            evaluate_every=500,
            checkpoint_every=500,
            metric="owa",
            metric_mode="min",
            average_decay=0.995,
        ),
    )
