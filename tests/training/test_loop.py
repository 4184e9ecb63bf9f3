"""The trainer: run folders, logs, evaluations, checkpoints, interruption, divergence."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from transformer_jax.data.batches import empty_batch
from transformer_jax.errors import ConfigError, RunError
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.testing.tiny_training import SequenceTask, TinySeq2Seq
from transformer_jax.training import (
    CheckpointStore,
    TrainConfig,
    Trainer,
    TrainingInterrupted,
    TrainResult,
    load_params,
    read_rows,
)

RunTrainer = Callable[..., TrainResult]


@pytest.fixture
def run_trainer(
    tmp_path: Path,
    make_model: Callable[..., TinySeq2Seq],
    make_config: Callable[..., TrainConfig],
    task: SequenceTask,
) -> RunTrainer:
    """Fits the tiny model in ``tmp_path``; keywords reach the trainer, the config and ``fit``."""

    def run(
        *,
        fit: dict[str, bool] | None = None,
        batches: Any = None,
        model: Any = None,
        evaluate: Any = None,
        run_dir: Path = tmp_path / "run",
        **changes: Any,
    ) -> TrainResult:
        trainer = Trainer(
            model or make_model(),
            PairCrossEntropy(),
            make_config(**changes),
            run_dir=run_dir,
            batches=batches or task,
            evaluate=evaluate,
            quiet=True,
            extra_metadata={"config": "kept"},
        )
        return trainer.fit(**(fit or {}))

    return run


class Scores:
    """An evaluation that gives the scores it was made with, one a call, and notes what it saw."""

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)
        self.states: list[Any] = []

    def __call__(self, state: Any) -> dict[str, float]:
        self.states.append(jax.tree.map(np.array, state))
        return {"score": self.scores.pop(0), "loss": 0.5}


def test_a_whole_run(
    tmp_path: Path, run_trainer: RunTrainer, make_model: Callable[..., TinySeq2Seq], task: SequenceTask
) -> None:
    model, evaluate = make_model(), Scores(0.3, 0.7)
    result = run_trainer(model=model, evaluate=evaluate)
    assert result.updates == 6
    assert (result.best_update, result.best_score) == (3, 0.3)
    assert result.unplanned_compilations == 0
    assert result.compile_seconds > 0
    assert result.tokens == sum(
        int(b.source_lengths.sum() + b.target_lengths.sum()) for b in map(task.batch, range(6))
    )
    assert result.tokens_per_second == pytest.approx(result.tokens / result.train_seconds)

    rows = read_rows(tmp_path / "run")
    assert [(row["kind"], row["update"]) for row in rows] == [
        ("train", 2),
        ("train", 3),
        ("evaluation", 3),
        ("train", 4),
        ("train", 6),
        ("evaluation", 6),
    ]
    assert [point["update"] for point in result.curve] == [2, 3, 4, 6]
    assert result.curve[1]["score"] == 0.3
    assert result.curve[1]["development_loss"] == 0.5
    seconds = [point["seconds"] for point in result.curve]
    assert seconds == sorted(seconds)
    assert all(np.isfinite(point["loss"]) for point in result.curve)

    # What was evaluated is what was saved, and what the model holds at the end.
    loaded = make_model(seed=9)
    found = load_params(tmp_path / "run", "best", model=loaded)
    assert (found.update, found.extra) == (3, {"config": "kept"})
    jax.tree.map(np.testing.assert_array_equal, nnx.state(loaded), evaluate.states[0])
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model), evaluate.states[1])
    assert (tmp_path / "run" / "tensorboard").is_dir()


def test_loss_of_a_row_covers_the_updates_since_the_row_before(
    tmp_path: Path, run_trainer: RunTrainer, task: SequenceTask
) -> None:
    """With a learning rate of next to nothing, each row's loss is that of its own batches."""
    from transformer_jax.training import Constant

    every = run_trainer(log_every=1, schedule=Constant(peak_learning_rate=1e-12))
    pairs = run_trainer(log_every=2, schedule=Constant(peak_learning_rate=1e-12), fit={"overwrite": True})
    tokens = [float(task.batch(step).target_lengths.sum()) for step in range(6)]
    losses = [point["loss"] for point in every.curve]
    for index, point in enumerate(pairs.curve):
        first, second = 2 * index, 2 * index + 1
        mean = (losses[first] * tokens[first] + losses[second] * tokens[second]) / (
            tokens[first] + tokens[second]
        )
        assert point["loss"] == pytest.approx(mean, rel=1e-5)


