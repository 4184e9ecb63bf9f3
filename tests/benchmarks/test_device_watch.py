"""Watched child processes: one that hangs or crashes loses its item alone, and time runs out for all."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.device import turns, watch

CHILD = """
import json, os, sys, time
from benchmarks.device.watch import emit, serve

def run(item):
    yield {"item": item, "outcome": "began", "pid": os.getpid()}
    emit({"side": "kernel"})
    if item == "hang":
        time.sleep(600)
    if item == "crash":
        os.kill(os.getpid(), 11)
    if item == "raise":
        raise ValueError("two\\nlines")
    if item == "lost":
        raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access")
    yield {"item": item, "outcome": "passed"}

serve(run, json.loads(sys.argv[-1]))
"""


@pytest.fixture
def outcomes(tmp_path, monkeypatch):
    (tmp_path / "watched_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{watch.ROOT}")

    def run(items, *, seconds=30.0, item_seconds=2.0, restarts=6, after_loss=None, told=None):
        kept = []
        job = watch.Job("watched_child", [], items, item_seconds, restarts, after_loss=after_loss)
        monkeypatch.setattr(watch, "START_SECONDS", 20.0)
        with (tmp_path / "log").open("w") as log:
            watch.run_jobs([job], until=time.monotonic() + seconds, log=log, keep=told or kept.append)
        return [(one["item"], one["outcome"]) for one in kept if one["outcome"] != "began"], kept

    return run


def test_an_interrupt_ends_the_children(outcomes, monkeypatch):
    monkeypatch.setattr(watch, "stop", threading.Event())

    def interrupt(*_):
        raise KeyboardInterrupt

    began = []

    def told(event):
        if event["outcome"] == "began":
            began.append(event["pid"])
            os.kill(os.getpid(), signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            outcomes(["hang"], item_seconds=60.0, told=told)
    finally:
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(ProcessLookupError):
        os.kill(began[0], 0)


def test_each_item_ends_in_its_own_way(outcomes):
    found, kept = outcomes(["good", "hang", "raise", "crash", "lost", "last"], item_seconds=1.0)
    assert found == [
        ("good", "passed"), ("hang", "hung"), ("raise", "failed"), ("crash", "crashed"), ("lost", "failed"),
        ("lost", "crashed"), ("last", "passed"),
    ]  # fmt: skip
    messages = {(one["item"], one["outcome"]): one.get("message", "") for one in kept}
    assert messages["raise", "failed"] == "ValueError: two lines"
    assert "SIGSEGV" in messages["crash", "crashed"]
    assert "in kernel" in messages["hang", "hung"]


def test_an_item_is_tried_again_in_another_way(outcomes):
    def again(item, side):
        return "good" if side == "kernel" else None

    assert outcomes(["crash", "last"], after_loss=again)[0] == [
        ("crash", "crashed"), ("good", "passed"), ("last", "passed"),
    ]  # fmt: skip


def test_restarts_and_time_have_an_end(outcomes):
    found, _ = outcomes(["crash", "good"], restarts=0)
    assert found == [("crash", "crashed"), ("good", "not run")]
    began = time.monotonic()
    found, _ = outcomes(["hang", "good"], seconds=1.5, item_seconds=60.0)
    assert time.monotonic() - began < 20
    assert found[-1] == ("good", "not run")


def test_timing_waits_for_all_that_compile_and_is_alone(tmp_path):
    """Nobody times before the last has compiled, never two at a time, and one that comes anew knows that it is late."""
    until = time.time() + 60
    log: list[tuple[str, int]] = []

    def work(rank):
        place = turns.Turns.of_words(["x", *turns.Turns(str(tmp_path), rank, 3, until).words(), "[]"])
        time.sleep(0.15 * rank)
        log.append(("compiled", rank))
        with place.alone():
            log.append(("begin", rank))
            time.sleep(0.05)
            log.append(("end", rank))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [what for what, _ in log] == ["compiled"] * 3 + ["begin", "end"] * 3
    assert all(log[place][1] == log[place + 1][1] for place in (3, 5, 7))
    assert turns.Turns(str(tmp_path), 1, 3, until).is_late()
    assert not turns.Turns(str(tmp_path), 1, 4, until).is_late()
    assert turns.Turns(str(tmp_path), 1, 4, time.time() - 1).is_late()
