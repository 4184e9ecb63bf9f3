"""Polarity of sentences of film reviews (SST-2, sentences only): the model of classification_trec6.py.

Command: transformer-jax train experiments/classification_sst2.py --run-dir runs/sst2
"""

import dataclasses

from classification_trec6 import config as base

from transformer_jax.data.classes_config import NamedClasses
from transformer_jax.runs.experiment import ExperimentConfig


def config() -> ExperimentConfig:
    """The same but for the data: 6,917 training sentences, 872 development sentences of the set's own."""
    first = base()
    data = dataclasses.replace(first.task.data, dataset=NamedClasses(subset="sst-2"), max_len=64)
    return dataclasses.replace(
        first, name="classification_sst2", task=dataclasses.replace(first.task, data=data)
    )
