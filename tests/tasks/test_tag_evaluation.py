"""Scores of a tagger are NaN, and say so, where its probabilities are; sentences too long are named."""

import dataclasses
import math
from pathlib import Path

import jax.numpy as jnp
import pytest
from flax import nnx

from transformer_jax.data.tag_config import TagConfig, TagFiles, Words
from transformer_jax.errors import ConfigError, DataError
from transformer_jax.models.build import build_model
from transformer_jax.models.tagger import TaggerConfig
from transformer_jax.models.text_encoders import TokenVectors, TransformerTextEncoder
from transformer_jax.nn import Learned
from transformer_jax.objectives import TagLikelihood
from transformer_jax.tasks.tag_evaluation import TagEvaluation
from transformer_jax.tasks.tagging import Tagging

VECTORS = TaggerConfig(encoder=TokenVectors(embedding_dim=4), crf=True)
POSITIONS = TaggerConfig(
    encoder=TransformerTextEncoder(
        model_dim=4,
        num_heads=1,
        num_kv_heads=1,
        feed_forward_dim=4,
        num_layers=1,
        positions=Learned(max_len=3),
    )
)


@pytest.fixture
def task(tmp_path: Path) -> Tagging:
    (tmp_path / "train.tsv").write_text("a\tX\nb\tY\n\nb\tY\n")
    (tmp_path / "long.tsv").write_text("a\tX\n" * 4)
    files = TagFiles(train=str(tmp_path / "train.tsv"), development=str(tmp_path / "long.tsv"))
    return Tagging(data=TagConfig(dataset=files, tokenizer=Words(), word_len=None, max_words=3, batch_size=2))


def test_non_finite_probabilities_have_no_scores(task: Tagging) -> None:
    prepared = task.prepare()
    model = build_model(VECTORS, task.sizes(prepared.artifacts), seed=0)
    evaluator = task.evaluator(model, prepared)
    evaluator.check()
    assert all(math.isfinite(value) for value in evaluator(nnx.split(model)[1]).values())
    model.chain.transitions[...] = jnp.full((2, 2), jnp.nan)
    assert all(math.isnan(value) for value in evaluator(nnx.split(model)[1]).values())
    tagger = task.predictor(model, prepared.artifacts, model_config=VECTORS, name="tiny")
    found = task.evaluate(tagger, TagEvaluation(split="development"))
    assert math.isnan(found["accuracy"])
    assert found["remarks"] == ["the model gives non-finite probabilities: its labels mean nothing"]


def test_sentences_of_more_words_than_positions(task: Tagging) -> None:
    prepared = task.prepare()
    model = build_model(POSITIONS, task.sizes(prepared.artifacts), seed=0)
    with pytest.raises(ConfigError, match="sentence of 4 words, the model takes at most 3"):
        task.evaluator(model, prepared).check()
    tagger = task.predictor(model, prepared.artifacts, model_config=POSITIONS, name="tiny")
    with pytest.raises(DataError, match="sentence of line 1 has 4 words, the model takes at most 3"):
        task.evaluate(tagger, TagEvaluation(split="development"))


def test_what_does_not_go_together(task: Tagging) -> None:
    longer = dataclasses.replace(task, data=dataclasses.replace(task.data, max_words=5))
    with pytest.raises(ConfigError, match="max_words is 5, and the model has 3 learned positions"):
        longer.check(POSITIONS)
    lettered = dataclasses.replace(task, data=dataclasses.replace(task.data, word_len=8))
    with pytest.raises(ConfigError, match="word_len gives the letters of words"):
        lettered.check(VECTORS)
    smooth = dataclasses.replace(task, objective=TagLikelihood(label_smoothing=0.1))
    with pytest.raises(ConfigError, match="label_smoothing"):
        smooth.check_objective(VECTORS)
    with pytest.raises(ConfigError, match="wanted one of `split`"):
        TagEvaluation()
