"""Chooses each rung's learning rate for `transformer-jax compare` on development words, the same grid for all.

    python benchmarks/compare_learning_rates.py --preset quick --updates 250 --jobs 2
    python benchmarks/compare_learning_rates.py --preset standard --updates 1000 --held --jobs 2

Every rung is trained once at every rate of the grid, for fewer updates than the comparison itself, with the same
batches and the whole schedule scaled down to them; the rate whose last phoneme error rate on the development words
is lowest is chosen. A long run stays near its peak rate for thousands of updates, which a short schedule does not
show: with ``--held`` a trial warms up as the run itself does and then holds the rate. Grid, every trial and the
choice are written into the table that `compare` reads. Trials that the table holds already are not run again.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import Queue
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from transformer_jax.ladder.rungs import LEARNING_RATES_NAME, PRESETS, RUNGS, rung_config

TABLE = ROOT / "transformer_jax" / "ladder" / LEARNING_RATES_NAME


def run_trial(preset: str, rung: str, learning_rate: float, updates: int, *, held: bool) -> float:
    """Train one rung at one rate; the phoneme error rate on the development words at the end, in per cent."""
    import dataclasses

    from transformer_jax.runs.experiment_runner import RunOptions, run_experiment
    from transformer_jax.training.config import Constant, ScheduleConfig

    config = rung_config(preset, rung, seed=0, learning_rate=learning_rate)
    whole = config.train.schedule
    schedule: ScheduleConfig
    if held:
        schedule = Constant(peak_learning_rate=learning_rate, warmup_updates=whole.warmup_updates)
    else:
        warmup = max(1, round(whole.warmup_updates * updates / config.train.updates))
        schedule = dataclasses.replace(whole, warmup_updates=warmup)
    train = dataclasses.replace(
        config.train, updates=updates, evaluate_every=updates, checkpoint_every=updates, schedule=schedule
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = run_experiment(
                dataclasses.replace(config, train=train), Path(folder) / "run", RunOptions(quiet=True)
            )
        except (
            Exception
        ) as error:  # a rate that is too high may end in a loss that is no number: a result too
            print(f"{rung} at {learning_rate}: {error}", file=sys.stderr)
            return float("inf")
    return result.scores["per"]


def run_trial_apart(
    cores: "Queue[int | None]", preset: str, rung: str, learning_rate: float, updates: int, held: bool
) -> float:
    """`run_trial` in a process of its own, on one core where several run at once."""
    core = cores.get()
    try:
        command = [sys.executable, __file__, "--preset", preset, "--updates", str(updates),
                   "--trial", rung, str(learning_rate), *["--held"] * held]  # fmt: skip
        pin = None if core is None else lambda: os.sched_setaffinity(0, {core})
        done = subprocess.run(command, capture_output=True, text=True, preexec_fn=pin)
        if done.returncode:
            raise SystemExit(f"error: {rung} at {learning_rate}: {done.stderr.strip().splitlines()[-1:]}")
        return json.loads(done.stdout.splitlines()[-1])["per"]
    finally:
        cores.put(core)


def search(arguments: argparse.Namespace) -> None:
    """Run the trials that are missing and write the table after each."""
    table: dict[str, Any] = json.loads(TABLE.read_text())
    entry = table.setdefault(arguments.preset, {})
    schedule = "held" if arguments.held else "scaled"
    if (entry.get("updates"), entry.get("schedule", "scaled")) != (arguments.updates, schedule):
        entry["trials"] = []
    entry.update(grid=arguments.grid, updates=arguments.updates, schedule=schedule)
    entry["trials"] = [trial for trial in entry["trials"] if trial["learning_rate"] in arguments.grid]
    known = {(trial["rung"], trial["learning_rate"]) for trial in entry["trials"]}
    missing = [(rung, rate) for rung in RUNGS for rate in arguments.grid if (rung, rate) not in known]
    cores: Queue[int | None] = Queue()
    available = sorted(os.sched_getaffinity(0))
    for job in range(arguments.jobs):
        cores.put(available[job % len(available)] if arguments.jobs > 1 else None)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        ThreadPoolExecutor(arguments.jobs) as pool,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        task = progress.add_task("trials", total=len(missing))
        futures = {
            pool.submit(
                run_trial_apart, cores, arguments.preset, rung, rate, arguments.updates, arguments.held
            ): (rung, rate)
            for rung, rate in missing
        }
        for future in as_completed(futures):
            rung, rate = futures[future]
            per = future.result()
            entry["trials"].append({"rung": rung, "learning_rate": rate, "per": round(per, 3)})
            entry["trials"].sort(key=lambda trial: (RUNGS.index(trial["rung"]), trial["learning_rate"]))
            entry["chosen"] = {**entry.get("chosen", {}), **chosen(entry["trials"], arguments.grid)}
            TABLE.write_text(json.dumps(table, indent=2) + "\n")
            progress.console.print(f"{rung:<14} {rate:<8} PER {per:.2f} %")
            progress.advance(task)


def chosen(trials: list[dict[str, Any]], grid: list[float]) -> dict[str, float]:
    """The rate with the lowest error of every rung whose trials are complete."""
    best = {}
    for rung in RUNGS:
        own = [trial for trial in trials if trial["rung"] == rung]
        if len(own) == len(grid):
            best[rung] = min(own, key=lambda trial: trial["per"])["learning_rate"]
    return best


def main() -> None:
    """Parse the command line and search, or run the one trial that a parent asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=sorted(PRESETS), default="quick")
    parser.add_argument("--updates", type=int, default=250, help="updates of a trial (default 250)")
    parser.add_argument(
        "--grid", nargs="+", type=float, default=[0.0015, 0.003, 0.006, 0.012], help="rates to try"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="trials at a time, each on a core of its own (default 1)"
    )
    parser.add_argument(
        "--held", action="store_true", help="warm up as the run itself does, then hold the rate"
    )
    parser.add_argument("--trial", nargs=2, metavar=("RUNG", "RATE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.trial:
        rung, rate = arguments.trial
        per = run_trial(arguments.preset, rung, float(rate), arguments.updates, held=arguments.held)
        print(json.dumps({"per": per if per != float("inf") else 1e9}))
        return
    search(arguments)


if __name__ == "__main__":
    main()
