"""E-mails to their subject lines as summaries_aeslc.py, but without pointer and coverage.

Command: transformer-jax train experiments/summaries_aeslc_no_pointer.py --run-dir runs/subjects-no-pointer
"""

import dataclasses

from summaries_aeslc import config as base

from transformer_jax.models.recurrent_config import Bahdanau
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.runs.experiment import ExperimentConfig


def config() -> ExperimentConfig:
    """Plain additive attention; words outside of the vocabulary are unknown on both sides."""
    first = base()
    data = dataclasses.replace(first.task.data, copies_unknown=False)
    return dataclasses.replace(
        first,
        name="summaries_aeslc_no_pointer",
        task=dataclasses.replace(first.task, data=data, objective=PairCrossEntropy()),
        model=dataclasses.replace(first.model, pointer=None, attention=Bahdanau(attention_dim=128)),
    )
