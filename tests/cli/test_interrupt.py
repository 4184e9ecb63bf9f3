"""Ctrl-C in a real process: one line, status 130, a whole checkpoint, and a run that goes on."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from transformer_jax.train.checkpoint import CheckpointStore

PROGRAM = [sys.executable, "-m", "transformer_jax.cli.main"]


@contextlib.contextmanager
def started(*words: object) -> Iterator[subprocess.Popen[str]]:
    """A command in a process of its own, ended at the latest when the block ends."""
    process = subprocess.Popen(
        [*PROGRAM, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def wait_for(holds: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the process did not come this far"
        time.sleep(0.02)


def test_training_goes_on_after_an_interrupt(
    tiny_experiment: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    run_dir = tmp_path / "run"
    long = ("--set", "train.updates=100000", "train.evaluate_every=100000", "train.checkpoint_every=20")
    with started("train", tiny_experiment, "--run-dir", run_dir, *long) as process:
        wait_for(lambda: bool(CheckpointStore(run_dir).updates()), process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    last = err.strip().splitlines()[-1]
    assert last.startswith("interrupted: ")
    assert "--resume" in last
    assert str(run_dir) in last

    saved = CheckpointStore(run_dir).updates()[-1]
    assert CheckpointStore(run_dir).info(saved).update == saved
    words = ("train", "--run-dir", run_dir, "--resume", "--set", f"train.updates={saved + 3}")
    ran = run_command(*words, "train.evaluate_every=1000")
    assert ran.status == 0, ran.err
    assert json.loads((run_dir / "result.json").read_text())["updates"] == saved + 3


def test_interrupt_before_anything_is_there(tiny_experiment: Path, tmp_path: Path) -> None:
    with started(
        "train", tiny_experiment, "--run-dir", tmp_path / "run", "--set", "train.updates=9999"
    ) as process:
        wait_for((tmp_path / "run").is_dir, process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    assert err.strip().splitlines()[-1].startswith("interrupted")


LOSES_ITS_INTERRUPT = """
import gc, os, signal, time
from transformer_jax.cli.interrupts import keep_interrupts

keep_interrupts()
raised = []

def collected(phase, _):
    if phase == "start" and not raised:
        raised.append(True)
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):  # the handler raises in here, where the collector can only ignore it
            pass

gc.callbacks.append(collected)
try:
    gc.collect()
    print("lost for now")
    time.sleep(60)
except KeyboardInterrupt:
    print("came again")
"""


def test_an_interrupt_inside_the_garbage_collector_is_not_lost() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LOSES_ITS_INTERRUPT], capture_output=True, text=True, timeout=50, check=True
    )
    assert ran.stdout.split("\n")[:2] == ["lost for now", "came again"]
    assert ran.stderr == ""


def test_translate_answers_a_line_at_once_and_stops_quietly(tiny_run: Path) -> None:
    with started("translate", tiny_run) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for word in ("cat", "attack"):
            process.stdin.write(f"{word}\n")
            process.stdin.flush()
            assert process.stdout.readline().endswith("\n")  # the pipe is open: nothing waits for more lines
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert err == "interrupted\n"
