"""Experts through the trainer: their losses in the gradient and the log, exact resumption, no trace in evaluation."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from transformer_jax.data.token_batches import TokenBatch
from transformer_jax.models.decoder_only import DecoderOnly, DecoderOnlyConfig
from transformer_jax.nn import Experts, NoPositions
from transformer_jax.objectives import NextToken
from transformer_jax.training import Adam, Constant, TrainConfig, Trainer, read_rows
from transformer_jax.training.state import split_model

EXPERTS = Experts(num_experts=3, capacity_factor=0.8, balance_weight=0.5)
MODEL = DecoderOnlyConfig(
    model_dim=4, num_heads=1, num_kv_heads=1, feed_forward_dim=6, num_layers=2, positions=NoPositions(),
    dropout_rate=0.0, feed_forward=EXPERTS,
)  # fmt: skip
CONFIG = TrainConfig(
    updates=4, optimizer=Adam(), schedule=Constant(peak_learning_rate=0.05), log_every=1, checkpoint_every=2,
    remat="layers", accumulation=2,
)  # fmt: skip


class Windows:
    def abstract_batches(self) -> Sequence[TokenBatch]:
        return [jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), self.batch(0))]

    def iterate(self, start_step: int) -> Iterator[TokenBatch]:
        step = start_step
        while True:
            yield self.batch(step)
            step += 1

    def count_tokens(self, batch: TokenBatch) -> int:
        return batch.num_tokens()

    def batch(self, step: int) -> TokenBatch:
        tokens = np.random.default_rng(step).integers(3, 9, (4, 6)).astype(np.int32)
        lengths = np.array([5, 3, 4, 1], np.int32)
        restarts, ids = np.zeros(4, np.int32), np.arange(4, dtype=np.int32)
        return TokenBatch(tokens[:, :-1], tokens[:, 1:], lengths, None, restarts, ids)


def train(
    folder: Path, *, updates: int = 4, experts: Experts = EXPERTS, resume: bool = False
) -> dict[str, np.ndarray]:
    model = DecoderOnly(dataclasses.replace(MODEL, feed_forward=experts), vocab_size=9, rngs=nnx.Rngs(0))
    config = dataclasses.replace(CONFIG, updates=updates)
    Trainer(model, NextToken(), config, run_dir=folder, batches=Windows(), quiet=True).fit(resume=resume)
    _, params, others = split_model(model)
    return {name: np.asarray(array) for name, array in (params | others).items()}


def test_losses_of_routers_train_and_are_logged_apart_and_runs_resume(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    rows = [row for row in read_rows(tmp_path / "whole") if row["kind"] == "train"]
    for row in rows:
        assert 0.5 < row["routing_loss"] < 4.0  # two layers, each with a balance of 1 to 1.5
        assert 0.0 <= row["dropped_tokens"] < 1.0
        assert 1.0 <= row["busiest_expert"] <= 1.5
    assert any(row["dropped_tokens"] > 0 for row in rows)

    free = train(tmp_path / "free", experts=dataclasses.replace(EXPERTS, balance_weight=0.0, z_weight=0.0))
    first, of_free = rows[0], next(iter(read_rows(tmp_path / "free")))
    assert first["loss"] == pytest.approx(of_free["loss"]), "the loss is the objective's"
    router = "stack.layers.0.feed_forward.router.kernel"
    assert np.abs(whole[router] - free[router]).max() > 1e-3, "the routers' losses are in the gradient"

    train(tmp_path / "halved", updates=2)
    again = train(tmp_path / "halved", resume=True)
    assert again.keys() == whole.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)
