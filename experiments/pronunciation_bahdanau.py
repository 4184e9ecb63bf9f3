"""A bidirectional GRU encoder and a GRU decoder that attends to it, on the CMU pronouncing dictionary.

Command: transformer-jax train experiments/pronunciation_bahdanau.py --run-dir runs/bahdanau
Time, hardware and score: `experiments/RESULTS.md`, the row cmudict-bahdanau.
"""

import dataclasses

from pronunciation_lstm import config as base

from transformer_jax.models.recurrent_config import Bahdanau, RecurrentSeq2SeqConfig
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """One layer on each side, 154 cells, additive attention (Bahdanau et al. 2015)."""
    return dataclasses.replace(
        base(),
        name="pronunciation_bahdanau",
        model=RecurrentSeq2SeqConfig(
            embedding_dim=64,
            hidden_dim=154,
            cell="gru",
            num_encoder_layers=1,
            num_decoder_layers=1,
            bidirectional=True,
            attention=Bahdanau(attention_dim=154),
            dropout_rate=0.1,
            residual=False,
        ),
        train=TrainConfig(
            updates=2000,
            optimizer=Adam(),
            schedule=Cosine(peak_learning_rate=0.003, warmup_updates=100),
            evaluate_every=250,
            checkpoint_every=250,
            metric="per",
        ),
    )
