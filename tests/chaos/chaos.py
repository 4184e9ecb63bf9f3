"""Breaks training runs on purpose, many times, and compares what they end with to a run that was left alone.

    python tests/chaos/chaos.py --points 200 --json benchmarks/results/chaos-cpu.json        (make chaos)

A small run is trained once in peace. Then runs of the same config are started and broken off by one fault after
another, each at a random place, and taken up again with ``--resume``, until they end: parameters, optimiser state and
log rows must be the same bits. The faults:

kill          SIGKILL before the n-th operation on the run's files (open for writing, rename, remove, new folder, fsync)
moment        SIGKILL at a random moment, wherever the process is: compiling, in an update, in orbax's own threads
no space      from the n-th operation on, nothing can be opened for writing or made (ENOSPC); the command must end with
              status 2 and one line
lost rename   the n-th rename does not happen, then SIGKILL, as when the power goes before the folder is on the disk
torn          a file of a checkpoint is cut off after the checkpoint got its name, then SIGKILL

Children are forked from a process that has imported everything and computed nothing: one takes about two seconds.
"""

import argparse
import collections
import errno
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import jax
import numpy as np
import orbax.checkpoint  # noqa: F401 - the children need it at once

from transformer_jax.cli import train  # noqa: F401 - the children need it at once
from transformer_jax.cli.main import _hush_libraries
from transformer_jax.cli.main import main as command
from transformer_jax.runs import experiment_runner  # noqa: F401 - the children need it at once
from transformer_jax.training import read_rows
from transformer_jax.training.checkpoint import CheckpointStore
from transformer_jax.training.orbax_items import read_item

FAULTS = ("kill", "moment", "no space", "lost rename", "torn")
OPERATIONS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
FARTHEST = 160
"""Operations after which a fault comes at the latest: some four checkpoints."""
LONGEST = 4.0
"""Seconds after which a child is killed at a random moment at the latest."""

CONFIG = """
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.data.pairs_config import ChosenBuckets, PairsConfig, ParallelFiles
from transformer_jax.decode.searcher import GreedyConfig
from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.tasks.pronunciation import Pronunciation
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config():
    return ExperimentConfig(
        name="chaos", task=Pronunciation(data=PairsConfig(
            dataset=ParallelFiles(train_source={source!r}, train_target={target!r}),
            batch_size=8, buckets=ChosenBuckets(max_shapes=2), max_source_len=8, max_target_len=9,
        ), search=GreedyConfig(max_len=9)),

        model=EncoderDecoderConfig(
            model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=8, num_encoder_layers=1, num_decoder_layers=1,
            dropout_rate=0.2,
        ),
        train=TrainConfig(
            updates={updates}, optimizer=Adam(), schedule=Cosine(peak_learning_rate=0.01, warmup_updates=3),
            log_every=3, evaluate_every=10, checkpoint_every=2, keep_last=3, metric="per", average_decay=0.9,
        ),

    )
"""
WORDS = ("cat", "tack", "at", "act", "tact", "attack", "cactus", "tic", "cut", "suit", "is", "sit")


