"""Polarity of sentences of film reviews (MR) by a Transformer pre-trained on novels, tested on one of ten folds.

Command: transformer-jax train experiments/classification_mr_bert.py --warm-start runs/bert --run-dir runs/mr
The other folds: --set data.dataset.fold=1 to 9. Without pre-training: see classification_trec6_bert.py.
"""

import dataclasses

from classification_trec6_bert import config as base

from transformer_jax.data.classes_config import NamedClasses
from transformer_jax.runs.experiment import ExperimentConfig


def config() -> ExperimentConfig:
    """The same but for the data: about 8,640 training sentences; a tenth of the rest is held out."""
    first = base()
    data = dataclasses.replace(first.task.data, dataset=NamedClasses(subset="mr", fold=0))
    return dataclasses.replace(
        first, name="classification_mr_bert", task=dataclasses.replace(first.task, data=data)
    )
