"""A bidirectional LSTM encoder and an LSTM decoder with the general score rule, from English to German, on Multi30k.

Command: transformer-jax train experiments/translation_multi30k_luong.py --run-dir runs/multi30k-luong
From German to English: `--set data.dataset.source_language=de --set data.dataset.target_language=en`.
Time, hardware and score: `experiments/RESULTS.md`, the row multi30k-de-en-luong.
"""

import dataclasses

from translation_multi30k_bahdanau import config as base

from transformer_jax.models.recurrent_config import Luong, RecurrentSeq2SeqConfig
from transformer_jax.runs.experiment import ExperimentConfig


def config() -> ExperimentConfig:
    """One layer on each side, 160 cells; the attentional vector feeds the next step (Luong et al. 2015)."""
    return dataclasses.replace(
        base(),
        name="translation_multi30k_luong",
        model=RecurrentSeq2SeqConfig(
            embedding_dim=96,
            hidden_dim=160,
            cell="lstm",
            num_encoder_layers=1,
            num_decoder_layers=1,
            bidirectional=True,
            attention=Luong(score="general", input_feeding=True),
            dropout_rate=0.3,
            residual=False,
        ),
    )
