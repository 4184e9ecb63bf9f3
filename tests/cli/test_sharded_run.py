"""A run that was spread over eight devices goes on with one, and back."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from transformer_jax.testing.processes import cpu_environment


def run(*words: object, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "transformer_jax.cli.main", *map(str, words)]
    return subprocess.run(program, env=environment, capture_output=True, text=True, timeout=600)


def test_a_run_of_eight_devices_goes_on_with_one_and_back(
    tiny_experiment: Path, tmp_path: Path, fails: Callable, run_command: Callable
) -> None:
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
    begin = ("train", tiny_experiment, "--run-dir", none, "--set")
    refused = run(*begin, 'train.sharding={"data": 8}', "data.batch_size=12", environment=eight)
    assert refused.returncode == 2
    assert "12 rows does not divide over 8 devices" in refused.stderr
    assert "wants 9 devices" in fails(*begin, 'train.sharding={"data": 9}')
    assert not (none / "config.json").exists()
    for environment, words in steps:
        ran = run("train", *words, "--run-dir", run_dir, environment=environment)
        assert ran.returncode == 0, ran.stderr
    assert json.loads((run_dir / "result.json").read_text())["updates"] == 4
    refusal = fails("train", "--resume", "--run-dir", run_dir)  # by this process, which has one device
    assert "train.sharding wants 8 devices" in refusal
    assert "there are 1" in refusal
    (tmp_path / "in.txt").write_text("cat\n")
    assert run_command("translate", run_dir, "--input", tmp_path / "in.txt").status == 0
