"""A GRU encoder whose last state goes into every step of the GRU decoder, from English to German, on Multi30k.

Command: transformer-jax train experiments/translation_multi30k_gru.py --run-dir runs/multi30k-gru
From German to English: `--set data.dataset.source_language=de --set data.dataset.target_language=en`.
Time, hardware and score: `experiments/RESULTS.md`, the row multi30k-de-en-gru.
"""

import dataclasses

from translation_multi30k_bahdanau import config as base

from transformer_jax.models.recurrent_config import LastState, RecurrentSeq2SeqConfig
from transformer_jax.runs.experiment import ExperimentConfig


def config() -> ExperimentConfig:
    """One layer on each side, 320 cells; the context goes into every step and into the readout (Cho et al. 2014)."""
    return dataclasses.replace(
        base(),
        name="translation_multi30k_gru",
        model=RecurrentSeq2SeqConfig(
            embedding_dim=128,
            hidden_dim=320,
            cell="gru",
            num_encoder_layers=1,
            num_decoder_layers=1,
            bidirectional=False,
            attention=LastState(feed_each_step=True),
            dropout_rate=0.3,
            residual=False,
        ),
    )
