"""A minGRU on the plays of Shakespeare by characters: the parameters and the token budget of nanoGPT's model.

Command: transformer-jax train experiments/language_tinyshakespeare_min_gru.py --run-dir runs/shakespeare-min-gru
"""

import dataclasses

from language_tinyshakespeare_lstm import config as base

from transformer_jax.models.recurrent_lm import RecurrentLMConfig
from transformer_jax.runs.experiment import ExperimentConfig


def config() -> ExperimentConfig:
    """2 layers of width 440; data and training are those of the LSTM."""
    return dataclasses.replace(
        base(),
        name="language_tinyshakespeare_min_gru",
        model=RecurrentLMConfig(cell="min_gru", embedding_dim=440, hidden_dim=440, num_layers=2, tied=True),
    )
