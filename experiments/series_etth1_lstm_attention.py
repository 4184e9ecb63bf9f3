"""ETTh1, the next 24 hours of seven series from the last 14 days: an LSTM with attention over the context.

Command: transformer-jax train experiments/series_etth1_lstm_attention.py --run-dir runs/etth1-lstm-attention
On a CSV of your own: --text mine.csv. Then: transformer-jax forecast runs/etth1-lstm-attention --input mine.csv
"""

from transformer_jax.data.series_config import NamedSeries, SeriesConfig
from transformer_jax.models.forecast_configs import RecurrentForecast
from transformer_jax.models.forecaster import ForecasterConfig
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.forecasting import Forecasting
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """LSTMs read and write half a day a step, with additive attention over the context; 4 epochs of 8,281 windows."""
    return ExperimentConfig(
        name="series_etth1_lstm_attention",
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
            network=RecurrentForecast(
                cell="lstm", hidden_dim=64, attention_dim=32, segment_len=12, dropout_rate=0.2
            ),
            normalization="standard",
        ),
        train=TrainConfig(
            updates=1040,
            optimizer=Adam(beta2=0.999, epsilon=1e-8),
            schedule=Cosine(peak_learning_rate=1e-3, warmup_updates=100),
            log_every=65,
            evaluate_every=130,
            checkpoint_every=130,
            metric="mse",
            metric_mode="min",
        ),
    )
