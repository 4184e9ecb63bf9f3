"""Train on a GPU what CPUs cannot: longer and larger runs of the committed experiments, beside each other.

    python -m benchmarks.device.train                      all runs, 10 minutes at most
    python -m benchmarks.device.train --runs NAME ... --minutes 4
    python -m benchmarks.device.train --dry-run            tiny models for a few updates, on a CPU

The runs are small, so they share the GPU. First each runs for a minute, which fills the cache of compiled programs and
tells how many updates a second they make beside each other; then each begins anew with as many updates as fit, so
that its learning rate falls to its end in time, and is stopped by SIGTERM where it does not. The mean of the last ten
checkpoints is evaluated on the test set and exported. The data sets are looked for in ``$TRANSFORMER_JAX_DATA``.

Into ``--output`` go ``training-results.json``, of each run by name what ``transformer-jax evaluate --json`` prints and
the command; ``training-NAME.tar.xz`` with each model folder; and ``training.log``.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.device.run import prepare_environment
from benchmarks.device.watch import end_group, run_threads
from transformer_jax.files import write_whole

PROGRAM = "import sys; from transformer_jax.cli.main import main; sys.exit(main())"
TRY_SECONDS, FINISH_SECONDS, STOP_SECONDS = 60.0, 110.0, 25.0
"""For the first look; for averaging, evaluation and export; for the last save of a stopped run."""

LEAST_UPDATES = 2000
"""A schedule must be longer than its warm-up."""

RESULTS = "training-results.json"
KEPT = 10
CHECKPOINTS = 50
"""Checkpoints kept for the mean, of how many in the whole run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """An experiment with its changes.

    Attributes:
      name: Of the run.
      experiment: File in ``experiments/``.
      updates: At most.
      changes: As for ``--set``.
      about: For the model's card.
      usual_rate: Updates a second on an H200 beside other runs, for where the first look ends in compiling.
    """

    name: str
    experiment: str
    updates: int
    changes: tuple[str, ...]
    about: str
    usual_rate: float


_BAHDANAU = (
    "model.cell=lstm", "model.hidden_dim=384", "model.embedding_dim=128", "model.num_encoder_layers=2",
    "model.attention.attention_dim=384", "model.dropout_rate=0.3", "data.batch_size=512", "data.buckets.max_shapes=2",
    "train.schedule.warmup_updates=500",
)  # fmt: skip
_TRANSFORMER = (
    "model.model_dim=256", "model.dropout_rate=0.3", "data.buckets.max_shapes=2", "train.schedule.warmup_updates=1000",
    "train.schedule.peak_learning_rate=0.0015",
)  # fmt: skip
_MULTI30K = ("model.dropout_rate=0.25", "train.schedule.warmup_updates=1000")

RUNS = {
    run.name: run
    for run in (
        Run(
            name="g014b2b-bahdanau-lstm", experiment="pronunciation_g014b2b_bahdanau.py", updates=40_000,
            changes=_BAHDANAU, about="English words to phonemes: Bahdanau's attention between LSTMs.", usual_rate=60.0,
        ),
        Run(
            name="g014b2b-transformer-long", experiment="pronunciation_g014b2b_transformer.py", updates=100_000,
            changes=_TRANSFORMER, about="English words to phonemes: a Transformer trained for long.", usual_rate=130.0,
        ),
        *(
            Run(
                name=f"multi30k-en-de-seed-{seed}", experiment="translation_multi30k_transformer.py", updates=17_284,
                changes=(*_MULTI30K, f"train.seed={seed}"),
                about="English to German, captions of Multi30k: a small Transformer.", usual_rate=150.0,
            )
            for seed in (2, 3)
        ),
    )
}  # fmt: skip

