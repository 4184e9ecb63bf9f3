"""Run lists of items in processes that may hang or crash, each watched and stopped, and keep what they gave.

A kernel that has never run may wait forever or break the device's context for all that follows. So a stage's work is
cut into items; a child process runs a list of them and says over a pipe when each begins, what it gave, and when it
ended. The parent kills a child whose item lasts too long, notes which item it was, and starts another child for the
rest.
"""

import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

PIPE = "BENCHMARK_EVENTS_FD"
ROOT = Path(__file__).resolve().parents[2]

stop = threading.Event()
"""Set to end every job at once."""

START_SECONDS = 60.0
"""For which a child may be silent before its first item, beyond the limit of an item."""

Event = dict[str, Any]


# --- in the child ---------------------------------------------------------------------------------------------


def emit(event: Event) -> None:
    """Tell the parent; on the terminal, where no parent listens."""
    line = json.dumps(event) + "\n"
    if PIPE in os.environ:
        os.write(int(os.environ[PIPE]), line.encode())
    else:
        sys.stdout.write(line)


def serve(run_item: Callable[[str], Iterable[Event]], items: Sequence[str]) -> None:
    """Run the items one after the other; what each yields goes to the parent at once.

    An item that raises is noted and the next one begins, but for errors that leave the device unusable: those end the
    process, so that the parent starts another.
    """
    for item in items:
        emit({"begin": item})
        try:
            for record in run_item(item):
                emit({"record": record})
        except (Exception, SystemExit) as error:
            emit({"failed": item, "message": one_line(error)})
            if is_device_lost(error):
                raise
        emit({"end": item})


def one_line(error: BaseException) -> str:
    """An error's type and text, on one line that is not too long."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:400]}{' ...' if len(text) > 400 else ''}"


def is_device_lost(error: BaseException) -> bool:
    """Whether the device's context is likely broken for everything that follows in the process."""
    text = str(error).lower()
    signs = (
        "illegal",
        "misaligned address",
        "launch fail",
        "device-side assert",
        "cuda_error",
        "unspecified launch",
    )
    return any(sign in text for sign in signs)


# --- in the parent --------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Job:
    """Items for one process after the other.

    Attributes:
      module: Run as ``python -m module arguments items``; the items come as one JSON list.
      arguments: Before the items.
      items: In the order of their worth.
      item_seconds: After so many seconds without a word from the child it is killed.
      restarts: Children that may follow the first one.
      environment: Beside the parent's own.
      after_loss: ``(item, last_side) -> item``: what to try in the place of an item in which the child was lost, where
        the child had said by ``{"side": ...}`` what it was about to run; ``None`` = nothing.
    """

    module: str
    arguments: list[str]
    items: list[str]
    item_seconds: float
    restarts: int = 6
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    after_loss: Callable[[str, str | None], str | None] | None = None


Parts = list[tuple[float, list[Job]]]
"""A stage's jobs: lists that run one after the other, each up to a share of the stage's time."""


def run_jobs(jobs: Sequence[Job], *, until: float, log: TextIO, keep: Callable[[Event], None]) -> None:
    """Run all jobs beside each other, each one's children one after the other.

    Args:
      jobs: What to run.
      until: ``time.monotonic()`` at which every child is killed; items not run by then are noted as not run.
      log: Gets the children's output.
      keep: Called with each record, one at a time; ``{"item", "outcome", "message"}`` for an item that failed, hung,
        crashed or was not run.
    """
    lock = threading.Lock()

    def one_at_a_time(event: Event) -> None:
        with lock:
            keep(event)

    threads = [threading.Thread(target=_run_job, args=(job, until, log, one_at_a_time)) for job in jobs]
    try:
        run_threads(threads)
    except BaseException:
        stop.set()
        wait_for(threads)
        raise


def run_threads(threads: Sequence[threading.Thread]) -> None:
    """Start threads and wait for them."""
    for thread in threads:
        thread.start()
    wait_for(threads)


def wait_for(threads: Sequence[threading.Thread]) -> None:
    """Wait for threads; not by ``join``, after whose interruption Python 3.11 takes a thread for ended."""
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.1)


def _run_job(job: Job, until: float, log: TextIO, keep: Callable[[Event], None]) -> None:
    remaining = list(job.items)
    for _ in range(job.restarts + 1):
        if not remaining:
            return
        lost = _run_child(job, remaining, until, log, keep)
        if lost is None or time.monotonic() >= until or stop.is_set():
            break
        item, side, outcome, message = lost
        if item is None:  # it ended before its first item
            keep({"item": remaining[0], "outcome": outcome, "message": message})
            remaining.pop(0)
            continue
        keep({"item": item, "outcome": outcome, "message": message, "side": side})
        another = job.after_loss(item, side) if job.after_loss else None
        if another is not None:
            remaining.insert(0, another)
    for item in remaining:
        keep({"item": item, "outcome": "not run", "message": "the time or the restarts were used up"})


Lost = tuple[str | None, str | None, str, str]


def _run_child(
    job: Job, remaining: list[str], until: float, log: TextIO, keep: Callable[[Event], None]
) -> Lost | None:
    """Run one child over the remaining items, which are taken off the list as they begin; what it was lost in."""
    reading, writing = os.pipe()
    # Lines of its own, so that a kill cannot cut another child's.
    environment = {**os.environ, **job.environment, PIPE: str(writing), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", job.module, *job.arguments, json.dumps(remaining)],
        cwd=ROOT, env=environment, pass_fds=[writing], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        start_new_session=True,
    )  # fmt: skip
    os.close(writing)
    events: queue.Queue[Event | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(reading, events), daemon=True)
    reader.start()
    item: str | None = None
    side: str | None = None
    # Starting takes long where many start at once; the limit of an item is for items.
    patience, heard = job.item_seconds + START_SECONDS, time.monotonic()
    try:
        while True:
            try:
                event = events.get(timeout=0.2)
            except queue.Empty:
                now = time.monotonic()
                if now >= until or stop.is_set():
                    if item is not None:
                        keep({"item": item, "outcome": "not run", "message": "the stage's time was used up"})
                    return None
                if now - heard >= patience:
                    where = f", in {side}" if side else ""
                    return item, side, "hung", f"no word for {patience:.0f} s{where}"
                continue
            if event is None:
                status = process.wait()
                if item is None and not remaining:
                    return None
                told = signal.Signals(-status).name if status < 0 else f"status {status}"
                where = f" in {side}" if side else ""
                return item, side, "crashed", f"the process ended{where} ({told}); its words stand in the log"
            patience, heard = job.item_seconds, time.monotonic()
            if "begin" in event:
                item, side = event["begin"], None
                remaining.remove(item)
            elif "side" in event:
                side = event["side"]
            elif "record" in event:
                keep(event["record"])
            elif "failed" in event:
                keep(
                    {"item": event["failed"], "outcome": "failed", "message": event["message"], "side": side}
                )
            elif "end" in event:
                item = side = None
    finally:
        end_group(process)
        reader.join(timeout=5)


def _read(descriptor: int, events: "queue.Queue[Event | None]") -> None:
    with os.fdopen(descriptor, "r") as lines:
        for line in lines:
            with contextlib.suppress(json.JSONDecodeError):  # a line that a kill has cut
                events.put(json.loads(line))
    events.put(None)


def end_group(process: "subprocess.Popen[Any]") -> None:
    """Kill a process with all its children, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
