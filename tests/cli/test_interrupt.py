"""Signals in a real process: one line, 130 or 143, whole checkpoints, and a run that goes on to the same bits."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from transformer_jax.training import read_rows
from transformer_jax.training.checkpoint import CheckpointStore

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


def ended(*words: object) -> None:
    """A command in a process of its own, as the others are: this one computes with other flags (see run.lock)."""
    with started(*words) as process:
        _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err


def test_training_goes_on_after_an_interrupt(tiny_experiment: Path, tmp_path: Path) -> None:
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
    ended(*words, "train.evaluate_every=1000")
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


def test_sigterm_saves_the_update_it_came_in(tiny_experiment: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    long = ("--set", "train.updates=100000", "train.evaluate_every=100000", "train.checkpoint_every=50000")
    with started("train", tiny_experiment, "--run-dir", run_dir, *long) as process:
        wait_for(lambda: (run_dir / "metrics.jsonl").exists() and bool(read_rows(run_dir)), process)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 143, err
    assert "Traceback" not in out + err
    assert "stopping after this update; once more stops at once" in err
    (saved,) = CheckpointStore(run_dir).updates()
    assert f"stopped at update {saved} of 100000; resume from update {saved}" in err
    assert not (run_dir / "trainer.lock").exists()
    words = ("train", "--run-dir", run_dir, "--resume", "--set", f"train.updates={saved + 3}")
    ended(*words, "train.evaluate_every=100000")


DEAF = """
import hashlib
from transformer_jax.cli.interrupts import end_at_second_signal
from transformer_jax.training.stopping import StopRequests

end_at_second_signal()
with StopRequests() as stops, stops.held():
    print("deaf", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # as a compiler: long, outside of Python, without its lock
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_the_process_whatever_it_does(number: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DEAF], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "deaf\n"
        process.send_signal(number)
        time.sleep(0.5)
        assert process.poll() is None, "the first is held"
        process.send_signal(number)
        assert process.wait(timeout=60) == 128 + number
        assert process.stderr is not None
        assert process.stderr.read() == "stopped at once\n"


LINGERING = """
import concurrent.futures, sys, time
from transformer_jax.cli import main

def compile_long(words, **keywords):
    concurrent.futures.ThreadPoolExecutor(1).submit(time.sleep, 600)
    raise KeyboardInterrupt("go on with --resume")

main._dispatch = compile_long
sys.argv = ["transformer-jax", "train"]
sys.exit(main.main())
"""


def test_an_interrupted_command_does_not_wait_for_threads_that_compile() -> None:
    ran = subprocess.run([sys.executable, "-c", LINGERING], capture_output=True, text=True, timeout=300)
    assert (ran.returncode, ran.stderr) == (130, "interrupted: go on with --resume\n")


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


DROPS_ITS_INTERRUPT = """
import signal, sys, time
from transformer_jax.cli.interrupts import keep_interrupts
from transformer_jax.errors import answer

keep_interrupts()
try:
    try:
        signal.raise_signal(signal.SIGINT)
    except BaseException as interrupt:
        if sys.argv[1] == "answered":
            answer(interrupt)
    time.sleep(0.5)
    print("went on")
except KeyboardInterrupt as interrupt:
    answer(interrupt)
    print("came again")
"""


@pytest.mark.parametrize(("how", "wanted"), [("dropped", "came again"), ("answered", "went on")])
def test_only_an_interrupt_that_nothing_answered_comes_again(how: str, wanted: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", DROPS_ITS_INTERRUPT, how],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert (ran.stdout, ran.stderr) == (f"{wanted}\n", "")


DROPS_ITS_INTERRUPT_AT_THE_END = """
import signal, time
from transformer_jax.cli.interrupts import keep_interrupts

class SlowToGo:
    def __del__(self):
        time.sleep(0.1)

last_to_go = SlowToGo()
keep_interrupts()
try:
    signal.raise_signal(signal.SIGINT)
except BaseException:
    print("dropped")
"""


def test_an_interrupt_that_is_dropped_when_the_process_ends_changes_nothing() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", DROPS_ITS_INTERRUPT_AT_THE_END], capture_output=True, text=True, timeout=50
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "dropped\n", "")


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
