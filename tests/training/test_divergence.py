"""Losses that are no numbers: the run stops, skips the update or goes back, and says which examples it was."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.errors import RunError
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.testing.tiny_training import SequenceTask, TinySeq2Seq
from transformer_jax.training import CheckpointStore, TrainConfig, Trainer, read_rows
from transformer_jax.training.divergence import KEPT, Diverged, no_divergence, note_divergence
from transformer_jax.training.orbax_items import read_item

UPDATES = 9


@dataclasses.dataclass(frozen=True)
class Numbered:
    """A task's batches, whose examples carry the number of their batch; ``only`` leaves the others out."""

    task: SequenceTask
    without: frozenset[int] = frozenset()

    def abstract_batches(self) -> Any:
        return self.task.abstract_batches()

    def count_tokens(self, batch: Any) -> int:
        return self.task.count_tokens(batch)

    def iterate(self, start_step: int) -> Iterator[Any]:
        numbers = [number for number in range(200) if number not in self.without]
        for number in numbers[start_step:]:
            batch = self.task.batch(number)
            real = batch.example_ids >= 0
            yield batch._replace(
                example_ids=np.where(real, 100 * number + batch.example_ids, -1).astype(np.int32)
            )


def poisoned(*numbers: int) -> Any:
    """The loss, which is no number on the batches of these numbers."""
    loss_of = PairCrossEntropy()

    def objective(model: Any, batch: Any, rng_key: Any) -> Any:
        loss, metrics, state = loss_of(model, batch, rng_key)
        is_bad = jnp.isin(batch.example_ids[0] // 100, jnp.array(numbers, jnp.int32))
        return dataclasses.replace(loss, sum=loss.sum * jnp.where(is_bad, jnp.nan, 1.0)), metrics, state

    return objective


@pytest.fixture
def train(
    tmp_path: Path,
    make_model: Callable[..., TinySeq2Seq],
    make_config: Callable[..., TrainConfig],
    task: SequenceTask,
) -> Callable[..., Path]:
    """Trains the tiny model with poisoned batches, in ``tmp_path / name``."""

    def run(
        name: str, bad: tuple[int, ...] = (), without: frozenset[int] = frozenset(), **changes: Any
    ) -> Path:
        resume = changes.pop("resume", False)
        fields = {"updates": UPDATES, "log_every": 2, "checkpoint_every": 3, "keep_last": 9, "metric": "loss"}
        trainer = Trainer(
            make_model(dropout_rate=0.2), poisoned(*bad), make_config(**(fields | changes)), quiet=True,
            run_dir=tmp_path / name, batches=Numbered(task, without),
        )  # fmt: skip
        trainer.fit(resume=resume)
        return tmp_path / name

    return run


def params(run_dir: Path, update: int = UPDATES) -> dict[str, np.ndarray]:
    return read_item(CheckpointStore(run_dir).path(update), "model")


def events(run_dir: Path) -> list[dict[str, Any]]:
    return [row for row in read_rows(run_dir) if row["kind"] == "divergence"]


def test_what_was_not_finite_is_noted_on_the_device() -> None:
    seen = no_divergence()
    note = jax.jit(note_divergence)
    for update in range(1, 30):
        seen = note(seen, jnp.bool_(update % 2 == 1), jnp.int32(update))
    assert Diverged.fetched(seen) == Diverged(14, tuple(range(2, 2 * KEPT + 1, 2)))
    assert Diverged.fetched(no_divergence()) is None


def test_the_run_stops_and_names_update_and_examples(train: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"loss is nan at update 5 \(its batch: examples 400, 401, .*`resume=True`"
    ):
        train("run", bad=(4,), log_every=100, checkpoint_every=4)
    assert CheckpointStore(tmp_path / "run").updates() == [4]
    (event,) = events(tmp_path / "run")
    assert event["updates"][0] == 5
    assert event["examples"][0] == [400, 401, 402, 403, 404, 405]


def test_a_skipped_update_changes_nothing(train: Callable[..., Path]) -> None:
    # Update 5 skipped: as if it had been done on nothing, while the others keep their number (rates, dropout).
    run_dir = train("run", bad=(4,), on_divergence="skip", checkpoint_every=1)
    before, after = (read_item(CheckpointStore(run_dir).path(update), "training") for update in (4, 5))
    assert {name for name in before if before[name].tobytes() != after[name].tobytes()} == {"update"}
    assert params(run_dir, 4).keys() == params(run_dir, 5).keys()
    for name, array in params(run_dir, 4).items():
        np.testing.assert_array_equal(array, params(run_dir, 5)[name])
    assert any((params(run_dir, 6)[name] != array).any() for name, array in params(run_dir, 5).items())
    assert [row["loss"] for row in read_rows(run_dir) if row["kind"] == "train" and row["loss"] is None] == []
    (event,) = events(run_dir)
    assert (event["updates"], event["policy"]) == ([5], "skip")


def test_more_skipped_updates_than_allowed_stop_the_run(train: Callable[..., Path]) -> None:
    train("two", bad=(1, 4), on_divergence="skip", max_divergences=2)
    with pytest.raises(RunError, match=r"more than train.max_divergences \(2\)"):
        train("three", bad=(1, 4, 6), on_divergence="skip", max_divergences=2)


def test_a_roll_back_is_the_run_without_those_batches(train: Callable[..., Path]) -> None:
    # The checkpoint of update 3 is the last before batch 4 diverges: batches 3 and 4 are passed over.
    run_dir = train("run", bad=(4,), on_divergence="rollback")
    same = train("same", bad=(4,), without=frozenset({3, 4}))
    for name, array in params(same).items():
        np.testing.assert_array_equal(array, params(run_dir)[name])
    rows = [[row for row in read_rows(one) if row["kind"] == "train"] for one in (run_dir, same)]
    assert [(row["update"], row["digest"]) for row in rows[0]] == [
        (row["update"], row["digest"]) for row in rows[1]
    ]
    (event,) = events(run_dir)
    assert (event["update"], event["passed_over"], event["examples"][0][0]) == (3, 2, 400)


def test_a_roll_back_to_the_start(train: Callable[..., Path]) -> None:
    run_dir, same = (
        train("run", bad=(1,), on_divergence="rollback"),
        train("same", bad=(1,), without=frozenset({0, 1})),
    )
    for name, array in params(same).items():
        np.testing.assert_array_equal(array, params(run_dir)[name])


def test_a_resumed_run_rolls_back_as_the_whole_one(
    train: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"bad": (4, 9), "on_divergence": "rollback"}
    whole = train("whole", **options)
    saves = CheckpointStore.save

    def broken(self: CheckpointStore, state: Any, info: Any) -> None:
        saves(self, state, info)
        if info.update == 6:  # after the first roll-back
            raise KeyboardInterrupt

    monkeypatch.setattr(CheckpointStore, "save", broken)
    with pytest.raises(KeyboardInterrupt):
        train("parts", **options)
    monkeypatch.undo()
    parts = train("parts", resume=True, **options)
    for name, array in params(whole).items():
        np.testing.assert_array_equal(array, params(parts)[name])
    assert events(whole) == events(parts)
    assert len(events(whole)) == 2
    with pytest.raises(RunError, match=r"train.max_divergences \(1\)"):
        train("fewer", max_divergences=1, **options)
