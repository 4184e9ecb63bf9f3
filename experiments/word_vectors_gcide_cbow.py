"""word2vec's CBOW with negative sampling on the dictionary GCIDE and 50 novels.

Command: transformer-jax train experiments/word_vectors_gcide_cbow.py --run-dir runs/vectors-cbow
"""

import dataclasses

from word_vectors_gcide_skip_gram import config as base

from transformer_jax.objectives import NegativeSampling
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.training.config import LinearDecay


def config() -> ExperimentConfig:
    """As the skip-gram, but the mean of the contexts is scored."""
    skip_gram = base()
    return dataclasses.replace(
        skip_gram,
        name="word_vectors_gcide_cbow",
        task=dataclasses.replace(skip_gram.task, objective=NegativeSampling(architecture="cbow")),
        train=dataclasses.replace(
            skip_gram.train, schedule=LinearDecay(peak_learning_rate=0.4, warmup_updates=0)
        ),
    )
