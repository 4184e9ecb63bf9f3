"""A Transformer that reads letters and writes phonemes, on the CMU pronouncing dictionary.

Command: transformer-jax train experiments/pronunciation_transformer.py --run-dir runs/transformer
Time, hardware and score: `experiments/RESULTS.md`, the row cmudict-transformer.
"""

import dataclasses

from pronunciation_lstm import config as base

from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.nn.position_encodings import Sinusoidal
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """Two layers on each side, width 128, pre-norm."""
    return dataclasses.replace(
        base(),
        name="pronunciation_transformer",
        model=EncoderDecoderConfig(
            model_dim=128,
            num_heads=4,
            num_kv_heads=4,
            feed_forward_dim=256,
            num_encoder_layers=2,
            num_decoder_layers=2,
            dropout_rate=0.1,
            norm_placement="pre",
            positions=Sinusoidal(),
            share_embeddings="target",
        ),
        train=TrainConfig(
            updates=2000,
            optimizer=Adam(),
            schedule=Cosine(peak_learning_rate=0.002, warmup_updates=100),
            evaluate_every=250,
            checkpoint_every=250,
            metric="per",
        ),
    )
