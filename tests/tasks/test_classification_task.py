"""The task of classification: what its card says, and which models and objectives go with it."""

from typing import Any

import pytest

from transformer_jax.data.classes_config import ClassesConfig, ClassFiles, NamedClasses
from transformer_jax.errors import ConfigError
from transformer_jax.models import (
    ClassifierConfig,
    FirstTokenPool,
    MeanPool,
    StructuredPool,
    TransformerTextEncoder,
)
from transformer_jax.nn import Learned
from transformer_jax.objectives import ClassCrossEntropy
from transformer_jax.tasks.classification import Classification
from transformer_jax.tasks.task_data import data_name, describe_data


def bert(pooling: Any) -> ClassifierConfig:
    encoder = TransformerTextEncoder(
        model_dim=8,
        num_heads=2,
        num_kv_heads=2,
        feed_forward_dim=8,
        num_layers=1,
        positions=Learned(max_len=64),
    )
    return ClassifierConfig(encoder=encoder, pooling=pooling)


def test_a_card_says_what_a_reader_of_scores_should_know() -> None:
    task = Classification(data=ClassesConfig(dataset=NamedClasses(subset="mr", fold=3)))
    lines = describe_data(task)
    assert lines[1].startswith("Subset: mr, fold 3 held out as the test set; folds are by a hash")
    assert "ten test questions" in describe_data(Classification())[1]
    assert data_name(task) == "mr"
    assert describe_data(Classification(data=ClassesConfig(dataset=ClassFiles(train="a.tsv"))))[0].endswith(
        "own"
    )


def test_models_and_data_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.max_len is 128, but the model has 64 learned positions"):
        Classification().check(bert(MeanPool()))
    short = Classification(data=ClassesConfig(max_len=64))
    short.check(bert(MeanPool()))
    with pytest.raises(ConfigError, match=r"set data\.marks_ends=True"):
        short.check(bert(FirstTokenPool()))
    Classification(data=ClassesConfig(max_len=64, marks_ends=True)).check(bert(FirstTokenPool()))


def test_a_penalty_needs_hops() -> None:
    task = Classification(objective=ClassCrossEntropy(penalty_weight=0.1))
    task.check_objective(bert(StructuredPool()))
    with pytest.raises(ConfigError, match="choose pooling 'structured'"):
        task.check_objective(bert(MeanPool()))
    Classification().check_objective(bert(MeanPool()))


def test_sizes_are_known_without_data() -> None:
    task = Classification(data=ClassesConfig(dataset=NamedClasses(subset="trec-50")))
    assert task.known_sizes() is None
    sizes = task.known_sizes((300,))
    assert sizes is not None
    assert (sizes.vocab_size, sizes.num_classes) == (300, 50)
