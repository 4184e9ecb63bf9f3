"""LSTMs without attention: the last state of both directions is all that the decoder gets, English to German, Multi30k.

Command: transformer-jax train experiments/translation_multi30k_lstm.py --run-dir runs/multi30k-lstm
From German to English: `--set data.dataset.source_language=de --set data.dataset.target_language=en`.
Time, hardware and score: `experiments/RESULTS.md`, the row multi30k-de-en-lstm.
"""

import dataclasses

from translation_multi30k_bahdanau import config as base

from transformer_jax.models.recurrent_config import LastState, RecurrentSeq2SeqConfig
from transformer_jax.runs.experiment import ExperimentConfig


def config() -> ExperimentConfig:
    """One layer on each side, 320 cells; the last state goes into every step and the readout (Cho et al. 2014)."""
    return dataclasses.replace(
        base(),
        name="translation_multi30k_lstm",
        model=RecurrentSeq2SeqConfig(
            embedding_dim=128,
            hidden_dim=320,
            cell="lstm",
            num_encoder_layers=1,
            num_decoder_layers=1,
            bidirectional=True,
            attention=LastState(feed_each_step=True),
            dropout_rate=0.3,
            residual=False,
        ),
    )
