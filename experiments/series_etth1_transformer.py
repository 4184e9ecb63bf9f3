"""ETTh1, the next 24 hours of seven series from 14 days: a Transformer over the days of the context (PatchTST).

Command: transformer-jax train experiments/series_etth1_transformer.py --run-dir runs/etth1-transformer
On a CSV of your own: --text mine.csv. Then: transformer-jax forecast runs/etth1-transformer --input mine.csv
"""

from transformer_jax.data.series_config import NamedSeries, SeriesConfig
from transformer_jax.models.forecast_configs import PatchForecast
from transformer_jax.models.forecaster import ForecasterConfig
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.forecasting import Forecasting
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """Each of the 14 days of a context is a patch; 4 epochs of 8,281 windows."""
    return ExperimentConfig(
        name="series_etth1_transformer",
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
            network=PatchForecast(
                patch_len=24,
                stride=24,
                model_dim=32,
                num_heads=4,
                num_kv_heads=4,
                feed_forward_dim=128,
                num_layers=2,
                dropout_rate=0.2,
                norm_placement="pre",
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
