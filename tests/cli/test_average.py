"""average: the mean of checkpoints by plain arithmetic, as a run that translates."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from transformer_jax.cli.main import main
from transformer_jax.training.checkpoint import CheckpointStore
from transformer_jax.training.orbax_items import read_item


@pytest.fixture(scope="module")
def long_run(tiny_experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("average") / "run"
    changes = ("train.updates=6", "train.checkpoint_every=2", "train.keep_last=3", "train.keep_best=0")
    assert main(["train", str(tiny_experiment), "--run-dir", str(folder), "--set", *changes]) == 0
    return folder


def arrays(folder: Path, update: int) -> dict[str, np.ndarray]:
    return read_item(CheckpointStore(folder).path(update), "model")


def test_the_mean_of_the_last_checkpoints(
    long_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    assert CheckpointStore(long_run).updates() == [2, 4, 6]
    ran = run_command("average", long_run, "--output", tmp_path / "mean", "--last", 2)
    assert ran.status == 0, ran.err
    assert "updates 4, 6" in ran.out
    fourth, sixth, mean = arrays(long_run, 4), arrays(long_run, 6), arrays(tmp_path / "mean", 6)
    assert any((fourth[name] != sixth[name]).any() for name in mean)
    for name, array in mean.items():
        assert array.dtype == sixth[name].dtype
        np.testing.assert_allclose(array, (fourth[name] + sixth[name]) / 2, rtol=1e-6, atol=1e-8)
    (tmp_path / "in.txt").write_text("cat\n")
    assert run_command("translate", tmp_path / "mean", "--input", tmp_path / "in.txt").status == 0
    result = json.loads((tmp_path / "mean" / "result.json").read_text())
    assert result["averaged"] == [4, 6]
    assert "development" not in result
    assert result["truncated"] is False
    assert result["machine"]["device"] == "1 x cpu (cpu)"
    resumed = run_command("train", "--run-dir", tmp_path / "mean", "--resume", "--set", "train.updates=8")
    assert resumed.status == 2
    assert "is the mean of several checkpoints" in resumed.err


def test_bad_input_is_one_line(long_run: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    assert "keeps 3 of its last checkpoints" in fails(
        "average", long_run, "--output", tmp_path / "a", "--last", 4
    )
    assert "--last must be at least 1" in fails("average", long_run, "--output", tmp_path / "a", "--last", 0)
    assert "already holds a run" in fails("average", long_run, "--output", long_run, "--last", 2)
    assert "no such run folder" in fails("average", tmp_path / "none", "--output", tmp_path / "a")
    (tmp_path / "file").write_text("x")
    assert "is a file" in fails("average", long_run, "--output", tmp_path / "file", "--last", 2)


def test_a_stopped_run_tells_what_it_was_trained(
    long_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    stopped = tmp_path / "stopped"
    shutil.copytree(long_run, stopped)
    (stopped / "result.json").unlink()
    shutil.rmtree(stopped / "checkpoints" / "00000006")
    whole = json.loads((long_run / "result.json").read_text())
    ran = run_command("average", stopped, "--output", tmp_path / "mean", "--last", 2)
    assert ran.status == 0, ran.err
    told = json.loads((tmp_path / "mean" / "result.json").read_text())
    assert (told["updates"], told["truncated"], told["averaged"]) == (4, True, [2, 4])
    assert told["parameters"] == whole["parameters"]
    assert 0 < told["train_seconds"] < whole["train_seconds"]
    assert told["machine"] == whole["machine"]
    ran = run_command("export", tmp_path / "mean", "--output", tmp_path / "model", "--split", "development")
    assert ran.status == 0, ran.err
    assert json.loads((tmp_path / "model" / "result.json").read_text()) == told
    assert "mean of the checkpoints at updates 2, 4" in (tmp_path / "model" / "MODEL_CARD.md").read_text()
