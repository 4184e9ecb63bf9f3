"""The fine question types of TREC, 50 classes: the model of classification_trec6.py.

Command: transformer-jax train experiments/classification_trec50.py --run-dir runs/questions-50
"""

import dataclasses

from classification_trec6 import config as base

from transformer_jax.data.classes_config import NamedClasses
from transformer_jax.runs.experiment import ExperimentConfig


def config() -> ExperimentConfig:
    """The same but for the classes."""
    first = base()
    data = dataclasses.replace(first.task.data, dataset=NamedClasses(subset="trec-50"))
    return dataclasses.replace(
        first, name="classification_trec50", task=dataclasses.replace(first.task, data=data)
    )
