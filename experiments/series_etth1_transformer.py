"""ETTh1, the next 24 hours of seven series from 14 days: a Transformer over the days of the context (PatchTST).

Command: transformer-jax train experiments/series_etth1_transformer.py --run-dir runs/etth1-transformer
On a CSV of your own: --text mine.csv. Then: transformer-jax forecast runs/etth1-transformer --input mine.csv
"""

import dataclasses

from series_etth1_lstm_attention import config as base

from transformer_jax.models.forecast_configs import PatchForecast
from transformer_jax.runs.experiment import ExperimentConfig


def config() -> ExperimentConfig:
    """Each of the 14 days of a context is a patch; 4 epochs of 8,281 windows."""
    first = base()
    network = PatchForecast(
        patch_len=24,
        stride=24,
        model_dim=32,
        num_heads=4,
        num_kv_heads=4,
        feed_forward_dim=128,
        num_layers=2,
        dropout_rate=0.2,
    )
    model = dataclasses.replace(first.model, network=network)
    return dataclasses.replace(first, name="series_etth1_transformer", model=model)
