"""fastText's skip-gram on the dictionary GCIDE: words share the vectors of their character n-grams.

Command: transformer-jax train experiments/word_vectors_gcide_subwords.py --run-dir runs/vectors-subwords
"""

import dataclasses

from word_vectors_gcide_skip_gram import config as base

from transformer_jax.data.words_config import NamedText, SubwordBuckets
from transformer_jax.runs.experiment import ExperimentConfig


def config() -> ExperimentConfig:
    """As the skip-gram with n-grams of 4 and 5 characters in 100,000 buckets, on the dictionary alone."""
    skip_gram = base()
    data = dataclasses.replace(
        skip_gram.task.data,
        datasets=(NamedText(name="gcide"),),
        subwords=SubwordBuckets(min_len=4, max_len=5, num_buckets=100_000),
        batch_size=32,
    )
    task = dataclasses.replace(skip_gram.task, data=data)
    return dataclasses.replace(skip_gram, name="word_vectors_gcide_subwords", task=task)
