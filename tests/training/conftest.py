"""A tiny model, a copying task and a short run for the tests of the trainer."""

from collections.abc import Callable
from typing import Any

import pytest
from flax import nnx

from transformer_jax.testing.tiny_training import SequenceTask, TinySeq2Seq
from transformer_jax.training import Adam, Constant, TrainConfig

VOCAB_SIZE = 11


@pytest.fixture
def make_model() -> Callable[..., TinySeq2Seq]:
    """Makes the same tiny model at every call."""

    def make(*, dropout_rate: float = 0.0, seed: int = 0, model_dim: int = 8) -> TinySeq2Seq:
        return TinySeq2Seq(
            vocab_size=VOCAB_SIZE, model_dim=model_dim, dropout_rate=dropout_rate, rngs=nnx.Rngs(seed)
        )

    return make


@pytest.fixture
def task() -> SequenceTask:
    """Copying, in batches of one shape, some with dummy rows."""
    return SequenceTask(
        task="copy", vocab_size=VOCAB_SIZE, min_len=1, max_lens=(4,), batch_size=6, dummy_rows=2
    )


@pytest.fixture
def make_config() -> Callable[..., TrainConfig]:
    """Makes a run of a few updates; any field can be set."""

    def make(**changes: Any) -> TrainConfig:
        fields = {
            "updates": 6,
            "optimizer": Adam(),
            "schedule": Constant(peak_learning_rate=0.01),
            "log_every": 2,
            "evaluate_every": 3,
            "checkpoint_every": 3,
            "metric": "score",
        }
        return TrainConfig(**(fields | changes))

    return make
