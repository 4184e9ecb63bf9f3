"""ETTh1, the next 24 hours of seven series from the last 14 days: one linear map of each window (NLinear).

Command: transformer-jax train experiments/series_etth1_linear.py --run-dir runs/etth1-linear
On a CSV of your own: --text mine.csv. Then: transformer-jax forecast runs/etth1-linear --input mine.csv
"""

import dataclasses

from series_etth1_lstm_attention import config as base

from transformer_jax.models.forecast_configs import LinearForecast
from transformer_jax.models.forecaster import ForecasterConfig
from transformer_jax.runs.experiment import ExperimentConfig


def config() -> ExperimentConfig:
    """Windows are shifted by their last value; 10 epochs of 8,281 windows."""
    first = base()
    return dataclasses.replace(
        first,
        name="series_etth1_linear",
        model=ForecasterConfig(network=LinearForecast(), normalization="last"),
        train=dataclasses.replace(
            first.train, updates=2600, log_every=130, evaluate_every=260, checkpoint_every=260
        ),
    )
