"""Question types of TREC-6 as classification_trec6.py, but pooled by the largest value of each feature over the words.

Command: transformer-jax train experiments/classification_trec6_max.py --run-dir runs/questions-max
"""

import dataclasses

from classification_trec6 import config as base

from transformer_jax.models.poolings import MaxPool
from transformer_jax.objectives import ClassCrossEntropy
from transformer_jax.runs.experiment import ExperimentConfig


def config() -> ExperimentConfig:
    """The same but for the pooling, and without a penalty on hops."""
    first = base()
    return dataclasses.replace(
        first,
        name="classification_trec6_max",
        task=dataclasses.replace(first.task, objective=ClassCrossEntropy(label_smoothing=0.1)),
        model=dataclasses.replace(first.model, pooling=MaxPool()),
    )
