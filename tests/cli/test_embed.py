"""The command ``embed``: a line out for each line in, vectors, neighbours, analogies, files and a map."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import transformer_jax as tj
from transformer_jax.data.vector_files import read_vectors
from transformer_jax.data.words_config import TextFiles, WordsConfig
from transformer_jax.models import WordVectorsConfig
from transformer_jax.objectives import NegativeSampling
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.runs.experiment_runner import RunOptions, run_experiment
from transformer_jax.tasks.word_embedding import WordEmbedding
from transformer_jax.training.config import Constant, RowAdagrad, TrainConfig

TEXT = "the king and the queen\nthe man and the woman\na king is a man\na queen is a woman\n" * 20


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, compilation_cache: None) -> Path:
    """A run of word vectors on four sentences."""
    folder = tmp_path_factory.mktemp("words")
    (folder / "text.txt").write_text(TEXT)
    config = ExperimentConfig(
        name="tiny",
        task=WordEmbedding(
            data=WordsConfig(
                datasets=(TextFiles(train=(str(folder / "text.txt"),)),),
                window=2,
                sample=0.0,
                row_len=8,
                batch_size=8,
            ),
            objective=NegativeSampling(shared_noise=4),
        ),
        model=WordVectorsConfig(embedding_dim=6),
        train=TrainConfig(
            updates=4,
            optimizer=RowAdagrad(),
            schedule=Constant(peak_learning_rate=0.1),
            clip_norm=None,
        ),
    )
    run_experiment(config, folder / "run", RunOptions(quiet=True))
    return folder / "run"


def lines(run_command: Callable[..., Any], *words: Any) -> list[str]:
    status, out, error = dataclasses.astuple(run_command("embed", *words))
    assert status == 0, error
    return out.split("\n")[:-1]


def test_a_line_out_for_each_line_in(run_dir: Path, tmp_path: Path, run_command: Callable[..., Any]) -> None:
    given = tmp_path / "in.txt"
    given.write_text("king\n\nzoo\nThe queen, a man\n")
    found = lines(run_command, run_dir, "--input", given)
    run = tj.load(run_dir)
    assert len(found) == 4
    for text, one in zip(("king", "", "zoo", "The queen, a man"), found, strict=True):
        np.testing.assert_array_equal(np.array(one.split(), np.float32), run.embed([text])[0].vector)
    near = lines(run_command, run_dir, "--input", given, "--nearest", 2)
    assert [len(one.split("\t")) if one else 0 for one in near] == [2, 0, 0, 2]
    assert near[0].split()[0] == run.nearest("king")[0].word


def test_json_has_what_the_lines_have(run_dir: Path, tmp_path: Path, run_command: Callable[..., Any]) -> None:
    given = tmp_path / "in.txt"
    given.write_text("king zoo\nzoo\n")
    first, second = map(json.loads, lines(run_command, run_dir, "--input", given, "--json"))
    assert (first["words"], first["known"], len(first["vector"])) == (2, 1, 6)
    assert second == {"text": "zoo", "vector": [0.0] * 6, "words": 1, "known": 0}
    first, second = map(json.loads, lines(run_command, run_dir, "--input", given, "--json", "--nearest", 3))
    assert [sorted(one) for one in first["neighbours"]] == [["similarity", "word"]] * 3
    assert second["neighbours"] == []


def test_analogies_take_three_words(run_dir: Path, tmp_path: Path, run_command: Callable[..., Any]) -> None:
    given = tmp_path / "in.txt"
    given.write_text("man king woman\n")
    (found,) = lines(run_command, run_dir, "--input", given, "--analogy", "--nearest", 1)
    assert found.split()[0] == tj.load(run_dir).analogy("man", "king", "woman")[0].word
    given.write_text("man king\n")
    status, _, error = dataclasses.astuple(run_command("embed", run_dir, "--input", given, "--analogy"))
    assert (status, error.count("\n")) == (2, 1)
    assert "--analogy wants three words a line, got 2" in error


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.bin"])
def test_vectors_of_the_vocabulary_are_written_and_begin_another_run(
    run_dir: Path, tmp_path: Path, run_command: Callable[..., Any], name: str
) -> None:
    path = tmp_path / name
    assert lines(run_command, run_dir, "--vectors", path) == [str(path)]
    run, table = tj.load(run_dir), read_vectors(path)
    assert table.words == run.artifacts["vocabulary"].words
    np.testing.assert_array_equal(table.vectors, run.predictor.vectors)
    config = run_dir / "config.json"
    words = ("--vectors", path, "--set", "train.updates=1", "train.schedule.peak_learning_rate=1e-30")
    status, _, error = dataclasses.astuple(
        run_command("train", config, "--run-dir", tmp_path / "run", *words)
    )
    assert status == 0, error
    assert f"vectors: {len(table.words)} of {len(table.words)} rows of embedding are those of {path}" in error
    again = tj.load(tmp_path / "run").predictor.vectors
    cosines = (
        np.sum(again * table.vectors, axis=1)
        / np.linalg.norm(again, axis=1)
        / np.linalg.norm(table.vectors, axis=1)
    )
    np.testing.assert_allclose(cosines, 1.0, atol=1e-5)


def test_a_map_is_drawn(run_dir: Path, tmp_path: Path, run_command: Callable[..., Any]) -> None:
    given = tmp_path / "in.txt"
    given.write_text("king queen man\nzoo\n")
    assert lines(run_command, run_dir, "--input", given, "--map", tmp_path / "map.png") == [
        str(tmp_path / "map.png")
    ]
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_runs_for_other_commands_are_named(
    run_dir: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    (tmp_path / "in.txt").write_text("king\n")
    status, _, error = dataclasses.astuple(run_command("translate", run_dir, "--input", tmp_path / "in.txt"))
    assert (status, error.count("\n")) == (2, 1)
    assert "is for word_vectors, which translate does not do: use transformer-jax embed" in error


def test_evaluate_gives_the_loss_and_a_file_of_judgements(
    run_dir: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    (tmp_path / "pairs.tsv").write_text(
        "# remark\nking\tqueen\t9\nking\tman\t5\nking\tzoo\t1\nwoman\ta\t0.5\n"
    )
    status, out, error = dataclasses.astuple(
        run_command("evaluate", run_dir, "--source", tmp_path / "pairs.tsv", "--json")
    )
    assert status == 0, error
    scores = json.loads(out)
    assert -1.0 <= scores["spearman"] <= 1.0
    assert scores["unknown"] == {"spearman": 0.25}
    status, out, error = dataclasses.astuple(
        run_command("evaluate", run_dir, "--split", "development", "--json")
    )
    assert status == 0, error
    assert json.loads(out)["loss"] > 0
    (tmp_path / "pairs.tsv").write_text("king queen 9\n")
    status, _, error = dataclasses.astuple(
        run_command("evaluate", run_dir, "--source", tmp_path / "pairs.tsv")
    )
    assert (status, error.count("\n")) == (2, 1)
    assert "line 1: wanted two words and a number, separated by tabs" in error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("cat\n" * 30, "one distinct word, 'cat'"),
        ("a\nb\n" * 30, "smaller than one window"),
        ("once upon a time\n", "no word, of 4, that stands in it at least 5 times"),
    ],
)
def test_texts_that_cannot_be_trained_on_are_one_line(
    run_dir: Path, tmp_path: Path, run_command: Callable[..., Any], text: str, message: str
) -> None:
    (tmp_path / "bad.txt").write_text(text)
    words = ("--text", tmp_path / "bad.txt", "--run-dir", tmp_path / "run")
    status, _, error = dataclasses.astuple(run_command("train", run_dir / "config.json", *words))
    assert status == 2
    assert error.count("\n") == 1, error
    assert message in error
    assert not (tmp_path / "run" / "config.json").exists()