TINY = Run(
    name="tiny", experiment="pronunciation_transformer.py", updates=24,
    changes=(
        "model.model_dim=16", "model.num_heads=2", "model.num_kv_heads=2", "model.feed_forward_dim=16",
        "model.num_encoder_layers=1", "model.num_decoder_layers=1", "data.batch_size=8", "data.buckets.max_shapes=1",
        "data.max_train_pairs=200", "data.max_development_items=4", "data.max_test_items=8", "data.max_source_len=12",
        "data.max_target_len=12", "train.schedule.warmup_updates=2", "train.log_every=4", "search.max_len=12",
        "search.num_beams=2",
    ),
    about="A dry run.", usual_rate=1.0,
)  # fmt: skip


def command(words: Sequence[str]) -> list[str]:
    """The command line's program in a process of this Python."""
    return [sys.executable, "-c", PROGRAM, *words]


def train_words(run: Run, folder: Path, updates: int) -> list[str]:
    """The words of ``transformer-jax train`` for so many updates."""
    every = max(1, updates // CHECKPOINTS)
    changes = [
        *run.changes, f"train.updates={updates}", f"train.evaluate_every={updates}", f"train.checkpoint_every={every}",
        f"train.keep_last={KEPT}",
    ]  # fmt: skip
    experiment = str(Path("experiments") / run.experiment)
    return ["train", experiment, "--run-dir", str(folder), "--overwrite", "--set", *changes]


def last_rate(folder: Path) -> float | None:
    """Updates a second between the first and the last row of a run's log; ``None`` where there are not two."""
    try:
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    except (OSError, json.JSONDecodeError):
        return None
    rows = [row for row in rows if row.get("kind") == "train"]
    if len(rows) < 2 or rows[-1]["seconds"] <= rows[0]["seconds"]:
        return None
    return (rows[-1]["update"] - rows[0]["update"]) / (rows[-1]["seconds"] - rows[0]["seconds"])


_running: list["subprocess.Popen[Any]"] = []
_writing = threading.Lock()
"""Runs end beside each other, and each writes the results of all."""


def run_until(words: Sequence[str], until: float, log: TextIO) -> int:
    """Run a command; stop it by SIGTERM at a time, and for good a while later; its status."""
    process = subprocess.Popen(command(words), cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    _running.append(process)
    try:
        for limit, number in ((until, signal.SIGTERM), (until + STOP_SECONDS, signal.SIGKILL)):
            try:
                return process.wait(timeout=max(0.1, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
        return process.wait()
    finally:
        if process.poll() is None:
            end_group(process)


def run_before(
    end: float, words: Sequence[str], log: TextIO, stdout: Any
) -> "subprocess.CompletedProcess[str]":
    """Run a command; kill it at a time (``time.monotonic``), but no sooner than in 5 seconds.

    Raises:
      subprocess.TimeoutExpired: If it had to be killed.
    """
    seconds = max(5.0, end - time.monotonic())
    return subprocess.run(command(words), cwd=ROOT, stdout=stdout, stderr=log, text=True, timeout=seconds)


def finish(
    run: Run, words: list[str], folder: Path, output: Path, log: TextIO, *, end: float
) -> dict[str, Any]:
    """Average, evaluate, export and pack one run; what ``evaluate`` printed, or why there is nothing."""
    mean, model = folder.with_name(f"{run.name}-mean"), folder.with_name(run.name + "-model")
    name = "average"
    try:
        averaged = run_before(end, [name, str(folder), "--output", str(mean), "--last", str(KEPT)], log, log)
        best = str(mean if averaged.returncode == 0 else folder)
        name = "evaluate"
        found = run_before(end, [name, best, "--split", "test", "--json"], log, subprocess.PIPE)
    except subprocess.TimeoutExpired:
        return {"error": f"{name} did not end in time"}
    if found.returncode != 0:
        return {"error": f"evaluate ended with status {found.returncode}; its words stand in the log"}
    scores = {**json.loads(found.stdout), "command": "transformer-jax " + " ".join(words)}
    try:
        exported = run_before(end, ["export", best, "--output", str(model), "--about", run.about], log, log)
    except subprocess.TimeoutExpired:
        log.write(f"{run.name}: export did not end in time\n")
        return scores
    if exported.returncode == 0:
        with tarfile.open(output / f"training-{run.name}.tar.xz", "w:xz", preset=3) as archive:
            archive.add(model, arcname=run.name)
    return scores


def train_one(
    run: Run,
    folder: Path,
    output: Path,
    log: TextIO,
    *,
    updates: int,
    until: float,
    end: float,
    results: dict[str, Any],
) -> None:
    """Train a run with so many updates until a time, then finish it by the end; its results are written either way."""
    words = train_words(run, folder, updates)
    status = run_until(words, until, log)
    if status not in (0, 143):
        results[run.name] = {"error": f"train ended with status {status}; its words stand in the log"}
    else:
        shown = [word.replace(str(folder), f"runs/{run.name}") for word in words]
        results[run.name] = finish(run, shown, folder, output, log, end=end)
    with _writing:
        write_whole(output / RESULTS, json.dumps(dict(results), indent=1) + "\n")


def main(words: Sequence[str] | None = None) -> int:
    """Parse the command line, train, print the scores; 1 where a run gave none."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--minutes", type=float, default=10.0, help="in all (10)")
    parser.add_argument("--output", type=Path, default=Path(os.environ.get("OUT") or "runs/device"))
    parser.add_argument("--dry-run", action="store_true", help="a tiny run, on the CPU")
    options = parser.parse_args(words)
    began = time.monotonic()
    end = began + 60 * options.minutes - 10
    train_until = end - FINISH_SECONDS - STOP_SECONDS
    if train_until - began < 3 * TRY_SECONDS and not options.dry_run:
        parser.error(f"--minutes must be at least 6, got {options.minutes:g}")
    prepare_environment(dry=options.dry_run)
    runs = [TINY] if options.dry_run else [RUNS[name] for name in options.runs]
    output = options.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    # Checkpoints are many and of no use afterwards.
    scratch = Path(tempfile.mkdtemp(prefix="device-training-"))
    results: dict[str, Any] = {}
    try:
        with (output / "training.log").open("a") as log:
            folders = {run.name: scratch / run.name for run in runs}
            try_until = time.monotonic() + TRY_SECONDS
            if options.dry_run:
                try_until = train_until
            each = [
                threading.Thread(
                    target=run_until, args=(train_words(run, folders[run.name], run.updates), try_until, log)
                )
                for run in runs
            ]
            run_threads(each)
            left = train_until - time.monotonic()
            each = []
            for run in runs:
                seen = last_rate(folders[run.name])
                rate = run.usual_rate if seen is None else seen
                # A tenth is kept for what the second start costs and the rate hides.
                updates = min(run.updates, max(LEAST_UPDATES, int(rate * left * 0.9)))
                told = "not seen yet, usually " if seen is None else ""
                print(f"{run.name}: {told}{rate:.1f} updates a second, so {updates:,} updates", flush=True)
                options_of = {"updates": updates, "until": train_until, "end": end, "results": results}
                arguments = (run, folders[run.name], output, log)
                each.append(threading.Thread(target=train_one, args=arguments, kwargs=options_of))
            run_threads(each)
    finally:
        for process in _running:  # of an interrupted call; each leads a group of its own
            if process.poll() is None:
                end_group(process)
        shutil.rmtree(scratch, ignore_errors=True)
    for run in runs:
        found = results.get(run.name, {"error": "nothing came of it"})
        scores = {name: found[name] for name in ("per", "wer", "bleu", "chrf", "ter") if name in found}
        text = ", ".join(f"{name.upper()} {value:.2f}" for name, value in scores.items())
        print(f"{run.name}: {text or found.get('error', 'no score')}")
    print(f"results: {output}")
    return 0 if all("error" not in results.get(run.name, {"error": ""}) for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