def test_folder_that_holds_a_run_is_refused_unless_asked(tmp_path: Path, run_trainer: RunTrainer) -> None:
    with pytest.raises(RunError, match="holds no run to resume"):
        run_trainer(fit={"resume": True})
    run_trainer()
    other = tmp_path / "run" / "config.json"
    other.write_text("{}")
    with pytest.raises(
        RunError,
        match=r"already holds a run: continue it with `resume=True`, replace it with `overwrite=True`",
    ):
        run_trainer()
    with pytest.raises(RunError, match="exclude each other"):
        run_trainer(fit={"resume": True, "overwrite": True})
    before = len(read_rows(tmp_path / "run"))
    assert run_trainer(fit={"overwrite": True}).updates == 6
    assert len(read_rows(tmp_path / "run")) == before
    assert other.exists(), "files that are not the trainer's stay"


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path, run_trainer: RunTrainer) -> None:
    first = run_trainer(evaluate=Scores(0.3, 0.7))
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    again = run_trainer(evaluate=Scores(), fit={"resume": True})
    assert (again.updates, again.curve, again.tokens) == (first.updates, first.curve, first.tokens)
    assert again.train_seconds == pytest.approx(first.train_seconds, abs=0.05)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == text


class InterruptedBatches:
    """Batches that stop as Ctrl-C would, at one step."""

    def __init__(self, task: SequenceTask, at: int) -> None:
        self._task, self._at = task, at

    def abstract_batches(self) -> Any:
        return self._task.abstract_batches()

    def count_tokens(self, batch: Any) -> int:
        return self._task.count_tokens(batch)

    def iterate(self, start_step: int) -> Iterator[Any]:
        for step, batch in enumerate(self._task.iterate(start_step), start=start_step):
            if step == self._at:
                raise KeyboardInterrupt
            yield batch


def test_ctrl_c_says_where_to_resume_and_rows_are_not_doubled(
    tmp_path: Path, run_trainer: RunTrainer, task: SequenceTask
) -> None:
    with pytest.raises(
        TrainingInterrupted, match=r"stopped at update 5 of 6; resume from update 3 with `resume=True`"
    ):
        run_trainer(batches=InterruptedBatches(task, at=5))
    assert issubclass(TrainingInterrupted, KeyboardInterrupt), "the command line exits with 130"
    assert CheckpointStore(tmp_path / "run").updates() == [3]
    result = run_trainer(fit={"resume": True})
    assert [point["update"] for point in result.curve] == [2, 4, 6]


class Signals:
    """The task's batches; a signal comes while the one of an update is made."""

    def __init__(self, task: SequenceTask, *, at: int, number: int) -> None:
        self._task, self._at, self._number = task, at, number

    def abstract_batches(self) -> Any:
        return self._task.abstract_batches()

    def count_tokens(self, batch: Any) -> int:
        return self._task.count_tokens(batch)

    def iterate(self, start_step: int) -> Any:
        for step, batch in enumerate(self._task.iterate(start_step), start_step + 1):
            if step == self._at:
                signal.raise_signal(self._number)
            yield batch


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("at", [2, 3, 5])  # between two, at a checkpoint with its evaluation, after one
def test_a_stop_signal_lets_the_update_end_and_be_saved(
    tmp_path: Path, run_trainer: RunTrainer, task: SequenceTask, number: int, at: int
) -> None:
    with pytest.raises(
        TrainingInterrupted, match=f"stopped at update {at} of 6; resume from update {at}"
    ) as caught:
        run_trainer(batches=Signals(task, at=at, number=number))
    assert caught.value.signal_number == number
    assert CheckpointStore(tmp_path / "run").updates()[-1] == at
    resumed = run_trainer(fit={"resume": True})
    whole = run_trainer(run_dir=tmp_path / "whole")
    untimed = [
        [{name: value for name, value in row.items() if "second" not in name} for row in read_rows(folder)]
        for folder in (tmp_path / "run", tmp_path / "whole")
    ]
    assert sorted(untimed[0], key=lambda row: (row["update"], row["kind"])) == sorted(
        untimed[1], key=lambda row: (row["update"], row["kind"])
    )
    assert [point["loss"] for point in resumed.curve] == [point["loss"] for point in whole.curve]


def test_a_second_trainer_in_the_folder_is_refused(tmp_path: Path, run_trainer: RunTrainer) -> None:
    run_trainer(updates=3)
    hold = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'a+'); fcntl.flock(file, fcntl.LOCK_EX); "
        "print(1, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "run" / "trainer.lock")], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(RunError, match="is being trained by another process"):
            run_trainer(fit={"resume": True})
        process.kill()
    assert run_trainer(fit={"resume": True}).updates == 6


def test_ctrl_c_before_the_first_checkpoint_resumes_from_the_start(
    tmp_path: Path, run_trainer: RunTrainer, task: SequenceTask
) -> None:
    with pytest.raises(TrainingInterrupted, match="no checkpoint was due yet"):
        run_trainer(batches=InterruptedBatches(task, at=2))
    assert run_trainer(fit={"resume": True}).updates == 6


