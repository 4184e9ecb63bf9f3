"""Polarity of sentences of film reviews (MR), tested on one of ten folds: the model of classification_trec6.py.

Command: transformer-jax train experiments/classification_mr.py --run-dir runs/mr
The other folds: --set data.dataset.fold=1 to 9.
"""

import dataclasses

from classification_sst2 import config as base

from transformer_jax.data.classes_config import NamedClasses
from transformer_jax.runs.experiment import ExperimentConfig


def config() -> ExperimentConfig:
    """The same but for the data: about 8,640 training sentences; a tenth of the rest is held out."""
    first = base()
    data = dataclasses.replace(first.task.data, dataset=NamedClasses(subset="mr", fold=0))
    return dataclasses.replace(
        first, name="classification_mr", task=dataclasses.replace(first.task, data=data)
    )
