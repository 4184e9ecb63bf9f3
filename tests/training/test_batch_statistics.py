"""Running statistics of batch norm through the trainer: resumed exactly, loaded and averaged with the model."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from transformer_jax.data.token_batches import TokenBatch
from transformer_jax.models.decoder_only import DecoderOnly, DecoderOnlyConfig
from transformer_jax.nn import NoPositions
from transformer_jax.objectives import NextToken
from transformer_jax.training import Adam, Constant, TrainConfig, Trainer, load_params
from transformer_jax.training.state import split_model
from transformer_jax.training.stored_models import average_checkpoints

MODEL = DecoderOnlyConfig(
    model_dim=4, num_heads=1, num_kv_heads=1, feed_forward_dim=4, num_layers=1, positions=NoPositions(),
    normalization="batch", norm_placement="pre",
)  # fmt: skip
CONFIG = TrainConfig(
    updates=4, optimizer=Adam(), schedule=Constant(peak_learning_rate=0.05), log_every=1, checkpoint_every=1,
    keep_last=4, remat="layers", accumulation=2,
)  # fmt: skip
LENGTHS = np.array([5, 3, 0, 0], np.int32)  # the second micro-batch has no token


class Windows:
    """Rows of several lengths, two of them empty."""

    def __init__(self, behind: int) -> None:
        self.behind = behind

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
        inputs = np.where(np.arange(5) < LENGTHS[:, None], tokens[:, :-1], self.behind).astype(np.int32)
        restarts, ids = np.zeros(4, np.int32), np.arange(4, dtype=np.int32)
        return TokenBatch(inputs, tokens[:, 1:], LENGTHS, None, restarts, ids)


def model() -> DecoderOnly:
    return DecoderOnly(MODEL, vocab_size=9, rngs=nnx.Rngs(0))


def arrays_of(module: nnx.Module) -> dict[str, np.ndarray]:
    _, params, others = split_model(module)
    return {name: np.asarray(array) for name, array in (params | others).items()}


def train(folder: Path, *, updates: int = 4, behind: int = 0, resume: bool = False) -> dict[str, np.ndarray]:
    """All variables after a run."""
    trained, config = model(), dataclasses.replace(CONFIG, updates=updates)
    batches = Windows(behind)
    Trainer(trained, NextToken(), config, run_dir=folder, batches=batches, quiet=True).fit(resume=resume)
    return arrays_of(trained)


def test_statistics_resume_load_and_average(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    statistics = [name for name in whole if name.endswith((".mean", ".variance"))]
    assert len(statistics) == 6  # two in the layer and the last norm
    first = arrays_of(model())
    for name in statistics:
        assert np.any(whole[name] != first[name]), name
        assert np.isfinite(whole[name]).all(), name

    train(tmp_path / "halved", updates=2)
    again = train(tmp_path / "halved", resume=True)
    padded = train(tmp_path / "padded", behind=7)
    for found in (again, padded):
        assert found.keys() == whole.keys()
        for name, array in whole.items():
            np.testing.assert_array_equal(found[name], array, err_msg=name)

    loaded = model()
    load_params(tmp_path / "whole", "last", model=loaded)
    for name, array in arrays_of(loaded).items():
        np.testing.assert_array_equal(array, whole[name], err_msg=name)

    updates = average_checkpoints(tmp_path / "whole", tmp_path / "mean", num_last=2)
    assert updates == [3, 4]
    third = train(tmp_path / "third", updates=3)
    load_params(tmp_path / "mean", "last", model=loaded)
    for name, array in arrays_of(loaded).items():
        np.testing.assert_allclose(array, (third[name] + whole[name]) / 2, rtol=1e-6, err_msg=name)
