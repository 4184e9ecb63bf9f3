"""Writes the checkpoint of a tiny run, and its arrays as they were in memory, for the tests of later versions.

    python tests/training/make_golden_checkpoint.py tests/training/golden/NAME

makes NAME.zip (the run folder) and NAME.npz. To be run once a version that writes other checkpoints; what earlier ones
wrote stays.
"""

import dataclasses
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.testing.tiny_training import SequenceTask, TinySeq2Seq
from transformer_jax.training import Adam, Constant, TrainConfig, Trainer
from transformer_jax.training.background import BackgroundSaver

UPDATES = 4
MODEL = {"vocab_size": 11, "model_dim": 8, "dropout_rate": 0.1}
TASK = SequenceTask(task="copy", vocab_size=11, min_len=1, max_lens=(4,), batch_size=6, dummy_rows=2)
CONFIG = TrainConfig(
    updates=UPDATES,
    optimizer=Adam(),
    schedule=Constant(peak_learning_rate=0.01),
    log_every=3,
    checkpoint_every=UPDATES,
    average_decay=0.9,
)


def trainer(run_dir: Path, *, updates: int = UPDATES) -> Trainer:
    """Of the run that the golden checkpoints are of."""
    return Trainer(
        TinySeq2Seq(**MODEL, rngs=nnx.Rngs(0)), PairCrossEntropy(),
        dataclasses.replace(CONFIG, updates=updates),
        run_dir=run_dir, batches=TASK, quiet=True,
    )  # fmt: skip


def named_leaves(state: Any) -> dict[str, np.ndarray]:
    """Every array of a state by its path; the random key as integers."""
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        found[jax.tree_util.keystr(path)] = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
    return found


def main() -> None:
    """Train, keep what was to be saved, zip what was saved."""
    target, kept = Path(sys.argv[1]), {}
    save = BackgroundSaver.save

    def noting(self: BackgroundSaver, state: Any, info: Any) -> None:
        kept.update(named_leaves(state))
        save(self, state, info)

    BackgroundSaver.save = noting  # type: ignore[method-assign]  # listens in
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        trainer(run_dir).fit()
        with zipfile.ZipFile(target.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(run_dir.rglob("*")):
                if path.is_file() and path.parts[-2] != "tensorboard":
                    archive.write(path, path.relative_to(run_dir))
    np.savez_compressed(target.with_suffix(".npz"), **kept)


if __name__ == "__main__":
    main()