def test_divergence_stops_the_run_in_one_line(
    run_trainer: RunTrainer, make_model: Callable[..., TinySeq2Seq]
) -> None:
    model = make_model()
    model.embedding[...] = model.embedding[...] * np.float32(np.nan)
    with pytest.raises(RunError, match=r"training diverged: loss is nan at update 1 .* and at 1 more"):
        run_trainer(model=model)


def test_diverged_parameters_are_not_saved(
    tmp_path: Path, run_trainer: RunTrainer, make_model: Callable[..., TinySeq2Seq]
) -> None:
    model = make_model()
    model.embedding[...] = model.embedding[...] * np.float32(np.nan)
    with pytest.raises(RunError, match=r"training diverged: loss is nan at update 1 .* and at 2 more"):
        run_trainer(model=model, log_every=5, checkpoint_every=3)
    assert CheckpointStore(tmp_path / "run").updates() == []


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), ValueError("broken")])
def test_a_checkpoint_that_is_due_survives_its_evaluation(
    tmp_path: Path, run_trainer: RunTrainer, fault: BaseException
) -> None:
    class Breaks(Scores):
        def __call__(self, state: Any) -> dict[str, float]:
            if not self.scores:
                raise fault
            return super().__call__(state)

    every = {"evaluate_every": 3, "checkpoint_every": 3}
    with pytest.raises(type(fault)):
        run_trainer(evaluate=Breaks(), **every)
    assert CheckpointStore(tmp_path / "run").updates() == [3]
    result = run_trainer(evaluate=Scores(0.1, 0.2), fit={"resume": True}, **every)
    evaluated = [row["update"] for row in read_rows(tmp_path / "run") if row["kind"] == "evaluation"]
    assert evaluated == [3, 6], "the evaluation that was interrupted is made up for"
    assert result.updates == 6


def test_resume_refuses_fewer_updates_and_other_metadata(tmp_path: Path, run_trainer: RunTrainer) -> None:
    run_trainer()
    with pytest.raises(RunError, match=r"has been trained for 6 updates, more than train.updates \(4\)"):
        run_trainer(fit={"resume": True}, updates=4)
    path = tmp_path / "run" / "checkpoints" / "00000006" / "metadata" / "metadata"
    path.write_text(path.read_text().replace("kept", "changed"))
    (path.parent.parent / "manifest.json").unlink()
    with pytest.raises(RunError, match="its config was 'changed', now it is 'kept'"):
        run_trainer(fit={"resume": True})


def test_metric_that_the_evaluation_does_not_give_is_named(run_trainer: RunTrainer) -> None:
    with pytest.raises(
        ConfigError,
        match=r"metric is 'scores', but the evaluation gives only loss, score; did you mean 'score'",
    ):
        run_trainer(metric="scores", evaluate=Scores(0.1))


def test_score_that_is_no_number_is_never_the_best(tmp_path: Path, run_trainer: RunTrainer) -> None:
    result = run_trainer(evaluate=Scores(float("nan"), 0.9))
    assert result.best_update == 6
    metadata = tmp_path / "run" / "checkpoints" / "00000006" / "metadata" / "metadata"
    assert json.loads(metadata.read_text())["score"] == 0.9


def test_data_that_end_early_or_are_empty(run_trainer: RunTrainer, task: SequenceTask) -> None:
    class Short(InterruptedBatches):
        def iterate(self, start_step: int) -> Iterator[Any]:
            return iter([task.batch(0), task.batch(1)])

    class Empty(InterruptedBatches):
        def abstract_batches(self) -> Any:
            return []

    with pytest.raises(RunError, match="ended at update 2 of 6"):
        run_trainer(batches=Short(task, 0))
    with pytest.raises(RunError, match="no batch shape"):
        run_trainer(batches=Empty(task, 0), fit={"overwrite": True})


def test_shape_that_was_not_announced_is_compiled_counted_and_told(
    tmp_path: Path,
    make_model: Callable[..., TinySeq2Seq],
    make_config: Callable[..., TrainConfig],
    task: SequenceTask,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Forgetful(InterruptedBatches):
        def abstract_batches(self) -> Any:
            return [empty_batch(3, 4, 5)]

    trainer = Trainer(
        make_model(),
        PairCrossEntropy(),
        make_config(),
        run_dir=tmp_path / "run",
        batches=Forgetful(task, -1),
    )
    assert trainer.fit().unplanned_compilations == 1
    assert (
        "compiling for a batch shape that was not announced: (6, 4), (6,), (6, 5)" in capsys.readouterr().err
    )
