"""One run over two real processes: they train, are killed, are told to stop, and go on."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from transformer_jax.testing.processes import cpu_environment
from transformer_jax.training import CheckpointStore, read_rows
from transformer_jax.training.orbax_items import read_item

UPDATES = 24
MESH = 'train.sharding={"data": 2, "fsdp": 2}'
SETTINGS = (
    "data.batch_size=16", f"train.updates={UPDATES}", "train.log_every=4", "train.evaluate_every=12",
    "train.checkpoint_every=3", "train.keep_last=20", MESH,
)  # fmt: skip


def start(words: Sequence[object], *, devices: int, log: Path) -> subprocess.Popen[bytes]:
    # Of so few updates, most of the time is compiling.
    environment = cpu_environment(devices, fast_compile=True, compiled=log.parent / "compiled")
    program = [sys.executable, "-m", "transformer_jax.cli.main", *map(str, words)]
    with log.open("wb") as file:
        return subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL, stderr=file)


class Hosts:
    """Two processes with two devices each, that train one run."""

    def __init__(self, words: Sequence[object], folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.logs = [folder / f"host-{number}.txt" for number in (0, 1)]
        joined = ("--coordinator", address, "--num-hosts", 2, "--host-id")
        self.processes = [
            start([*words, *joined, number], devices=2, log=log) for number, log in enumerate(self.logs)
        ]

    def statuses(self) -> list[int]:
        try:
            return [process.wait(timeout=300) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()

    def said(self) -> list[str]:
        return [log.read_text(errors="replace") for log in self.logs]


def until_saved(run_dir: Path, update: int, hosts: Hosts) -> None:
    deadline = time.monotonic() + 240
    while max(CheckpointStore(run_dir).updates(), default=0) < update:
        assert time.monotonic() < deadline, hosts.said()
        assert all(process.poll() is None for process in hosts.processes), hosts.said()
        time.sleep(0.01)


def left_by(run_dir: Path) -> Any:
    path = CheckpointStore(run_dir).path(UPDATES)
    arrays = {
        f"{item}/{name}": np.asarray(array).tobytes()
        for item in ("model", "training")
        for name, array in read_item(path, item).items()  # type: ignore[arg-type]  # a text, not a literal
    }
    rows = [
        {name: value for name, value in row.items() if "second" not in name} for row in read_rows(run_dir)
    ]
    return arrays, rows


def test_two_hosts_train_are_killed_and_go_on(tiny_experiment: Path, tmp_path: Path) -> None:
    begin = ("train", tiny_experiment, "--set", *SETTINGS, "--run-dir")
    whole = Hosts([*begin, tmp_path / "whole"], tmp_path)
    assert whole.statuses() == [0, 0], whole.said()
    own = [line for line in whole.said()[1].splitlines() if "[Gloo]" not in line]
    assert own == [], "the second host says nothing"
    wanted = left_by(tmp_path / "whole")

    # Killed: the other one ends too. Then one is told to stop: both save the same update.
    run_dir = tmp_path / "broken"
    killed = Hosts([*begin, run_dir], tmp_path)
    until_saved(run_dir, 6, killed)
    killed.processes[0].send_signal(signal.SIGKILL)
    statuses = killed.statuses()
    assert statuses[0] == -signal.SIGKILL
    assert statuses[1] != 0, killed.said()
    resume = ("train", "--resume", "--run-dir", run_dir)
    stopped = Hosts(resume, tmp_path)
    done = max(CheckpointStore(run_dir).updates())
    until_saved(run_dir, done + 1, stopped)
    stopped.processes[1].send_signal(signal.SIGTERM)
    assert stopped.statuses() in ([143, 143], [0, 0]), stopped.said()
    last = Hosts(resume, tmp_path)
    assert last.statuses() == [0, 0], last.said()
    assert left_by(run_dir) == wanted


@pytest.mark.full
def test_one_process_computes_the_same_and_a_run_is_not_overwritten(
    tiny_experiment: Path, tmp_path: Path
) -> None:
    begin = ("train", tiny_experiment, "--set", *SETTINGS, "--run-dir")
    run_dir = tmp_path / "two"
    two = Hosts([*begin, run_dir], tmp_path)
    assert two.statuses() == [0, 0], two.said()
    one = start([*begin, tmp_path / "one"], devices=4, log=tmp_path / "one.txt")
    assert one.wait(timeout=300) == 0, (tmp_path / "one.txt").read_text()
    losses = [
        [row["loss"] for row in read_rows(tmp_path / name) if row["kind"] == "train"]
        for name in ("two", "one")
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)  # up to the order of sums

    refused = Hosts([*begin, run_dir], tmp_path)
    assert refused.statuses() == [2, 2]
    assert "already holds a run" in refused.said()[0]
    assert "the first host could not go on" in refused.said()[1]
    assert json.loads((run_dir / "result.json").read_text())["updates"] == UPDATES


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--num-hosts", "2"), "--coordinator, --num-hosts and --host-id go together"),
        (
            ("--coordinator", "localhost:1", "--num-hosts", "2", "--host-id", "2"),
            "--host-id must be at least 0",
        ),
        (("--distributed",), "no cluster was found"),
        (
            (
                "--coordinator",
                "localhost:{port}",
                "--num-hosts",
                "3",
                "--host-id",
                "0",
                "--host-timeout",
                "1",
            ),
            "hosts 1, 2 of 3 did not come to localhost:{port} within 1 s",
        ),
    ],
)
def test_hosts_that_cannot_be_joined(
    words: tuple[str, ...], said: str, tiny_experiment: Path, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words, said = tuple(word.format(port=port) for word in words), said.format(port=port)
    log = tmp_path / "said.txt"  # in a process of its own: JAX must not have computed yet
    assert (
        start(["train", tiny_experiment, "--run-dir", tmp_path / "none", *words], devices=1, log=log).wait()
        == 2
    )
    assert log.read_text().startswith("error: ")
    assert said in log.read_text()
    assert len(log.read_text().splitlines()) == 1
    assert not (tmp_path / "none").exists()
