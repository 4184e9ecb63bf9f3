"""Handwritten formulas of CROHME 2014 to LaTeX, from images: convolutions over drawn strokes, attention with coverage.

Made for a GPU. The strokes are drawn at one height, training and test set alike.
Command: transformer-jax train experiments/handwriting_crohme_images.py --run-dir runs/formula-images
Then: transformer-jax caption runs/formula-images formula.png --figures pictures
"""

import dataclasses

from handwriting_crohme import config as base

from transformer_jax.data.images import ImageFeatures
from transformer_jax.models.image_encoders import ConvolutionalImageEncoder
from transformer_jax.models.recurrent_config import Bahdanau
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.training.config import Cosine


def config() -> ExperimentConfig:
    """Images 96 pixels high, a vector for 16 by 16 of them; thirty passes over drawings and two copies each."""
    first = base()
    data = dataclasses.replace(first.task.data, features=ImageFeatures(height=96), max_frames=768)
    attention = Bahdanau(attention_dim=256, coverage_width=11)
    return dataclasses.replace(
        first,
        name="handwriting_crohme_images",
        task=dataclasses.replace(first.task, data=data),
        model=dataclasses.replace(
            first.model,
            encoder=ConvolutionalImageEncoder(channels=(32, 64, 128, 256), dropout_rate=0.2),
            decoder=dataclasses.replace(first.model.decoder, attention=attention),
        ),
        train=dataclasses.replace(
            first.train,
            updates=24_000,
            schedule=Cosine(peak_learning_rate=1e-3, warmup_updates=500),
            log_every=100,
            evaluate_every=1000,
            checkpoint_every=1000,
            average_decay=0.999,
        ),
    )
