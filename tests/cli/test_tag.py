"""tag, and evaluate of a tagger: outputs in each form, streams, comparisons, and what is refused in one line."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transformer_jax.cli.main import main
from transformer_jax.data.sources.tag_lines import read_columns
from transformer_jax.runs.hub import load

TEXT = "# class = {kind}\nplay\tO\n{word}\tI-what\n\n# class = {kind}\n{word}\tB-what\nnow\tO\n\n"


@pytest.fixture(scope="session")
def tag_experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config file that trains a very small tagger for four updates."""
    folder = tmp_path_factory.mktemp("tags")
    words = ("jazz", "rock", "songs", "tunes")
    text = "".join(TEXT.format(kind=f"Kind{place % 2}", word=word) for place, word in enumerate(words))
    (folder / "train.tsv").write_text(text * 3)
    (folder / "development.tsv").write_text(text)
    path = folder / "tiny_tagger.py"
    path.write_text(
        f"""
from transformer_jax.data.tag_config import TagConfig, TagFiles, Words
from transformer_jax.models.tagger import TaggerConfig
from transformer_jax.models.text_encoders import RecurrentTextEncoder
from transformer_jax.nn.word_letters import LetterConvolution
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.tagging import Tagging
from transformer_jax.training.config import Adam, Constant, TrainConfig


def config():
    return ExperimentConfig(
        name="tiny-tagger",
        task=Tagging(data=TagConfig(
            dataset=TagFiles(train={str(folder / "train.tsv")!r}, development={str(folder / "development.tsv")!r}),
            tokenizer=Words(), word_len=6, batch_size=8, num_buckets=1,
        )),
        model=TaggerConfig(
            encoder=RecurrentTextEncoder(cell="gru", embedding_dim=6, hidden_dim=6, num_layers=1),
            letters=LetterConvolution(embedding_dim=4, num_filters=4),
            crf=True,
        ),
        train=TrainConfig(
            updates=4, optimizer=Adam(), schedule=Constant(peak_learning_rate=0.02), log_every=2, evaluate_every=2,
            checkpoint_every=2, metric="f1", metric_mode="max",
        ),
    )
"""
    )
    return path


