"""Runs and models that earlier versions left are loaded, translate as they did, and are resumed."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from make_golden_run import FOLDER, log_rows

from transformer_jax.runs.hub import load
from transformer_jax.tasks.pronunciation import Pronunciation

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[2]

RUNS = sorted(path.stem for path in GOLDEN.glob("*-run.zip"))

OUTPUTS = json.loads((GOLDEN / "model-outputs.json").read_text())
"""What version 0.1.0 wrote for some lines by ``translate --n-best 2``."""

IN_FIRST_TIER = "transformer_jax/pretrained/g2p-en"


@pytest.fixture
def unpacked(tmp_path: Path) -> Callable[[str], Path]:
    """Unpacks a golden run and its data, and gives the run folder."""

    def unpack(name: str) -> Path:
        with zipfile.ZipFile(GOLDEN / f"{name}.zip") as archive:
            archive.extractall(tmp_path)
        config = tmp_path / "run" / "config.json"
        config.write_text(config.read_text().replace(FOLDER, str(tmp_path)))
        return tmp_path / "run"

    return unpack


def assert_same_rows(found: str, wanted: list[list[str]]) -> None:
    """Rows of ``translate --n-best`` are the same, scores but for rounding."""
    rows = [line.split("\t") for line in found.splitlines()]
    assert [(row[0], row[2]) for row in rows] == [(row[0], row[2]) for row in wanted]
    scores = [float(row[1]) for row in rows]
    assert scores == pytest.approx([float(row[1]) for row in wanted], abs=2e-3)


def test_there_are_golden_runs() -> None:
    assert RUNS == ["format-1-run"]


@pytest.mark.parametrize("name", RUNS)
def test_run_of_an_earlier_version_loads_and_resumes(
    name: str, unpacked: Callable[[str], Path], run_command: Callable[..., Any]
) -> None:
    wanted = json.loads((GOLDEN / f"{name}.json").read_text())
    run_dir = unpacked(name)
    run = load(run_dir)
    assert isinstance(run.config.task, Pronunciation)
    assert run.config.task.objective.scheduled_sampling_rate == 0.2
    lines = run_dir.parent / "dev.src"
    ran = run_command("translate", run_dir, "--input", lines, "--n-best", 2)
    assert_same_rows(ran.out, wanted["translations"])
    ran = run_command(
        "train", "--resume", "--run-dir", run_dir, "--set", "train.updates=4", "--allow-inexact"
    )
    assert ran.status == 0, ran.err
    assert json.loads((run_dir / "config.json").read_text())["format"] == 2
    rows = log_rows(run_dir)
    assert [(row["kind"], row["update"]) for row in rows] == [
        (row["kind"], row["update"]) for row in wanted["log"]
    ]
    for found, row in zip(rows, wanted["log"], strict=True):
        numbers = {name: value for name, value in row.items() if name != "kind"}
        assert {name: found[name] for name in numbers} == pytest.approx(numbers, rel=1e-4)
    ran = run_command("translate", run_dir, "--input", lines, "--n-best", 2)
    assert_same_rows(ran.out, wanted["resumed_translations"])


@pytest.mark.parametrize(
    "folder",
    [
        pytest.param(folder, marks=() if folder == IN_FIRST_TIER else pytest.mark.full)
        for folder in sorted(OUTPUTS)
    ],
)
def test_model_folders_translate_as_before(
    folder: str, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"{line}\n" for line in OUTPUTS[folder]["lines"]), encoding="utf-8")
    ran = run_command("translate", ROOT / folder, "--input", lines, "--n-best", 2)
    assert ran.status == 0, ran.err
    assert_same_rows(ran.out, OUTPUTS[folder]["rows"])
