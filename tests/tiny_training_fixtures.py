"""A tiny model and a copying task for the tests of objectives and of the trainer."""

from collections.abc import Callable

import pytest
from flax import nnx

from transformer_jax.testing.tiny_training import SequenceTask, TinySeq2Seq

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
