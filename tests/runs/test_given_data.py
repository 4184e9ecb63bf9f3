"""Examples that a program has in memory as the data of a run."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import transformer_jax as tj
from transformer_jax.data.classes_config import ClassesConfig
from transformer_jax.data.pairs_config import Characters, PairsConfig
from transformer_jax.errors import ConfigError, DataError, RunError
from transformer_jax.models import ClassifierConfig, MeanPool
from transformer_jax.models.recurrent_config import LastState, RecurrentSeq2SeqConfig
from transformer_jax.models.text_encoders import TokenVectors
from transformer_jax.runs.given_data import with_given_data
from transformer_jax.tasks import (
    Classification,
    Forecasting,
    LanguageModelling,
    Tagging,
    Translation,
    WordEmbedding,
)
from transformer_jax.training import Adam, Constant, TrainConfig

PAIRS = [("ab", "ba"), ("abc", "cba"), ("ca", "ac"), ("a\tb", "")]
MODEL = RecurrentSeq2SeqConfig(
    embedding_dim=4, hidden_dim=4, attention=LastState(feed_each_step=False), bidirectional=False
)
TRAIN = TrainConfig(
    updates=2, optimizer=Adam(), schedule=Constant(peak_learning_rate=0.01), metric="bleu", metric_mode="max"
)


def pairs_experiment() -> tj.ExperimentConfig:
    letters = Characters()
    data = PairsConfig(source_tokenizer=letters, target_tokenizer=letters, batch_size=2)
    return tj.ExperimentConfig(name="given", task=Translation(data=data), model=MODEL, train=TRAIN)


def read_back(task: Any, data: Any, folder: Path) -> Any:
    return with_given_data(task.data, data, folder, resumes=False)


def test_pairs_are_read_as_they_were_given(tmp_path: Path) -> None:
    data = {"train": iter(PAIRS), "development": [("b", "b")], "test": (pair for pair in PAIRS[:1])}
    found = read_back(Translation(), data, tmp_path).dataset.load()
    assert [(one.source, one.target) for one in found.train] == PAIRS[:3]  # an empty side is left out
    assert [(one.source, one.references) for one in found.development] == [("b", ("b",))]
    assert [one.source for one in found.test] == ["ab"]


def test_texts_keep_every_character(tmp_path: Path) -> None:
    texts = ["one\n\ntwo\r\n", "", "\ufeffthree\x1e"]
    found = read_back(LanguageModelling(), {"train": texts, "development": ["x"]}, tmp_path).dataset.load()
    assert [one.text for one in found.train if one.text] == [text for text in texts if text]
    (source,) = read_back(WordEmbedding(), {"train": texts, "development": ["x"]}, tmp_path).datasets
    assert source.load() == found


def test_labels_of_texts_may_be_numbers(tmp_path: Path) -> None:
    examples = [("good\nfilm", 1), ("bad film", np.int64(0)), ("text", "label")]
    found = read_back(
        Classification(), {"train": examples, "development": examples[:1]}, tmp_path
    ).dataset.load()
    assert [(one.label, one.text) for one in found.train] == [
        ("1", "good film"),
        ("0", "bad film"),
        ("label", "text"),
    ]


def test_words_and_labels(tmp_path: Path) -> None:
    examples = [(["#", "is", "word"], ("SYM", "AUX", "pos")), (["yes"], ["X"])]
    found = read_back(Tagging(), {"train": examples, "development": examples}, tmp_path).dataset.load()
    assert [(list(one.words), tuple(one.labels)) for one in found.train] == [
        (list(words), tuple(labels)) for words, labels in examples
    ]


@pytest.mark.parametrize(
    ("task", "data", "said"),
    [
        (Translation(), "a text", "wanted an iterable of train examples, got str"),
        (Translation(), 3, "wanted an iterable of train examples, got int"),
        (Translation(), {"training": PAIRS}, "no part 'training'"),
        (Translation(), {"test": PAIRS}, "wanted a part 'train'"),
        (Translation(), [], "there is no train example: give some"),
        (Translation(), {"train": PAIRS, "test": []}, "there is no test example: leave it out"),
        (
            Translation(),
            [("a", "b"), ("a", "b", "c")],
            "train example 2: wanted (source, target), got ('a', 'b', 'c')",
        ),
        (Translation(), ["ab"], "example 1: wanted (source, target), got 'ab'"),
        (Translation(), [("a", 3)], "example 1: wanted a text as its target, got 3"),
        (Translation(), [("a\nb", "c")], "the source holds a line break"),
        (Translation(), [("a", "\ud800")], "half a surrogate pair"),
        (LanguageModelling(), [b"bytes"], "wanted a text"),
        (LanguageModelling(), ["a\n\x1e\nb"], "record separator"),
        (Classification(), [("text", 0.5)], "wanted a text as its label, got 0.5"),
        (Classification(), [("text", "")], "wanted a label without"),
        (Tagging(), [(["a", "b"], ["X"])], "as many words as labels"),
        (Tagging(), [(["a b"], ["X"])], "wanted a word without white space, got 'a b'"),
        (Forecasting(), [[1.0]], "SeriesConfig reads files"),
    ],
)
def test_other_data_are_refused_in_one_line(task: Any, data: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, DataError)) as refused:
        read_back(task, data, tmp_path)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_run_on_given_pairs_goes_on_and_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    config = pairs_experiment()
    run = tj.train(config, folder, data=PAIRS, quiet=True)
    assert len(run.translate(["ab"])) == 1
    longer = dataclasses.replace(config, train=dataclasses.replace(TRAIN, updates=3))
    tj.train(longer, folder, data=list(PAIRS), resume=True, quiet=True)
    kept = list((folder / "data").iterdir())
    with pytest.raises(RunError, match="not the examples that"):
        tj.train(longer, folder, data=PAIRS[:2], resume=True, quiet=True)
    with pytest.raises(RunError, match="already holds a run"):
        tj.train(config, folder, data=PAIRS[:2], quiet=True)
    assert list((folder / "data").iterdir()) == kept
    tj.train(config, folder, data=PAIRS[:2], overwrite=True, quiet=True)
    (other,) = (folder / "data").iterdir()
    assert [other] != kept
    with pytest.raises(ConfigError, match="the config is missing"):
        tj.train(None, folder, data=PAIRS, resume=True)


def test_a_classifier_learns_from_lists(tmp_path: Path) -> None:
    examples = [("good film", "yes"), ("bad film", "no")] * 4
    data = ClassesConfig(batch_size=8, max_len=4)
    config = tj.ExperimentConfig(
        name="given",
        task=Classification(data=data),
        model=ClassifierConfig(encoder=TokenVectors(embedding_dim=8), pooling=MeanPool(), dropout_rate=0.0),
        train=dataclasses.replace(
            TRAIN, updates=60, schedule=Constant(peak_learning_rate=0.05), metric="accuracy"
        ),
    )
    run = tj.train(
        config, tmp_path / "run", data={"train": examples, "development": examples[:2]}, quiet=True
    )
    assert [one.label for one in run.classify(["bad film", "good film"])] == ["no", "yes"]
