"""A GRU on the plays of Shakespeare by characters: the parameters and the token budget of nanoGPT's model.

Command: transformer-jax train experiments/language_tinyshakespeare_gru.py --run-dir runs/shakespeare-gru
"""

import dataclasses

from language_tinyshakespeare_lstm import config as base

from transformer_jax.models.recurrent_lm import RecurrentLMConfig
from transformer_jax.runs.experiment import ExperimentConfig


def config() -> ExperimentConfig:
    """2 layers of width 256; data and training are those of the LSTM."""
    return dataclasses.replace(
        base(),
        name="language_tinyshakespeare_gru",
        model=RecurrentLMConfig(cell="gru", embedding_dim=256, hidden_dim=256, num_layers=2, tied=True),
    )
