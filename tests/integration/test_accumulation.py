"""A batch cut into micro-batches gives the gradient of the whole batch, whatever the rows hold."""

import functools

import jax
import numpy as np
import pytest
from tiers import tiered
from training_helpers import VOCAB_SIZE, build, tiny_configs

from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.testing.tiny_training import SequenceTask
from transformer_jax.training import AdamW, Constant, TrainConfig
from transformer_jax.training.metrics import fetch_means
from transformer_jax.training.optimizers import build_optimizer
from transformer_jax.training.schedules import build_schedule
from transformer_jax.training.state import TrainState, create_state, split_model
from transformer_jax.training.step import build_step, metric_shapes

# Two dummy rows of eight: with four micro-batches the last holds no token at all.
TASK = SequenceTask(task="copy", vocab_size=VOCAB_SIZE, min_len=1, max_lens=(4,), batch_size=8, dummy_rows=2)


@functools.cache
def one_update(name: str, accumulation: int, rows: tuple[int, int] = (0, 8)) -> TrainState:
    """The state after an update of a model with some rows of the batch."""
    batch = jax.tree.map(lambda leaf: leaf[slice(*rows)], TASK.batch(2))
    config = TrainConfig(
        updates=10,
        optimizer=AdamW(beta1=0.0),  # the running mean is then the gradient itself
        schedule=Constant(peak_learning_rate=0.01),
        clip_norm=None,
        accumulation=accumulation,
    )
    objective = PairCrossEntropy(label_smoothing=0.1)
    model = build(tiny_configs()[name])
    structure, params, model_state = split_model(model)
    metrics = metric_shapes(structure, params, model_state, objective, batch)
    optimizer = build_optimizer(config.optimizer, build_schedule(config.schedule, updates=config.updates))
    state = create_state(model, optimizer, seed=0, metrics=metrics)[1]
    return jax.jit(build_step(structure, objective, config))(state, batch)


def gradient(state: TrainState) -> dict[str, np.ndarray]:
    return jax.tree.map(np.asarray, state.optimizer_state[0].mu)


@pytest.mark.parametrize("name", tiered(sorted(tiny_configs()), {"lstm+luong", "transformer"}))
def test_accumulated_gradient_equals_the_whole_batchs(name: str) -> None:
    batch = TASK.batch(2)
    assert batch.num_tokens() > 0
    assert (batch.target_lengths[-2:] == 0).all()
    whole = one_update(name, 1)
    expected = gradient(whole)
    largest = max(np.abs(leaf).max() for leaf in expected.values())
    for accumulation in (2, 4):
        parts = one_update(name, accumulation)
        for key, leaf in gradient(parts).items():
            assert np.abs(leaf - expected[key]).max() <= 1e-6 * largest, key
        got, wanted = fetch_means(parts.metrics), fetch_means(whole.metrics)
        assert got == pytest.approx(wanted, rel=1e-5)
        assert float(parts.metrics["loss"].count) == float(whole.metrics["loss"].count)


def test_mean_of_the_means_would_be_another_gradient() -> None:
    """Guards the test above: the halves hold different numbers of tokens, so dividing early differs."""
    whole = gradient(one_update("gru", 1))
    first, second = (gradient(one_update("gru", 1, rows)) for rows in ((0, 4), (4, 8)))
    largest = max(np.abs(leaf).max() for leaf in whole.values())
    difference = max(np.abs((first[key] + second[key]) / 2 - whole[key]).max() for key in whole)
    assert difference > 1e-3 * largest
