"""Language models learn through the trainer; carried state brings what a window before showed, and is resumed."""

import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chex
import numpy as np
import pytest
from flax import nnx

from transformer_jax.data.token_batches import TokenBatch
from transformer_jax.models import DecoderOnlyConfig, RecurrentLMConfig, Sizes, build_model
from transformer_jax.nn import Rotary
from transformer_jax.nn.parameters import named_parameters
from transformer_jax.objectives import NextToken
from transformer_jax.training import Adam, Cosine, TrainConfig, Trainer, TrainingInterrupted
from transformer_jax.training.config import MeshShape

BEGIN, QUESTION, FIRST_SYMBOL, NUM_SYMBOLS = 1, 2, 3, 8
VOCAB, ROWS, WINDOW = FIRST_SYMBOL + NUM_SYMBOLS, 16, 4
SURPRISE = math.log(NUM_SYMBOLS)
CONFIG = TrainConfig(
    updates=300,
    optimizer=Adam(),
    schedule=Cosine(peak_learning_rate=0.01, warmup_updates=20),
    log_every=50,
    checkpoint_every=10_000,
)


@dataclasses.dataclass(frozen=True)
class Riddles:
    """Texts of eight tokens: ``1 S 2 S 2 S 2 S``, S any symbol; in rows of eight, or as two windows of four.

    The first S surprises with log 8 nats, the first of the second window whoever does not remember the one before.
    """

    in_windows: bool
    interrupt_at: int | None = None

    def abstract_batches(self) -> list[TokenBatch]:
        return [self.batch(0)]

    def count_tokens(self, batch: TokenBatch) -> int:
        return batch.num_tokens()

    def iterate(self, start_step: int) -> Iterator[TokenBatch]:
        step = start_step
        while step != self.interrupt_at:
            yield self.batch(step)
            step += 1
        raise KeyboardInterrupt

    def batch(self, step: int) -> TokenBatch:
        number, part = divmod(step, 2) if self.in_windows else (step, 0)
        symbols = np.random.default_rng(number).integers(FIRST_SYMBOL, VOCAB, (ROWS, 1))
        text = np.tile(np.concatenate([np.full((ROWS, 1), QUESTION), symbols], axis=1), (1, 5))
        text[:, 0] = BEGIN
        first, length = (part * WINDOW, WINDOW) if self.in_windows else (0, 2 * WINDOW)
        return TokenBatch(
            text[:, first : first + length].astype(np.int32),
            text[:, first + 1 : first + length + 1].astype(np.int32),
            np.full(ROWS, length, np.int32),
            None,
            np.full(ROWS, int(part == 0), np.int32),
            np.full(ROWS, step, np.int32),
        )


def recurrent(cell: str) -> RecurrentLMConfig:
    return RecurrentLMConfig(cell=cell, embedding_dim=16, hidden_dim=32, num_layers=1)


GPT = DecoderOnlyConfig(
    model_dim=32,
    num_heads=2,
    num_kv_heads=1,
    feed_forward_dim=64,
    num_layers=2,
    positions=Rotary(),
    dropout_rate=0.0,
    normalization="rms",
    activation="swiglu",
    use_bias=False,
    weight_deviation=0.1,  # GPT-2's 0.02 is for wider models: at width 32 it takes three times as long
)


def build(config: Any, carried_rows: int | None = None) -> Any:
    return build_model(config, Sizes(vocab_size=VOCAB, carried_rows=carried_rows), seed=0)


def last_loss(model: nnx.Module, batches: Riddles, run_dir: Path) -> float:
    result = Trainer(model, NextToken(), CONFIG, run_dir=run_dir, batches=batches, quiet=True).fit()
    return result.curve[-1]["loss"]


@pytest.mark.parametrize("config", [GPT, recurrent("gru")], ids=["gpt", "gru"])
def test_whole_texts_are_learned(config: Any, tmp_path: Path) -> None:
    loss = last_loss(build(config), Riddles(in_windows=False), tmp_path / "run")
    assert loss == pytest.approx(SURPRISE / 8, abs=0.05), "one surprise in eight tokens"


@pytest.mark.parametrize("cell", ["lstm", pytest.param("min_gru", marks=pytest.mark.full)])
def test_carried_state_remembers_the_last_window(cell: str, tmp_path: Path) -> None:
    carried = last_loss(build(recurrent(cell), ROWS), Riddles(in_windows=True), tmp_path / "carried")
    forgets = last_loss(build(recurrent(cell)), Riddles(in_windows=True), tmp_path / "forgets")
    assert forgets == pytest.approx(2 * SURPRISE / 8, abs=0.05), "two surprises in eight tokens"
    assert carried < 0.75 * forgets, "the second surprise is none for a model that remembers"


def test_a_resumed_run_carries_its_state_on(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, updates=6, log_every=3, checkpoint_every=3)

    def trained(run_dir: Path, interrupt_at: int | None, *, resume: bool = False) -> nnx.Module:
        model = build(recurrent("gru"), ROWS)
        batches = Riddles(in_windows=True, interrupt_at=interrupt_at)
        trainer = Trainer(model, NextToken(), config, run_dir=run_dir, batches=batches, quiet=True)
        trainer.fit(resume=resume)
        return model

    whole = trained(tmp_path / "whole", None)
    with pytest.raises(TrainingInterrupted):
        trained(tmp_path / "parts", 3)  # between the two windows of a text
    resumed = trained(tmp_path / "parts", None, resume=True)
    chex.assert_trees_all_equal(named_parameters(resumed), named_parameters(whole))
    chex.assert_trees_all_equal(nnx.state(resumed), nnx.state(whole))


MESHES = (None, MeshShape(data=2, fsdp=2, tensor=2))


def losses_by_mesh() -> dict[str, list[list[float]]]:
    """Losses of the first updates on one device and on a mesh of eight, by model; run where there are eight."""
    found: dict[str, list[list[float]]] = {}
    for name, config, rows in (("gpt", GPT, None), ("gru", recurrent("gru"), ROWS)):
        for mesh in MESHES:
            settings = dataclasses.replace(CONFIG, updates=4, log_every=1, sharding=mesh)
            batches = Riddles(in_windows=rows is not None)
            with tempfile.TemporaryDirectory() as run_dir:
                trainer = Trainer(
                    build(config, rows), NextToken(), settings, run_dir=run_dir, batches=batches, quiet=True
                )
                found.setdefault(name, []).append([row["loss"] for row in trainer.fit().curve])
    return found


@pytest.mark.full
def test_a_mesh_trains_the_same_models() -> None:
    code = "import json, test_language_models_learn as own; print(json.dumps(own.losses_by_mesh()))"
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {
        **os.environ,
        "PYTHONPATH": paths,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    }
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env=environment,
    )
    assert ran.returncode == 0, ran.stderr
    for name, (alone, spread) in json.loads(ran.stdout.splitlines()[-1]).items():
        np.testing.assert_allclose(spread, alone, rtol=1e-5, err_msg=name)
