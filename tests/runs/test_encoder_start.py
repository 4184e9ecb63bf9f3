"""A pre-trained encoder under new heads: what is taken over, the tokenizer, and clear refusals."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import nnx

import transformer_jax as tj
from transformer_jax.data.classes_config import ClassesConfig, ClassFiles
from transformer_jax.data.masked_config import MaskedTextConfig, TextFiles, WordPieces, Words
from transformer_jax.data.tag_config import TagConfig, TagFiles
from transformer_jax.errors import DataError, RunError
from transformer_jax.models import ClassifierConfig, EncoderOnlyConfig, FirstTokenPool, TransformerTextEncoder
from transformer_jax.models.tagger import TaggerConfig
from transformer_jax.nn import Learned
from transformer_jax.nn.parameters import named_parameters
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.runs.experiment_runner import RunOptions, run_experiment
from transformer_jax.runs.loading import load_run
from transformer_jax.runs.warm_start import start_from
from transformer_jax.tasks.classification import Classification
from transformer_jax.tasks.masked_language_modelling import MaskedLanguageModelling
from transformer_jax.tasks.tagging import Tagging
from transformer_jax.training.config import Adam, Constant, TrainConfig

ENCODER = TransformerTextEncoder(
    model_dim=8,
    num_heads=2,
    num_kv_heads=2,
    feed_forward_dim=12,
    num_layers=1,
    positions=Learned(max_len=12),
)


def train_of(metric: str, mode: str, updates: int = 2) -> TrainConfig:
    return TrainConfig(
        updates=updates,
        optimizer=Adam(),
        schedule=Constant(peak_learning_rate=0.01),
        log_every=updates,
        evaluate_every=updates,
        checkpoint_every=updates,
        metric=metric,
        metric_mode=mode,  # type: ignore[arg-type]
    )


def masked(folder: Path, tokenizer: Any) -> ExperimentConfig:
    text = folder / "text.txt"
    text.write_text("where is city one\nwho is person two\nwhere is person one ?\n" * 6)
    files = TextFiles(train=(str(text),), development=(str(text),))
    data = MaskedTextConfig(datasets=(files,), tokenizer=tokenizer, max_len=12, batch_size=4, unit="line")
    return ExperimentConfig(
        name="masked",
        task=MaskedLanguageModelling(data=data),
        model=EncoderOnlyConfig(encoder=ENCODER),
        train=train_of("nats", "min"),
    )


def classes(folder: Path, encoder: Any = ENCODER) -> ExperimentConfig:
    path = folder / "classes.tsv"
    path.write_text("LOC\twhere is city one\nHUM\twho is person two\n" * 6)
    data = ClassesConfig(
        dataset=ClassFiles(train=str(path), development=str(path)), max_len=10, batch_size=4, marks_ends=True
    )
    return ExperimentConfig(
        name="classes",
        task=Classification(data=data),
        model=ClassifierConfig(encoder=encoder, pooling=FirstTokenPool()),
        train=train_of("accuracy", "max"),
    )


def tags(folder: Path) -> ExperimentConfig:
    path = folder / "tags.tsv"
    path.write_text("where\tADV\nis\tVERB\ncity\tNOUN\n\nwho\tPRON\nis\tVERB\nperson\tNOUN\n\n" * 6)
    data = TagConfig(
        dataset=TagFiles(train=str(path), development=str(path)), word_len=None, batch_size=4, max_words=12
    )
    return ExperimentConfig(
        name="tags",
        task=Tagging(data=data),
        model=TaggerConfig(encoder=ENCODER),
        train=train_of("accuracy", "max"),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("start")


@pytest.fixture(scope="module")
def pieces_run(folder: Path) -> Path:
    tj.train(masked(folder, WordPieces(vocab_size=60)), folder / "pieces", quiet=True)
    return folder / "pieces"


@pytest.fixture(scope="module")
def words_run(folder: Path) -> Path:
    tj.train(masked(folder, Words()), folder / "words", quiet=True)
    return folder / "words"


def encoder_of(model: nnx.Module) -> dict[str, np.ndarray]:
    return {
        name: np.asarray(array)
        for name, array in named_parameters(model).items()
        if name.startswith("encoder.")
    }


def start_of_run(config: ExperimentConfig, run: Path) -> tuple[nnx.Module, str, Any]:
    """The model of a config after a warm start, before any update; what was told; the artifacts."""
    from transformer_jax.runs.building import build_from

    start = start_from(run)
    prepared = config.task.prepare(start.artifacts_for(config.task))
    model = build_from(config, prepared.artifacts)
    return model, start.fill(model, prepared.artifacts), prepared.artifacts


def test_a_classifier_takes_encoder_and_tokenizer(pieces_run: Path, tmp_path: Path) -> None:
    other = load_run(pieces_run)
    model, told, artifacts = start_of_run(classes(tmp_path), pieces_run)
    taken, theirs = encoder_of(model), encoder_of(other.model)
    assert taken.keys() == theirs.keys()
    for name, array in taken.items():
        np.testing.assert_array_equal(array, theirs[name])
    assert artifacts["tokenizer"].fingerprint() == other.artifacts["tokenizer"].fingerprint()
    assert set(artifacts) == {"tokenizer", "class_set"}
    first, second = told.splitlines()
    assert first == f"warm start: {len(taken)} of {len(taken) + 2} arrays are those of {pieces_run}"
    assert second == "  as initialized: output.bias, output.kernel"


def test_a_fine_tuned_run_stands_alone_and_is_resumed_exactly(pieces_run: Path, tmp_path: Path) -> None:
    config = classes(tmp_path)
    config = dataclasses.replace(config, train=train_of("accuracy", "max", updates=4))
    config = dataclasses.replace(
        config, train=dataclasses.replace(config.train, evaluate_every=2, checkpoint_every=2)
    )
    once = run_experiment(config, tmp_path / "once", RunOptions(quiet=True, start=start_from(pieces_run)))
    with pytest.raises(KeyboardInterrupt):
        run_experiment(
            config,
            tmp_path / "again",
            RunOptions(quiet=True, start=start_from(pieces_run)),
            after_evaluation=_interrupt,
        )
    again = run_experiment(config, tmp_path / "again", RunOptions(quiet=True, resume=True))
    for name, array in named_parameters(once.model).items():
        np.testing.assert_array_equal(array, named_parameters(again.model)[name])
    loaded = tj.load(tmp_path / "once")
    assert loaded.artifacts["tokenizer"].unit == "subwords"
    assert {one.label for one in loaded.classify(["where is city one"])} <= {"LOC", "HUM"}


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_a_tagger_takes_an_encoder_of_words(words_run: Path, pieces_run: Path, tmp_path: Path) -> None:
    model, told, artifacts = start_of_run(tags(tmp_path), words_run)
    theirs = encoder_of(load_run(words_run).model)
    for name, array in encoder_of(model).items():
        np.testing.assert_array_equal(array, theirs[name])
    assert "as initialized: " in told
    assert artifacts["tokenizer"].unit == "words"
    with pytest.raises(DataError, match="need a tokenizer of words, got one of subwords"):
        start_of_run(tags(tmp_path), pieces_run)


def test_a_tagger_of_pieces_takes_an_encoder_of_pieces(
    words_run: Path, pieces_run: Path, tmp_path: Path
) -> None:
    config = tags(tmp_path)
    data = dataclasses.replace(
        config.task.data, tokenizer=WordPieces(vocab_size=60), max_words=None, max_len=12
    )
    config = dataclasses.replace(config, task=dataclasses.replace(config.task, data=data))
    run_experiment(config, tmp_path / "tagger", RunOptions(quiet=True, start=start_from(pieces_run)))
    run = tj.load(tmp_path / "tagger")
    together = run.tag(["where is", ["where", "is", "xyz"], "", "city"])
    assert [len(one.labels) for one in together] == [2, 3, 0, 1]
    for words, one in zip(["where is", "where is xyz", "", "city"], together, strict=True):
        assert run.tag([words]) == [one]
    assert together[1].unknown == (False, False, True)
    with pytest.raises(DataError, match=r"sentence 2 has 1\d tokens, the model takes at most 12"):
        run.tag(["is", "where " * 14])
    with pytest.raises(DataError, match="tokenizer is one of pieces, got one of words: choose kind 'words'"):
        start_of_run(config, words_run)


def test_another_encoder_is_refused(pieces_run: Path, tmp_path: Path) -> None:
    for changes, message in (
        (
            {"positions": Learned(max_len=14)},
            r"another encoder: encoder\.stack\.positions\.table is \(12, 8\) there",
        ),
        ({"num_layers": 2}, r"another encoder: the model has encoder\.stack\.layers\.1"),
        ({"embedding_norm": False}, r"another encoder: it has encoder\.stack\.embedding_norm"),
        (
            {"model_dim": 16},
            r"encoder\.embedding\.embedding is \(\d+, 8\) there and \(\d+, 16\) in the model",
        ),
    ):
        config = classes(tmp_path, dataclasses.replace(ENCODER, **changes))
        with pytest.raises(RunError, match=message):
            start_of_run(config, pieces_run)


def test_another_vocabulary_is_refused(pieces_run: Path, words_run: Path, tmp_path: Path) -> None:
    from transformer_jax.runs.building import build_from

    config = classes(tmp_path)
    prepared = config.task.prepare(load_run(words_run).artifacts)
    with pytest.raises(RunError, match=r"another vocabulary: .* take the run's tokenizer"):
        start_from(pieces_run).fill(build_from(config, prepared.artifacts))


def test_a_run_without_the_artifacts_is_refused(pieces_run: Path, tmp_path: Path) -> None:
    start = dataclasses.replace(start_from(pieces_run), artifacts={"scaler": object()})
    with pytest.raises(RunError, match="task 'classification' needs tokenizer, class_set"):
        start.artifacts_for(classes(tmp_path).task)


def test_a_run_of_the_same_task_takes_all(pieces_run: Path, folder: Path) -> None:
    config = masked(folder, WordPieces(vocab_size=60))
    model, told, _ = start_of_run(config, pieces_run)
    theirs = named_parameters(load_run(pieces_run).model)
    for name, array in named_parameters(model).items():
        np.testing.assert_array_equal(array, theirs[name])
    assert "as initialized" not in told
    wider = dataclasses.replace(config, model=EncoderOnlyConfig(encoder=ENCODER, order_head=True))
    with pytest.raises(RunError, match="allow_partial=True"):
        start_of_run(wider, pieces_run)