@pytest.fixture(scope="session")
def tag_run(tag_experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run of `tag_experiment`; tests only read it."""
    run_dir = tmp_path_factory.mktemp("runs") / "tagger"
    assert main(["train", str(tag_experiment), "--run-dir", str(run_dir)]) == 0
    return run_dir


LINES = ("play jazz", "", "Tunes  now é", "play rock now play songs")


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"{line}\n" for line in LINES))
    return path


def test_one_line_out_for_each_line_in(tag_run: Path, lines: Path, run_command: Callable[..., Any]) -> None:
    ran = run_command("tag", tag_run, "--input", lines)
    assert ran.status == 0, ran.err
    found = load(tag_run).tag(LINES)
    assert ran.out.splitlines() == [one.text for one in found]
    assert ran.out.splitlines()[1] == ""
    assert ran.out.splitlines()[0].startswith("Kind")
    assert " jazz/" in ran.out


def test_json_has_all_that_is_known(tag_run: Path, lines: Path, run_command: Callable[..., Any]) -> None:
    rows = [
        json.loads(line) for line in run_command("tag", tag_run, "--input", lines, "--json").out.splitlines()
    ]
    assert [row["words"] for row in rows] == [line.split() for line in LINES]
    assert rows[1] == {
        "words": [],
        "labels": [],
        "probabilities": [],
        "unknown": [],
        "pieces": [],
        "label": None,
        "label_probability": None,
    }
    found = load(tag_run).tag([LINES[2]])[0]
    assert rows[2]["labels"] == list(found.labels)
    assert rows[2]["probabilities"] == list(found.probabilities)
    assert rows[2]["unknown"] == [False, False, True]
    assert rows[2]["label"] == found.label


def test_conll_is_what_training_and_evaluation_read(
    tag_run: Path, lines: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    output = tmp_path / "tagged.tsv"
    assert run_command("tag", tag_run, "--input", lines, "--conll", "--output", output).status == 0
    found = [one for one in load(tag_run).tag(LINES) if one.words]
    read = read_columns(output)
    assert [(one.words, one.labels, one.label) for one in read] == [
        (one.words, one.labels, one.label) for one in found
    ]
    ran = run_command("evaluate", tag_run, "--source", output, "--json")
    assert ran.status == 0, ran.err
    scores = json.loads(ran.out)
    assert scores["accuracy"] == scores["exact_match"] == scores["class_accuracy"] == 1.0


def test_standard_input(tag_run: Path, lines: Path, run_command: Callable[..., Any], monkeypatch) -> None:
    wanted = run_command("tag", tag_run, "--input", lines).out
    with lines.open("rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        assert run_command("tag", tag_run).out == wanted


def test_evaluation_by_label_and_beside_another(tag_run: Path, run_command: Callable[..., Any]) -> None:
    ran = run_command("evaluate", tag_run, "--split", "development")
    assert ran.status == 0, ran.err
    assert "8 sentences, task tagging" in ran.out
    assert "F1 of pieces" in ran.out
    assert "accuracy of classes" in ran.out
    assert "\nwhat" in ran.out
    scores = json.loads(
        run_command("evaluate", tag_run, "--split", "development", "--against", tag_run, "--json").out
    )
    assert scores["words"] == 16
    assert set(scores["labels"]) <= {"what"}
    assert scores["against"]["f1"]["difference"] == 0.0
    assert not scores["against"]["f1"]["differs"]
    assert set(scores["against"]) == {"run", "accuracy", "f1", "exact_match", "class_accuracy"}


def test_figures_of_what_is_taken_for_what(
    tag_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    pictures = tmp_path / "pictures"
    ran = run_command("evaluate", tag_run, "--split", "development", "--figures", pictures, "--json")
    assert ran.status == 0, ran.err
    confusions = json.loads(ran.out)["confusions"]
    assert confusions["labels"]["names"] == ["O", "what"]
    assert [sum(row) for row in confusions["labels"]["counts"]] == [8, 8]
    assert sum(map(sum, confusions["classes"]["counts"])) == 8
    for name in ("labels", "classes"):
        assert (pictures / f"confusion_of_{name}.png").read_bytes().startswith(b"\x89PNG")


def test_own_files_in_the_place_of_the_data_set(
    tag_experiment: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    own = tmp_path / "own.tsv"
    own.write_text("".join(f"word{place}\tX{place % 2}\nend\tEND\n\n" for place in range(12)))
    run_dir = tmp_path / "run"
    ran = run_command("train", tag_experiment, "--text", own, "--run-dir", run_dir)
    assert ran.status == 0, ran.err
    found = load(run_dir).tag(["word1 end"])[0]
    assert found.label is None
    assert set(found.labels) <= {"X0", "X1", "END"}
    ran = run_command("evaluate", run_dir, "--split", "development")
    assert "mean F1 of labels" in ran.out


def test_what_is_refused(
    tag_run: Path, tiny_run: Path, lines: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    assert "choose one" in fails("tag", tag_run, "--json", "--conll")
    assert "use transformer-jax translate" in fails("tag", tiny_run, "--input", lines)
    assert "use transformer-jax tag" in fails("translate", tag_run, "--input", lines)
    assert "no such file" in fails("tag", tag_run, "--input", tmp_path / "none.txt").lower()
    (tmp_path / "bad.tsv").write_text("# class = X\nalone\n")
    assert "line 2: wanted a word and its label" in fails(
        "evaluate", tag_run, "--source", tmp_path / "bad.tsv"
    )
    (tmp_path / "plain.tsv").write_text("play\tO\n")
    assert "sentences have no class" in fails("evaluate", tag_run, "--source", tmp_path / "plain.tsv")
    assert "have no test set" in fails("evaluate", tag_run, "--split", "test")
    assert "has no `stride`" in fails("evaluate", tag_run, "--split", "development", "--stride", 3).replace(
        "--stride", "`stride`"
    )
