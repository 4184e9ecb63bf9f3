"""word2vec's CBOW with hierarchical softmax on the dictionary GCIDE and 50 novels.

Command: transformer-jax train experiments/word_vectors_gcide_hierarchical.py --run-dir runs/vectors-tree
"""

import dataclasses

from word_vectors_gcide_skip_gram import config as base

from transformer_jax.objectives import HierarchicalSoftmax
from transformer_jax.runs.experiment import ExperimentConfig


def config() -> ExperimentConfig:
    """As the skip-gram, but each word is told by its path in a Huffman tree from the mean of its contexts."""
    skip_gram = base()
    task = dataclasses.replace(skip_gram.task, objective=HierarchicalSoftmax(architecture="cbow"))
    return dataclasses.replace(skip_gram, name="word_vectors_gcide_hierarchical", task=task)
