"""ETTh1, the next 24 hours of seven series from the last 14 days: an LSTM, without attention.

Command: transformer-jax train experiments/series_etth1_lstm.py --run-dir runs/etth1-lstm
On a CSV of your own: --text mine.csv. Then: transformer-jax forecast runs/etth1-lstm --input mine.csv
"""

import dataclasses

from series_etth1_lstm_attention import config as base

from transformer_jax.runs.experiment import ExperimentConfig


def config() -> ExperimentConfig:
    """An LSTM reads and another one writes half a day a step; 4 epochs of 8,281 windows."""
    first = base()
    network = dataclasses.replace(first.model.network, attention_dim=None)
    model = dataclasses.replace(first.model, network=network)
    return dataclasses.replace(first, name="series_etth1_lstm", model=model)
