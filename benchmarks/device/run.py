"""Run what a machine with a GPU is needed for, stage by stage, within a time; write results after each stage.

    python -m benchmarks.device                       all stages, 8 minutes at most
    python -m benchmarks.device --stages contract     one of them
    python -m benchmarks.device --dry-run             the same code with tiny sizes on a CPU

A stage's work is done by processes of their own, which are stopped when the stage's time is used up; then the next
stage begins. Into ``--output`` (default: the folder that ``$OUT`` names, else ``runs/device``) go ``device-STAGE.json``
for each stage, ``device.log`` with what the processes said, and nothing else. What to do with them stands in README.md
beside this file.
"""

import argparse
import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.device import tables, watch
from benchmarks.device.watch import Event
from transformer_jax.files import write_whole

SECONDS = {"contract": 110, "attention": 140, "recurrence": 55, "race": 85, "training": 65}
"""Stages in the order of their worth, with the time of each."""

ALL_SECONDS, DRY_SECONDS = 460, 1800
ROOT = Path(__file__).resolve().parents[2]
CACHE = "/tmp/transformer_jax-device-cache"
WRITE_EVERY = 5.0


@dataclasses.dataclass
class Stage:
    """One stage's records, written into its file.

    Args:
      name: A key of :data:`SECONDS`.
      path: Of its JSON file.
      dry: Whether it is a dry run.
    """

    name: str
    path: Path
    dry: bool

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.header: dict[str, Any] = {}
        self.records: list[Event] = []
        self.lost: list[Event] = []
        self._written = 0.0

    def keep(self, event: Event) -> None:
        """Take a record; what a lost item says goes into a list of its own."""
        if "environment" in event:
            self.header.setdefault("environment", event["environment"])
        elif "header" in event:
            self.header |= event["header"]
        elif "message" in event and "implementation" not in event:
            self.lost.append(event)
        else:
            self.records.append(event)
        if time.monotonic() - self._written > WRITE_EVERY:
            self.write()

    def document(self) -> dict[str, Any]:
        """What stands in the file."""
        seconds = round(time.monotonic() - self.began, 1)
        header = {"benchmark": f"device-{self.name}", "dry_run": self.dry, "seconds": seconds}
        return {**header, **self.header, "records": self.records, "lost": self.lost}

    def write(self, document: dict[str, Any] | None = None) -> None:
        """Write the file, whole or not at all."""
        self._written = time.monotonic()
        write_whole(self.path, json.dumps(document or self.document(), indent=1) + "\n")


def prepare_environment(*, dry: bool) -> None:
    """Set what the children inherit: memory shared between processes, one cache of compiled programs."""
    defaults = {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # PyTorch and several processes share the GPU's memory
        "JAX_COMPILATION_CACHE_DIR": CACHE,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TORCHINDUCTOR_CACHE_DIR": f"{CACHE}-inductor",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if dry:
        os.environ |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        flags = os.environ.get("XLA_FLAGS", "")
        if "optimization_level" not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} --xla_backend_optimization_level=0".strip()
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def driver_on_cpu() -> None:
    """The driver looks at lists of cases, which are JAX arrays: on the CPU, so that the GPU is the children's."""
    import jax

    jax.config.update("jax_platforms", "cpu")


def run_stage(name: str, output: Path, log: Any, *, dry: bool, until: float) -> dict[str, Any]:
    """Run a stage to its end or its time's; its document."""
    stage = Stage(name, output / f"device-{name}.json", dry)
    module = import_module(f"benchmarks.device.{name}")
    print(f"\n===== {name}\n", file=log, flush=True)
    try:
        # One list after the other: what is timed must be alone on the GPU.
        whole = until - stage.began
        for share, jobs in module.jobs(dry=dry):
            watch.run_jobs(jobs, until=stage.began + share * whole, log=log, keep=stage.keep)
    finally:
        document = stage.document()
        if hasattr(module, "finish"):
            module.finish(document)
        stage.write(document)
    return document


def limits_of(stages: Sequence[str], seconds: float) -> dict[str, float]:
    """Seconds of each stage: its share of all that is there for these stages, and not less than its own.

    Example:
      >>> limits_of(["contract"], 300.0)
      {'contract': 300.0}
    """
    share = max(1.0, seconds / sum(SECONDS[name] for name in stages))
    return {name: SECONDS[name] * share for name in stages}


def main(words: Sequence[str] | None = None, *, now: Callable[[], float] = time.monotonic) -> int:
    """Parse the command line, run the stages, print the table; 0, or 1 where a stage has no record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", nargs="+", choices=list(SECONDS), default=list(SECONDS))
    parser.add_argument("--output", type=Path, default=Path(os.environ.get("OUT") or "runs/device"))
    parser.add_argument("--seconds", type=float, default=ALL_SECONDS, help=f"in all ({ALL_SECONDS})")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, on the CPU")
    options = parser.parse_args(words)
    if not options.seconds > 0:
        parser.error(f"--seconds must be positive, got {options.seconds}")
    end = now() + options.seconds
    options.output.mkdir(parents=True, exist_ok=True)
    prepare_environment(dry=options.dry_run)
    driver_on_cpu()
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    limits = limits_of(options.stages, options.seconds)
    if options.dry_run:  # it looks for faults, however slow the machine
        limits, end = dict.fromkeys(options.stages, DRY_SECONDS), now() + DRY_SECONDS
    documents: dict[str, dict[str, Any]] = {}
    log_path = options.output / "device.log"
    try:
        with log_path.open("a") as log:
            for name in options.stages:
                until = min(end, now() + limits[name])
                if until - now() < 5:
                    print(f"{name}: no time is left for it", flush=True)
                    continue
                print(f"{name}: {until - now():.0f} s at most", flush=True)
                documents[name] = run_stage(name, options.output, log, dry=options.dry_run, until=until)
                print(f"{name}: {tables.counts(documents[name])}", flush=True)
    except KeyboardInterrupt:
        print("interrupted: what was measured is written", flush=True)
    for name, document in documents.items():
        print(f"\n{name} on {tables.machine(document)}")
        print(tables.plain(*tables.TABLES[name](document)))
        for note in tables.lost_lines(document)[:8]:
            print(note)
    print(f"\nresults: {options.output}")
    return 0 if all(document["records"] for document in documents.values()) and documents else 1


if __name__ == "__main__":
    sys.exit(main())
