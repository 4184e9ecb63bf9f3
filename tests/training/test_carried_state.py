"""State that a model carries from batch to batch: resumed exactly, no part of the model, refused where it cannot be."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.data.token_batches import TokenBatch
from transformer_jax.errors import ConfigError
from transformer_jax.nn import CarriedState
from transformer_jax.objectives import NextToken
from transformer_jax.training import Adam, CheckpointStore, Constant, TrainConfig, Trainer, load_params
from transformer_jax.training.state import split_model
from transformer_jax.training.weights_file import read_weights, write_weights

ROWS, LENGTH, VOCAB_SIZE, WIDTH = 3, 5, 11, 4


class Remembering(nnx.Module):
    """A recurrent language model; with ``rows`` it begins each window where the last one ended."""

    def __init__(self, rows: int | None) -> None:
        generator = np.random.default_rng(0)
        self.embedding = nnx.Param(jnp.asarray(generator.normal(size=(VOCAB_SIZE, WIDTH)), jnp.float32))
        self.memory_weight = nnx.Param(jnp.asarray(0.5 * generator.normal(size=(WIDTH, WIDTH)), jnp.float32))
        if rows is not None:
            self.last = CarriedState(jnp.zeros((rows, WIDTH)))

    def __call__(self, tokens: Any, *, rng_key: Any = None, restarts: Any = None) -> Any:
        start = jnp.zeros((tokens.shape[0], WIDTH))
        if restarts is not None:
            start = jnp.where(restarts[:, None] > 0, 0.0, self.last[...])

        def body(state: Any, entry: Any) -> tuple[Any, Any]:
            state = jnp.tanh(entry + state @ self.memory_weight[...])
            return state, state

        last, states = jax.lax.scan(body, start, self.embedding[...][tokens].swapaxes(0, 1))
        if restarts is not None:
            self.last[...] = jax.lax.stop_gradient(last)
        return states.swapaxes(0, 1) @ self.embedding[...].T


class Windows:
    """Windows of random tokens; every third batch begins anew."""

    def abstract_batches(self) -> list[TokenBatch]:
        return [self.batch(0)]

    def iterate(self, start_step: int) -> Iterator[TokenBatch]:
        step = start_step
        while True:
            yield self.batch(step)
            step += 1

    def count_tokens(self, batch: TokenBatch) -> int:
        return batch.num_tokens()

    def batch(self, step: int) -> TokenBatch:
        tokens = np.random.default_rng(step).integers(0, VOCAB_SIZE, (ROWS, LENGTH + 1)).astype(np.int32)
        restarts = np.full(ROWS, step % 3 == 0, np.int32)
        lengths, ids = np.full(ROWS, LENGTH, np.int32), np.arange(ROWS, dtype=np.int32)
        return TokenBatch(tokens[:, :-1], tokens[:, 1:], lengths, None, restarts, ids)


CONFIG = TrainConfig(
    updates=5, optimizer=Adam(), schedule=Constant(peak_learning_rate=0.05), log_every=1, checkpoint_every=1
)


def train(run_dir: Path, *, updates: int = 5, resume: bool = False) -> dict[str, np.ndarray]:
    """All variables after a run."""
    model = Remembering(ROWS)
    config = dataclasses.replace(CONFIG, updates=updates)
    Trainer(model, NextToken(), config, run_dir=run_dir, batches=Windows(), quiet=True).fit(resume=resume)
    _, params, others = split_model(model)
    return {name: np.asarray(array) for name, array in (params | others).items()}


def test_a_resumed_run_has_the_state_of_an_unbroken_one(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    assert whole["last"].any()
    train(tmp_path / "halved", updates=2)  # in the middle of a chain of windows
    again = train(tmp_path / "halved", resume=True)
    assert whole.keys() == again.keys() == {"embedding", "memory_weight", "last"}
    for name, array in whole.items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)


def test_a_model_is_loaded_and_exported_without_it(tmp_path: Path) -> None:
    trained = train(tmp_path / "run")
    assert CheckpointStore(tmp_path / "run").model_shapes(5).keys() == {"embedding", "memory_weight"}
    model = Remembering(None)
    load_params(tmp_path / "run", "last", model=model)
    np.testing.assert_array_equal(model.memory_weight[...], trained["memory_weight"])
    carrying = Remembering(ROWS)
    load_params(tmp_path / "run", "last", model=carrying)
    np.testing.assert_array_equal(carrying.embedding[...], trained["embedding"])
    assert not carrying.last[...].any(), "a state of other rows is nothing to begin with"
    write_weights(tmp_path / "model.safetensors", carrying, {})
    read_weights(tmp_path / "model.safetensors", model)
    np.testing.assert_array_equal(model.embedding[...], trained["embedding"].astype(np.float16))


def test_rolling_back_over_batches_is_refused(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, on_divergence="rollback")
    options: dict[str, Any] = {"run_dir": tmp_path, "batches": Windows(), "quiet": True}
    with pytest.raises(
        ConfigError, match=r"train\.on_divergence is 'rollback', but the model carries a state"
    ):
        Trainer(Remembering(ROWS), NextToken(), config, **options)
    Trainer(Remembering(None), NextToken(), config, **options)


def test_micro_batches_are_refused(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, accumulation=3)
    with pytest.raises(
        ConfigError, match=r"train\.accumulation is 3, but the model carries a state of each row"
    ):
        Trainer(Remembering(ROWS), NextToken(), config, run_dir=tmp_path, batches=Windows(), quiet=True)
