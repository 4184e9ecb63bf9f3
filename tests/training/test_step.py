"""One update: equal to a hand-written one; clipping, keys, donation, and one executable a shape."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from transformer_jax.errors import ShapeError
from transformer_jax.functional.losses import LossSum
from transformer_jax.nn import non_parameters
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.testing.tiny_training import SequenceTask, TinySeq2Seq
from transformer_jax.training import (
    AdamW,
    Noam,
    Objective,
    TrainConfig,
    Trainer,
    read_rows,
)
from transformer_jax.training.metrics import fetch_means
from transformer_jax.training.optimizers import build_optimizer
from transformer_jax.training.schedules import build_schedule
from transformer_jax.training.state import (
    TrainState,
    create_state,
    dropout_key,
    named_arrays,
    split_model,
)
from transformer_jax.training.step import CompiledSteps, build_step, metric_shapes


def begin(model: Any, objective: Objective, config: TrainConfig, batch: Any) -> tuple[Any, TrainState]:
    structure, params, model_state = split_model(model)
    metrics = metric_shapes(structure, params, model_state, objective, batch)
    optimizer = build_optimizer(config.optimizer, build_schedule(config.schedule, updates=config.updates))
    return structure, create_state(model, optimizer, seed=config.seed, metrics=metrics)[1]


def test_one_update_equals_the_hand_written_one(
    make_model: Callable[..., TinySeq2Seq], make_config: Callable[..., TrainConfig], task: SequenceTask
) -> None:
    batch = task.batch(2)
    config = make_config(clip_norm=0.05)
    objective = PairCrossEntropy()
    structure, state = begin(make_model(), objective, config, batch)
    new = jax.jit(build_step(structure, objective, config))(state, batch)

    def mean_loss(params: Any) -> Any:
        logits = structure.merge(params, {})(*batch[:3])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.target_outputs)
        weights = np.arange(batch.target_outputs.shape[1])[None, :] < batch.target_lengths[:, None]
        return jnp.sum(losses * weights) / weights.sum()

    loss, gradient = jax.value_and_grad(mean_loss)(state.params)
    norm = float(jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient))))
    assert norm > config.clip_norm
    for name, leaf in gradient.items():
        clipped = np.asarray(leaf, np.float64) * (config.clip_norm / norm)
        # The first update of Adam is the gradient over its own size.
        expected = np.asarray(state.params[name]) - 0.01 * clipped / (
            np.abs(clipped) + config.optimizer.epsilon
        )
        moved = np.abs(clipped) > 1e-6
        np.testing.assert_allclose(new.params[name][moved], expected[moved], rtol=1e-4, atol=1e-6)
    means = fetch_means(new.metrics)
    assert means["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert means["gradient_norm"] == pytest.approx(norm, rel=1e-4)
    assert means["learning_rate"] == pytest.approx(0.01)
    assert int(new.update) == 1


def test_state_keeps_its_shapes_and_types(
    make_model: Callable[..., TinySeq2Seq], make_config: Callable[..., TrainConfig], task: SequenceTask
) -> None:
    objective = PairCrossEntropy(label_smoothing=0.1)
    structure, state = begin(make_model(dropout_rate=0.1), objective, make_config(), task.batch(0))
    new = jax.eval_shape(build_step(structure, objective, make_config()), state, task.batch(0))
    describe = lambda leaf: (leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False))  # noqa: E731
    assert jax.tree.map(describe, new) == jax.tree.map(describe, state)


def test_dropout_key_depends_on_seed_and_update_alone(
    make_model: Callable[..., TinySeq2Seq], make_config: Callable[..., TrainConfig], task: SequenceTask
) -> None:
    seen: list[Any] = []

    def objective(model: Any, batch: Any, rng_key: Any) -> Any:
        jax.debug.callback(lambda data: seen.append(tuple(data.tolist())), jax.random.key_data(rng_key))
        return PairCrossEntropy()(model, batch, rng_key)

    config = make_config(seed=5)
    structure, state = begin(make_model(), objective, config, task.batch(0))
    step = jax.jit(build_step(structure, objective, config))
    for update in range(3):
        state = step(state, task.batch(update))
    jax.block_until_ready(state.update)
    jax.effects_barrier()
    expected = [jax.random.key_data(jax.random.fold_in(dropout_key(5), update)) for update in range(3)]
    assert sorted(seen) == sorted(tuple(data.tolist()) for data in expected)


def test_dropout_and_initial_parameters_share_no_key(
    make_model: Callable[..., TinySeq2Seq], make_config: Callable[..., TrainConfig], task: SequenceTask
) -> None:
    config = make_config(seed=5)
    state = begin(make_model(seed=5), PairCrossEntropy(), config, task.batch(0))[1]

    def words(key: jax.Array) -> tuple[int, ...]:
        return tuple(jax.random.key_data(key).tolist())

    of_updates = {words(jax.random.fold_in(state.rng_key, update)) for update in range(100)}
    rngs = nnx.Rngs(5)
    of_parameters = {words(rngs.params()) for _ in range(100)}
    assert words(jax.random.fold_in(jax.random.key(5), 3)) in of_parameters, "NNX makes keys in another way"
    assert len(of_updates) == len(of_parameters) == 100
    assert not of_updates & of_parameters


def test_batch_without_tokens_moves_nothing(
    make_model: Callable[..., TinySeq2Seq], make_config: Callable[..., TrainConfig], task: SequenceTask
) -> None:
    batch = jax.tree.map(np.zeros_like, task.batch(0))
    objective = PairCrossEntropy()
    structure, state = begin(make_model(), objective, make_config(), batch)
    new = jax.jit(build_step(structure, objective, make_config()))(state, batch)
    for name, param in state.params.items():
        np.testing.assert_array_equal(new.params[name], param)


class Counting(nnx.Module):
    """A linear model with a running count, as batch statistics would be."""

    def __init__(self) -> None:
        self.weight = nnx.Param(jnp.ones(2))
        self.seen = nnx.BatchStat(jnp.float32(0.0))


def counting_objective(model: Any, batch: Any, rng_key: Any) -> Any:
    model.seen[...] = model.seen[...] + 1.0
    return LossSum.of(jnp.sum(batch @ model.weight[...]), batch.shape[0]), {}, non_parameters(model)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_other_variables_are_carried(make_config: Callable[..., TrainConfig], accumulation: int) -> None:
    config = make_config(accumulation=accumulation)
    batch = np.ones((4, 2), np.float32)
    structure, state = begin(Counting(), counting_objective, config, batch)
    assert list(state.params) == ["weight"]
    assert list(state.model_state) == ["seen"]
    step = jax.jit(build_step(structure, counting_objective, config))
    for _ in range(3):
        state = step(state, batch)
    assert float(state.model_state["seen"]) == 3 * accumulation
    assert float(structure.merge(state.params, state.model_state).seen[...]) == 3 * accumulation


def test_rows_that_do_not_divide_are_refused_with_both_values(
    make_model: Callable[..., TinySeq2Seq], make_config: Callable[..., TrainConfig], task: SequenceTask
) -> None:
    config = make_config(accumulation=4)
    objective = PairCrossEntropy()
    structure, state = begin(make_model(), objective, config, task.batch(0))
    with pytest.raises(ShapeError, match=r"accumulation \(4\) must divide the rows of a batch \(6\)"):
        build_step(structure, objective, config)(state, task.batch(0))


def test_one_executable_a_shape_and_unplanned_shapes_are_counted(
    make_model: Callable[..., TinySeq2Seq], make_config: Callable[..., TrainConfig], task: SequenceTask
) -> None:
    objective, config = PairCrossEntropy(), make_config()
    model = make_model()
    structure, state = begin(model, objective, config, task.batch(0))
    told: list[Any] = []
    steps = CompiledSteps(build_step(structure, objective, config), told.append)
    steps.compile(state, [task.batch(0), task.batch(1)])
    assert (len(steps), steps.unplanned) == (1, 0)
    first_seconds = steps.compile_seconds
    given = state
    state = steps(steps(state, task.batch(0)), task.batch(1))
    assert (len(steps), steps.unplanned, steps.compile_seconds) == (1, 0, first_seconds)
    shorter = jax.tree.map(lambda leaf: leaf[:3], task.batch(2))
    state = steps(steps(state, shorter), shorter)
    assert (len(steps), steps.unplanned, len(told)) == (2, 1, 1)
    assert steps.compile_seconds > first_seconds
    assert int(state.update) == 4
    assert all(leaf.is_deleted() for leaf in given.params.values()), "the step must take the state's buffers"
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(nnx.state(model))), "the model keeps its own"


def test_split_model_round_trip(make_model: Callable[..., TinySeq2Seq]) -> None:
    model = make_model()
    structure, params, model_state = split_model(model)
    assert sorted(params) == [
        "embedding",
        *(f"layers.{i}.{name}" for i in (0, 1) for name in ("bias", "kernel")),
    ]
    assert jax.tree.structure(structure.state(params, model_state)) == jax.tree.structure(nnx.split(model)[1])
    # A dictionary in another order (as JAX returns them) must not mix up the arrays.
    shuffled = dict(sorted(params.items(), reverse=True))
    merged = structure.merge(shuffled, model_state)
    np.testing.assert_array_equal(merged.layers[1].kernel[...], model.layers[1].kernel[...])


def test_two_leaves_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match=r"both named 'a\.b'"):
        named_arrays({"a": {"b": jnp.zeros(1)}, "a.b": jnp.zeros(1)})


GUARDS = {
    "no implicit promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "no implicit transfer": lambda: jax.transfer_guard("disallow"),
}


@pytest.mark.parametrize("guard", GUARDS)
def test_a_run_goes_through_under_the_guards_of_jax(
    guard: str,
    tmp_path: Path,
    make_model: Callable[..., TinySeq2Seq],
    make_config: Callable[..., TrainConfig],
    task: SequenceTask,
) -> None:
    """Training with all that mixes dtypes, a checkpoint, and going on from it."""
    # ``TinySeq2Seq`` has the plain Linear of NNX, and its own parameters are made without a guard.
    model = make_model()
    config = make_config(
        updates=2, evaluate_every=2, checkpoint_every=2, average_decay=0.9, clip_norm=1.0, on_divergence="skip",
        optimizer=AdamW(weight_decay=0.1), schedule=Noam(model_dim=8, warmup_updates=2),
    )  # fmt: skip
    with GUARDS[guard]():
        for updates in (2, 4):
            trainer = Trainer(
                model, PairCrossEntropy(label_smoothing=0.1), replace(config, updates=updates),
                run_dir=tmp_path / "run", batches=task, evaluate=lambda state: {"score": 0.5, "loss": 1.0}, quiet=True,
            )  # fmt: skip
            trainer.fit(resume=updates > 2)
    assert [row["update"] for row in read_rows(tmp_path / "run") if row["kind"] == "train"] == [2, 4]
