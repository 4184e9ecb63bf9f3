"""What checkpoints cost: time that training loses to a save, and memory that a restore takes.

    python benchmarks/checkpointing.py --json benchmarks/results/checkpointing-cpu.json

Time: windows of updates take turns, without a save, with one that is written beside the next updates (as the trainer
does it), and with one that is waited for. What a window with a save takes longer, over the default interval
(``TrainConfig.checkpoint_every``), is the share of training time that checkpoints cost. A window is long enough for the
save to end in it; the save of the window is waited for at its end, so nothing is left out.

Memory: a process of its own restores a state of over 500 MB (parameters and Adam's moments); the most that was resident
meanwhile above what was before, over the state's bytes. The state that says what is wanted is there before.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.resident import collect_and_give_back, peak_during, resident_bytes
from transformer_jax.allocator import num_cores
from transformer_jax.models.build import build_model
from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.models.sizes import Sizes
from transformer_jax.nn.parameters import parameter_count
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.testing.tiny_training import SequenceTask
from transformer_jax.training import Adam, CheckpointInfo, CheckpointStore, Constant, TrainConfig
from transformer_jax.training.background import BackgroundSaver
from transformer_jax.training.state import TrainState
from transformer_jax.training.step import CompiledSteps, build_step, first_state

CONFIG = TrainConfig(updates=10**6, optimizer=Adam(), schedule=Constant(peak_learning_rate=1e-4))
WAYS = ("no save", "written beside", "waited for")
MODELS = {
    # name: (width, layers a side, vocabulary, rows, length); widths and vocabularies as in the experiments
    "pronunciation": (128, 2, 72, 256, 24),
    "multi30k": (128, 4, 8000, 64, 24),
}
BIG = (512, 6, 8000, 2, 8)


def built(
    width: int, num_layers: int, vocab_size: int, rows: int, length: int
) -> tuple[Any, TrainState, CompiledSteps, Any]:
    """Model, state, compiled step and a batch."""
    config = EncoderDecoderConfig(
        model_dim=width, num_heads=4, num_kv_heads=4, feed_forward_dim=4 * width, num_encoder_layers=num_layers,
        num_decoder_layers=num_layers, dropout_rate=0.1, share_embeddings="all",
    )  # fmt: skip
    model = build_model(config, Sizes.of_pairs(vocab_size), seed=0)
    task = SequenceTask(
        task="copy", vocab_size=vocab_size, min_len=length, max_lens=(length,), batch_size=rows
    )
    batch, objective = task.batch(0), PairCrossEntropy(label_smoothing=0.1)
    structure, state = first_state(model, objective, CONFIG, batch)
    return model, state, CompiledSteps(build_step(structure, objective, CONFIG)), batch


def info(update: int) -> CheckpointInfo:
    """Of a checkpoint that was not scored."""
    return CheckpointInfo(
        update=update, score=None, metric_mode="min", train_seconds=0.0, tokens=0, metrics={}, extra={}
    )


def state_bytes(state: TrainState) -> int:
    """Of parameters and optimiser."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves((state.params, state.optimizer_state)))


def lost_seconds(name: str, *, windows: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Seconds that a save costs, both ways, and an update's."""
    model, state, steps, batch = built(*MODELS[name])
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(folder)
        saver = BackgroundSaver(store, on_failure="stop", tell=print)
        number = 0

        def window(way: str, updates: int) -> float:
            nonlocal state, number
            begin = time.perf_counter()
            for update in range(updates):
                state = steps(state, batch)
                if update == 0 and way != "no save":
                    number += 1
                    jax.block_until_ready(state.update)
                    saver.save(state, info(number))
                    if way == "waited for":
                        saver.wait()
            jax.block_until_ready(state)
            saver.wait()
            return time.perf_counter() - begin

        for way in WAYS:
            window(way, 3)  # compiles, opens what orbax opens once
        a_save = min(window("waited for", 1) - window("no save", 1) for _ in range(3))
        an_update = window("no save", 8) / 8
        updates = max(8, int(2 * a_save / an_update))
        taken: dict[str, list[float]] = {way: [] for way in WAYS}
        for turn in range(windows):
            tell(f"{name}: window {turn + 1} of {windows}, {updates} updates each")
            for way in np.random.default_rng(turn).permutation(WAYS):
                taken[str(way)].append(window(str(way), updates))
        saver.close(waits=True, raises=True)
    update_seconds = float(np.median(taken["no save"])) / updates
    lost = {way: np.array(taken[way]) - np.array(taken["no save"]) for way in WAYS[1:]}
    interval = TrainConfig.checkpoint_every
    return {
        "model": name,
        "parameters": parameter_count(model),
        "state_bytes": state_bytes(state),
        "windows": windows,
        "updates_a_window": updates,
        "update_seconds": update_seconds,
        "interval": interval,
        "lost_seconds": {way: [float(x) for x in np.quantile(each, (0.25, 0.5, 0.75))] for way, each in lost.items()},
        "share": {way: float(np.median(each)) / (interval * update_seconds) for way, each in lost.items()},
    }  # fmt: skip


def restore_in_a_child(folder: str) -> dict[str, int]:
    """Saves a large state, then restores it in a process of its own."""
    state = built(*BIG)[1]
    CheckpointStore(folder).save(state, info(1))
    program = [sys.executable, __file__, "--restore", folder]
    ran = subprocess.run(program, capture_output=True, text=True, check=True)
    return dict(json.loads(ran.stdout.splitlines()[-1]))


def restore(folder: str) -> dict[str, int]:
    """Bytes of the state, and the most that restoring it held above what was held before."""
    state = built(*BIG)[1]
    wanted = state_bytes(state)
    collect_and_give_back()
    before = resident_bytes()
    peak = peak_during(lambda: CheckpointStore(folder).restore(state, 1))
    return {"state_bytes": wanted, "before": before, "peak_above": peak - before}


def main() -> int:
    """Parse the command line, measure, show and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=9, help="of each kind (default 9)")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--restore", metavar="DIR", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.restore:
        print(json.dumps(restore(options.restore)))
        return 0
    console = Console(stderr=True)
    rows = [
        lost_seconds(name, windows=options.windows, tell=lambda text: console.print(text, highlight=False))
        for name in MODELS
    ]
    console.print("restoring a large state in a process of its own")
    with tempfile.TemporaryDirectory() as folder:
        memory = restore_in_a_child(folder)
    table = Table("model", "state, MB", "update, ms", *(f"{way}: ms, share" for way in WAYS[1:]))
    for row in rows:
        cells = [f"{1000 * row['lost_seconds'][way][1]:.0f}, {row['share'][way]:.2%}" for way in WAYS[1:]]
        table.add_row(
            row["model"], f"{row['state_bytes'] / 1e6:.0f}", f"{1000 * row['update_seconds']:.0f}", *cells
        )
    Console().print(table)
    ratio = memory["peak_above"] / memory["state_bytes"]
    print(
        f"restoring {memory['state_bytes'] / 1e6:,.0f} MB held at most {ratio:.2f} times that above the process before"
    )
    if options.json:
        document = {
            "jax": jax.__version__, "cores": num_cores(), "rows": rows, "restore": memory | {"ratio": ratio},
        }  # fmt: skip
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
