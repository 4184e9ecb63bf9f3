"""A run that was spread over eight devices goes on with one, and back."""

import json
import subprocess
import sys
from pathlib import Path

from transformer_jax.testing.processes import cpu_environment


def run(*words: object, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "transformer_jax.cli.main", *map(str, words)]
    return subprocess.run(program, env=environment, capture_output=True, text=True, timeout=600)


def test_a_run_of_eight_devices_goes_on_with_one_and_back(tiny_experiment: Path, tmp_path: Path) -> None:
    run_dir, none = tmp_path / "run", tmp_path / "none"
    # Of few updates, most of the time is compiling.
    one, eight = (
        cpu_environment(devices, fast_compile=True, compiled=tmp_path / "compiled") for devices in (1, 8)
    )
    mesh = 'train.sharding={"data": 2, "fsdp": 2, "tensor": 2}'
    steps = [
        (eight, [tiny_experiment, "--set", mesh, "data.batch_size=16", "train.updates=2"]),
        (one, ["--resume", "--allow-inexact", "--set", "train.sharding=null", "train.updates=3"]),
        (eight, ["--resume", "--allow-inexact", "--set", mesh, "train.updates=4"]),
    ]
    for size, said in ((12, "12 rows does not divide over 8 devices"), (16, "wants 9 devices")):
        wrong = f'train.sharding={{"data": {8 if size == 12 else 9}}}'
        words = ("train", tiny_experiment, "--run-dir", none, "--set", wrong, f"data.batch_size={size}")
        refused = run(*words, environment=eight)
        assert (refused.returncode, said in refused.stderr) == (2, True), refused.stderr
        assert not (none / "config.json").exists()
    for environment, words in steps:
        ran = run("train", *words, "--run-dir", run_dir, environment=environment)
        assert ran.returncode == 0, ran.stderr
    assert json.loads((run_dir / "result.json").read_text())["updates"] == 4
    refused = run("train", "--resume", "--run-dir", run_dir, environment=one)
    assert refused.returncode == 2
    assert "train.sharding wants 8 devices" in refused.stderr
    assert "there are 1" in refused.stderr
    (tmp_path / "in.txt").write_text("cat\n")
    said = run("translate", run_dir, "--input", tmp_path / "in.txt", environment=one)
    assert said.returncode == 0, said.stderr
