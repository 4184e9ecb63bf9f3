"""ablate: a grid that is killed and goes on, members that cannot be, and what is refused before anything is trained."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transformer_jax.ablation import grid_runner
from transformer_jax.errors import RunError

SHORT = (
    "--set",
    "train.updates=2",
    "train.log_every=1",
    "train.evaluate_every=1",
    "train.checkpoint_every=1",
)
GRID = ("--vary", "model.normalization=layer,rms", "--vary", "model.num_heads=2,3", "--seeds", 2)


@pytest.fixture
def words(tiny_experiment: Path, tmp_path: Path) -> tuple[object, ...]:
    return ("ablate", tiny_experiment, "--run-dir", tmp_path / "grid", *SHORT)


def interrupt_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the ``number``-th run of a grid interrupted at its first evaluation."""
    trained, calls = grid_runner.run_experiment, []

    def interrupt() -> None:
        raise KeyboardInterrupt

    def run(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        after = interrupt if len(calls) == number else None
        return trained(*arguments, **options, after_evaluation=after)

    monkeypatch.setattr(grid_runner, "run_experiment", run)


@pytest.mark.smoke
def test_a_grid_is_killed_goes_on_and_reports(
    words: tuple[object, ...],
    tmp_path: Path,
    run_command: Callable[..., Any],
    fails: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "grid"
    with monkeypatch.context() as patched:
        interrupt_at(2, patched)
        ran = run_command(*words, *GRID)
    assert ran.status == 130
    assert ran.err.splitlines()[-1] == (
        f"interrupted: finished runs are kept; go on with --resume ({folder})"
    )
    left_out = (
        "normalization=layer, num_heads=3 is left out: model: model_dim 8 must be divisible by num_heads 3"
    )
    assert ran.err.index(left_out) < ran.err.index("[1/4]")  # before anything is trained
    row = folder / "members" / "base" / "seed-1" / "grid_row.json"
    begun = folder / "members" / "normalization-rms_num-heads-2" / "seed-1"
    first_row = row.read_bytes()
    assert (begun / "config.json").is_file()
    assert not (begun / "grid_row.json").exists()

    assert "already holds a run" in fails(*words, *GRID)
    other = fails(*words, *GRID, "--set", "train.clip_norm=2", "--resume")
    assert "holds another grid: train.clip_norm was 1.0, now it is 2.0" in other
    assert "`" not in other
    assert "--seeds was 2, now it is 1" in fails(*words, *GRID[:-1], 1, "--resume")

    ran = run_command("ablate", "--run-dir", folder, "--resume")  # the grid is the folder's
    assert ran.status == 0, ran.err
    assert "base (normalization=layer, num_heads=2), seed 1: finished before, kept" in ran.err
    assert row.read_bytes() == first_row
    document = json.loads((folder / "results.json").read_text())
    members = {one["folder"]: one for one in document["members"]}
    assert list(members) == [
        "base",
        "normalization-layer_num-heads-3",
        "normalization-rms_num-heads-2",
        "normalization-rms_num-heads-3",
    ]
    rms = members["normalization-rms_num-heads-2"]
    assert [run["seed"] for run in rms["runs"]] == [1, 2]
    assert all(run["updates"] == 2 and [p["update"] for p in run["curve"]] == [1, 2] for run in rms["runs"])
    assert rms["parameters"] < members["base"]["parameters"]  # a root mean square has no shift
    assert rms["update_flops"] == members["base"]["update_flops"] > 0
    assert rms["peak_bytes"] > 4 * 3 * rms["parameters"]  # parameters and Adam's two moments
    scores = [[run["score"] for run in members[name]["runs"]] for name in ("base", rms["folder"])]
    paired = [ours - base for base, ours in zip(*scores, strict=True)]
    assert rms["difference"]["mean"] == pytest.approx(sum(paired) / 2)
    assert members["normalization-rms_num-heads-3"]["error"].startswith("model: model_dim 8 must be")
    seeds = [
        json.loads((folder / "members" / "base" / f"seed-{number}" / "config.json").read_text())
        for number in (1, 2)
    ]
    assert [(one["train"]["seed"], one["task"]["data"]["seed"]) for one in seeds] == [(0, 0), (1, 1)]
    assert "cannot be built" in ran.out
    assert str(folder / "ablation.html") in ran.out
    table = (folder / "table.md").read_text()
    assert table.count("\n| ") == 5
    page = (folder / "ablation.html").read_text()
    assert page.count("<picture>") == 3
    assert page.count('<th scope="row">') == 4
    assert str(tmp_path) not in page + table + json.dumps(document)


@pytest.mark.parametrize(
    ("more", "part"),
    [
        ([], "nothing is varied: give --vary"),
        (["--vary", "model.normalization"], "--vary model.normalization: wanted path=value,value"),
        (["--vary", "model.normalization=rms,"], "wanted path=value,value"),
        (["--vary", "model.normalisation=rms,layer"], "did you mean 'normalization'?"),
        (["--vary", "model.normalization=layer"], "that is the base's own value"),
        (["--vary", 'model.normalization=rms,"rms"'], "is given twice"),
        (["--vary", "model.normalization=rms", "--seeds", "0"], "--seeds must be at least 1"),
        (["--vary", "train.seed=1,2"], "seeds count up by themselves: give their number as --seeds"),
        (["--vary", "model.normalization=lyer,foo"], "wanted one of"),
        (["--vary", "model.num_heads=3"], "model_dim 8 must be divisible by num_heads 3"),
        (["--vary", f"model.model_dim={','.join(map(str, range(2, 602)))}"], "a grid may have at most 500"),
        (["--vary", "model.normalization=rms", "--resume"], "holds no run to resume"),
        (["--vary", "model.normalization=rms", "--resume", "--overwrite"], "exclude each other"),
    ],
)
def test_bad_words(
    more: list[str], part: str, words: tuple[object, ...], tmp_path: Path, fails: Callable[..., str]
) -> None:
    line = fails(*words, *more)
    assert part in line
    assert len(line) < 500
    assert not (tmp_path / "grid").exists()


def test_without_a_config(tmp_path: Path, fails: Callable[..., str]) -> None:
    assert "CONFIG is missing" in fails("ablate", "--run-dir", tmp_path / "grid")
    (tmp_path / "grid" / "members").mkdir(parents=True)  # as an interrupted removal leaves it
    assert "use --overwrite" in fails("ablate", "--run-dir", tmp_path / "grid", "--resume")
    (tmp_path / "grid" / "grid.json").write_text("{}")
    assert "damaged" in fails("ablate", "--run-dir", tmp_path / "grid", "--resume")
    line = fails("ablate", "--run-dir", tmp_path / "grid", "--resume", "--vary", "model.num_heads=1")
    assert "go with CONFIG" in line


def test_a_member_that_fails_is_named_and_a_full_disk_ends_the_grid(
    words: tuple[object, ...],
    tmp_path: Path,
    run_command: Callable[..., Any],
    fails: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained, wrong = grid_runner.run_experiment, [OSError(errno.ENOSPC, "No space left on device", "x")]

    def run(config: Any, *arguments: Any, **options: Any) -> Any:
        if config.model.normalization == "rms":
            raise wrong[0]
        return trained(config, *arguments, **options)

    monkeypatch.setattr(grid_runner, "run_experiment", run)
    more = ("--vary", "model.normalization=rms", "--seeds", 1)
    assert "No space left on device" in fails(*words, *more)
    assert not (tmp_path / "grid" / "results.json").exists()
    wrong[0] = RunError("loss is nan at update 1", hint="go on past it with `resume=True`")
    ran = run_command(*words, *more, "--resume")
    assert ran.status == 0, ran.err
    assert "normalization=rms, seed 1 failed: loss is nan at update 1" in ran.err
    assert "1 of 1 failed" in ran.out
    assert "go on past it" not in ran.err + ran.out  # advice to a run of its own
    document = json.loads((tmp_path / "grid" / "results.json").read_text())
    assert document["members"][1]["failures"] == [{"seed": 1, "error": "loss is nan at update 1"}]
    assert document["best"] == "base"
    assert "loss is nan at update 1" in (tmp_path / "grid" / "ablation.html").read_text()


@pytest.mark.full
def test_a_grid_ended_by_a_signal_comes_to_the_same_scores(tiny_experiment: Path, tmp_path: Path) -> None:
    grid = (
        tiny_experiment, "--vary", "model.normalization=rms", "--seeds", 1, "--set", "train.updates=2000",
        "train.log_every=10", "train.evaluate_every=1000", "train.checkpoint_every=100",
    )  # fmt: skip
    command = [sys.executable, "-m", "transformer_jax.cli.main", "ablate"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen(
        [*command, *map(str, grid), "--run-dir", str(killed)],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment,
    )  # fmt: skip
    log = killed / "members" / "normalization-rms" / "seed-1" / "metrics.jsonl"
    end = time.monotonic() + 300
    while time.monotonic() < end and not (log.is_file() and log.read_text().count("\n") > 12):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 143, err
    assert err.splitlines()[-1].startswith("interrupted: finished runs are kept; go on with --resume")
    for words in (("--run-dir", killed, "--resume"), (*grid, "--run-dir", whole)):
        subprocess.run(
            [*command, *map(str, words)], check=True, capture_output=True, env=environment, timeout=300
        )
    results = [json.loads((folder / "results.json").read_text()) for folder in (killed, whole)]
    runs = [[run for one in each["members"] for run in one["runs"]] for each in results]
    assert [run["scores"] for run in runs[0]] == [run["scores"] for run in runs[1]]
    losses = [[[point["loss"] for point in run["curve"]] for run in each] for each in runs]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 2
