"""English to Python as code_django.py, but without the pointer: what the vocabulary does not have cannot be written.

Command: transformer-jax train experiments/code_django_no_pointer.py --run-dir runs/django-no-pointer
"""

import dataclasses

from code_django import config as base

from transformer_jax.runs.experiment import ExperimentConfig


def config() -> ExperimentConfig:
    """The same words, of which those outside of the vocabulary are unknown on both sides."""
    first = base()
    data = dataclasses.replace(first.task.data, copies_unknown=False)
    return dataclasses.replace(
        first,
        name="code_django_no_pointer",
        task=dataclasses.replace(first.task, data=data),
        model=dataclasses.replace(first.model, pointer=None),
    )