class Saboteur:
    """Counts the operations on the files below a folder, and does one harm."""

    def __init__(self, folder: Path, fault: str, place: int, seed: int) -> None:
        self._folder, self._fault, self._place = str(folder), fault, place
        self._random = random.Random(seed)
        self._count = 0
        self._renames = 0

    def install(self) -> None:
        """From now on, for good: the process is a child."""
        sys.addaudithook(self._hear)
        fsync, rename, replace = os.fsync, os.rename, os.replace

        def counted_fsync(descriptor: int) -> None:
            self._operation(writes=True)
            fsync(descriptor)

        def faulty(real: Any) -> Any:
            def moved(source: Any, target: Any, **options: Any) -> None:
                if not str(target).startswith(self._folder):
                    return real(source, target, **options)
                self._renames += 1
                here = self._renames > self._place // 20  # about as many operations a rename
                if self._fault == "lost rename" and here:
                    os.kill(os.getpid(), signal.SIGKILL)
                real(source, target, **options)
                if self._fault == "torn" and here and Path(target).name.isdecimal():
                    self._tear(Path(target))

            return moved

        os.fsync, os.rename, os.replace = counted_fsync, faulty(rename), faulty(replace)

    def _tear(self, checkpoint: Path) -> None:
        files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.stat().st_size)
        file = self._random.choice(files)
        os.truncate(file, file.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = (
                bool(flags & (os.O_WRONLY | os.O_RDWR)) if isinstance(flags, int) else "r" not in str(mode)
            )
            if writes and str(path).startswith(self._folder):
                self._operation(writes=True)
        elif event in OPERATIONS and str(arguments[0]).startswith(self._folder):
            self._operation(writes=event == "os.mkdir")

    def _operation(self, *, writes: bool) -> None:
        self._count += 1
        if self._fault == "kill" and self._count == self._place:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fault == "no space" and self._count >= self._place and writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def segment(words: list[str], run_dir: Path, log: Path, fault: str | None, place: int, seed: int) -> int:
    """One child: a command that a fault may end. Returns its wait status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            if fault in ("kill", "no space", "lost rename", "torn"):
                Saboteur(run_dir, fault, place, seed).install()
            _hush_libraries(False)  # as the console script does
            status = command(words)
            sys.stdout.flush()
        finally:
            os._exit(status)
    if fault == "moment":
        time.sleep(LONGEST * place / FARTHEST)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def left_by(run_dir: Path) -> Any:
    """The bytes of every array of the last checkpoint, and the log rows without their times."""
    store = CheckpointStore(run_dir)
    path = store.path(store.updates()[-1])
    arrays = {
        f"{item}/{name}": (str(array.dtype), array.shape, np.asarray(array).tobytes())
        for item in ("model", "training")
        for name, array in read_item(path, item).items()
    }
    rows = [
        {name: value for name, value in row.items() if "second" not in name} for row in read_rows(run_dir)
    ]
    return arrays, rows


def break_runs(folder: Path, *, points: int, updates: int, seed: int) -> dict[str, Any]:
    """Runs broken at ``points`` places.

    Returns:
      How often each fault came and what became of it, and of the runs.
    """
    source, target = folder / "train.src", folder / "train.tgt"
    source.write_text("".join(f"{word}\n" for word in WORDS * 4))
    target.write_text("".join(f"{' '.join(word.upper())}\n" for word in WORDS * 4))
    config = folder / "config.py"
    config.write_text(CONFIG.format(source=str(source), target=str(target), updates=updates))
    log, chance = folder / "log.txt", random.Random(seed)
    whole = folder / "whole"
    for _ in range(2):  # the first one compiles for all that come
        status = segment(
            ["train", str(config), "--run-dir", str(whole), "--overwrite"], whole, log, None, 0, 0
        )
        if status:
            raise SystemExit(f"the run without a fault ended with {status}: {log.read_text()}")
    found: dict[str, Any] = {
        "points": 0, "faults": collections.Counter(), "outcomes": collections.Counter(), "noisy": 0, "lost": 0,
        "runs": 0, "identical": 0, "wrong": [],
    }  # fmt: skip
    wanted = digest_of(whole)
    while found["points"] < points:
        run_dir = folder / f"run-{found['runs']}"
        is_lost = False
        while not (run_dir / "result.json").exists():
            is_begun = (run_dir / "config.json").exists() and not is_lost
            words = ["train", "--run-dir", str(run_dir)]
            words += ["--resume"] if is_begun else [str(config), "--overwrite"]
            fault = chance.choice(FAULTS) if found["points"] < points else None
            place = chance.randint(1, FARTHEST)
            status = segment(words, run_dir, log, fault, place, chance.getrandbits(32))
            said = log.read_text(errors="replace")
            outcome = "killed" if os.WIFSIGNALED(status) else f"status {os.waitstatus_to_exitcode(status)}"
            lines = [line for line in said.splitlines() if line.startswith("error: ")]
            # The first checkpoint was torn before there was a second: said, and the run begins again.
            is_lost = outcome == "status 2" and "every checkpoint is damaged" in said
            is_full = outcome == "status 2" and fault == "no space" and "No space left" in said
            is_clear = outcome in ("status 0", "killed") or ((is_lost or is_full) and len(lines) == 1)
            if outcome == "killed" or is_full:
                found["points"] += 1
                found["faults"][fault] += 1
                found["outcomes"][outcome] += 1
            found["lost"] += is_lost
            found["noisy"] += "Traceback" in said  # of a library's own threads
            if not is_clear:
                harm = {"fault": fault, "place": place, "outcome": outcome, "said": said[-800:]}
                found["wrong"].append(harm)
                print(harm, file=sys.stderr, flush=True)
                if len(found["wrong"]) > 20:
                    return found
        found["runs"] += 1
        if digest_of(run_dir) == wanted:
            found["identical"] += 1
        else:
            found["wrong"].append({"run": found["runs"], "said": "ended with other bits"})
        print(
            f"{found['points']} of {points} points, {found['identical']} of {found['runs']} runs identical,"
            f" {len(found['wrong'])} wrong", flush=True,
        )  # fmt: skip
    return found


def digest_of(run_dir: Path) -> str:
    """SHA-256 of what a run left, found by a child: this process must not start JAX's threads."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, hashlib.sha256(repr(left_by(run_dir)).encode()).hexdigest().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    os.waitpid(child, 0)
    if not text:
        raise SystemExit(f"{run_dir} cannot be read")
    return text


def main() -> int:
    """Parse the command line, break runs, write what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=200, help="faults (default 200)")
    parser.add_argument("--updates", type=int, default=24, help="of each run (default 24)")
    parser.add_argument("--seed", type=int, default=0, help="of the faults and their places (default 0)")
    parser.add_argument("--json", type=Path, help="write the counts here")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/compiled"
        for name, value in (
            ("jax_compilation_cache_dir", f"{folder}/compiled"),
            ("jax_persistent_cache_min_compile_time_secs", 0.0),
            ("jax_persistent_cache_min_entry_size_bytes", -1),
        ):
            jax.config.update(name, value)
        found = break_runs(Path(folder), points=options.points, updates=options.updates, seed=options.seed)
    found["seconds"] = time.monotonic() - began
    found |= {"seed": options.seed, "updates": options.updates, "jax": jax.__version__}
    text = json.dumps(found, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    return 1 if found["wrong"] or found["identical"] != found["runs"] else 0


if __name__ == "__main__":
    sys.exit(main())
