"""classify, and evaluate of a classifier: a line out for each line in, options, files, and refusals of one line."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import transformer_jax as tj
from transformer_jax.data.classes_config import ClassesConfig, ClassFiles
from transformer_jax.errors import ConfigError, DataError
from transformer_jax.models import ClassifierConfig, RecurrentTextEncoder, StructuredPool
from transformer_jax.objectives import ClassCrossEntropy
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.classification import Classification
from transformer_jax.testing.processes import cpu_environment
from transformer_jax.training.config import Adam, Constant, TrainConfig

ROWS = "".join(f"LOC\twhere is city {n}?\nHUM\twho is person {n}?\n" for n in range(12))


@pytest.fixture(scope="module")
def class_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("classes") / "train.tsv"
    path.write_text(ROWS)
    return path


def config_of(path: Path, *, seed: int = 0, updates: int = 30) -> ExperimentConfig:
    return ExperimentConfig(
        name="questions",
        task=Classification(
            data=ClassesConfig(
                dataset=ClassFiles(train=str(path)), lowercase=True, max_len=8, batch_size=8, num_buckets=1
            ),
            objective=ClassCrossEntropy(penalty_weight=0.1),
        ),
        model=ClassifierConfig(
            encoder=RecurrentTextEncoder(cell="gru", embedding_dim=8, hidden_dim=8, num_layers=1),
            pooling=StructuredPool(attention_dim=8, num_hops=2),
        ),
        train=TrainConfig(
            updates=updates,
            optimizer=Adam(),
            schedule=Constant(peak_learning_rate=0.02),
            log_every=updates,
            evaluate_every=updates,
            checkpoint_every=updates,
            metric="accuracy",
            metric_mode="max",
            seed=seed,
        ),
    )


@pytest.fixture(scope="module")
def class_run(class_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("class_run") / "run"
    tj.train(config_of(class_file), run_dir)
    return run_dir


def test_a_line_for_each_line(class_run: Path, tmp_path: Path, run_command: Callable[..., Any]) -> None:
    lines = tmp_path / "in.txt"
    lines.write_text("Where is city 3?\n\nWho is person 99?\nwho\n")
    ran = run_command("classify", class_run, "--input", lines)
    assert ran.status == 0, ran.err
    found = ran.out.splitlines()
    assert len(found) == 4
    assert (found[0], found[2], found[3]) == ("LOC", "HUM", "HUM")
    assert "1 word never seen in training became <unk>: '99'" in ran.err
    output = tmp_path / "out.txt"
    assert run_command("classify", class_run, "--input", lines, "--output", output).status == 0
    assert output.read_text() == ran.out
    top = run_command("classify", class_run, "--input", lines, "--top", 2).out.splitlines()
    for line in top:
        first, probability, second, other = line.split("\t")
        assert {first, second} == {"LOC", "HUM"}
        assert float(probability) >= float(other)
        assert float(probability) + float(other) == pytest.approx(1.0, abs=2e-4)
    rows = [
        json.loads(line)
        for line in run_command("classify", class_run, "--input", lines, "--json").out.splitlines()
    ]
    assert [row["label"] for row in rows] == found
    assert rows[0]["words"] == ["where", "is", "city", "3", "?"]
    assert len(rows[0]["weights"]) == 2
    assert all(len(hop) == 5 for hop in rows[0]["weights"])
    one = tj.load(class_run).classify(["Where is city 3?"])[0]
    assert dict(one.probabilities) == rows[0]["probabilities"]


def test_standard_input(
    class_run: Path, run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "transformer_jax.cli.main", "classify", str(class_run)],
        input=b"Who is person 1?\r\nwhere is city 1 ?",
        capture_output=True,
        env=cpu_environment(),
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, b"HUM\nLOC\n"), ran.stderr
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))


def test_evaluation(
    class_run: Path, class_file: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    figures = tmp_path / "figures"
    ran = run_command("evaluate", class_run, "--source", class_file, "--figures", figures, "--json")
    assert ran.status == 0, ran.err
    found = json.loads(ran.out)
    assert found["accuracy"] > 0.9
    assert sum(map(sum, found["confusion"])) == found["lines"] == 24
    assert set(found["classes"]) == {"HUM", "LOC"}
    assert 0 <= found["calibration_error"] <= 1
    assert sorted(path.name for path in figures.iterdir()) == ["confusion.png", "reliability.png"]
    shown = run_command("evaluate", class_run, "--split", "development").out
    assert "accuracy" in shown
    assert "macro F1" in shown


def test_against_another_run(
    class_run: Path, class_file: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    tj.train(config_of(class_file, seed=1, updates=1), tmp_path / "other")
    found = tj.load(class_run).evaluate(source=class_file, against=tmp_path / "other")
    both = found["against"]
    right = round(found["accuracy"] * 24)
    others = round(both["accuracy"] * 24)
    assert right - others == both["only_this"] - both["only_other"]
    assert 0 < both["p_value"] <= 1
    assert "McNemar's p" in found["text"][-1]
    rows = class_file.read_text().replace("LOC", "PLACE")
    (tmp_path / "renamed.tsv").write_text(rows)
    tj.train(config_of(tmp_path / "renamed.tsv", updates=1), tmp_path / "renamed")
    with pytest.raises(ConfigError, match="has other classes than questions: HUM, PLACE"):
        tj.load(class_run).evaluate(source=class_file, against=tmp_path / "renamed")


def test_refusals_are_one_line(
    class_run: Path, tiny_run: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    assert "use transformer-jax classify" in fails("translate", class_run)
    assert "which classify does not do: use transformer-jax translate" in fails("classify", tiny_run)
    assert "leave --top out" in fails("classify", class_run, "--json", "--top", 2)
    assert "no such file" in fails("classify", class_run, "--input", tmp_path / "none.txt")
    assert "have no test set: name --source" in fails("evaluate", class_run, "--split", "test")
    assert "has no `figures`" in fails(
        "evaluate", tiny_run, "--split", "development", "--figures", tmp_path
    ).replace("--figures", "`figures`")
    (tmp_path / "bad.tsv").write_text("LOCC\twhere ?\n")
    assert "never seen in training: no label 'LOCC'" in fails(
        "evaluate", class_run, "--source", tmp_path / "bad.tsv"
    )


def test_own_files_are_one_option(
    class_file: Path,
    class_run: Path,
    tmp_path: Path,
    run_command: Callable[..., Any],
    fails: Callable[..., str],
) -> None:
    words = ("train", class_run / "config.json", "--text", class_file, "--development-text", class_file)
    ran = run_command(*words, "--run-dir", tmp_path / "run", "--set", "train.updates=1")
    assert ran.status == 0, ran.err
    assert tj.load(tmp_path / "run").config.task.data.dataset.development == str(class_file)
    assert "trains on one file, got 2" in fails(
        "train",
        class_run / "config.json",
        "--text",
        class_file,
        "--text",
        class_file,
        "--run-dir",
        tmp_path / "two",
    )


def test_a_task_refuses_models_that_do_not_suit_it(class_file: Path) -> None:
    config = config_of(class_file)
    with pytest.raises(ConfigError, match="task 'classification' gives vocab_size, num_classes"):
        config.task.check(tj.load_pretrained("g2p-en").config.model)
    with pytest.raises(DataError, match="no such file"):
        Classification(data=ClassesConfig(dataset=ClassFiles(train="/none.tsv"))).prepare()
