"""The contract of tasks, as functions that any package can call on a task of its own.

A `TaskCase` says how to write a tiny data set and what experiment to run on it; `train_case` trains that experiment
once, and once more with an interruption. Each check of :data:`CHECKS` takes what came of it and an empty folder, and
raises ``AssertionError`` with what was found.
"""

import dataclasses
import functools
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
from flax import nnx

from transformer_jax.errors import ConfigError, RunError, TransformerJaxError
from transformer_jax.nn.parameters import parameter_count
from transformer_jax.planning.experiment_plan import PlanRequest, plan_experiment
from transformer_jax.planning.plan_report import plan_lines
from transformer_jax.runs.artifacts import artifact_file, save_artifacts
from transformer_jax.runs.config_formats import config_text
from transformer_jax.runs.experiment import ExperimentConfig, saved_config, start_config
from transformer_jax.runs.experiment_runner import ExperimentResult, RunOptions, run_experiment
from transformer_jax.runs.folder import CONFIG_NAME
from transformer_jax.runs.loading import LoadedRun, load_run
from transformer_jax.runs.model_folder import export_model
from transformer_jax.tasks.task import Task, evaluation_options
from transformer_jax.training.trackers import read_rows

__all__ = ["CHECKS", "TaskCase", "TrainedCase", "train_case"]

HALF_PRECISION = 2e-2
"""How far scores of exported weights, which are stored in half precision, may be off, of the largest one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskCase:
    """A task on a tiny data set.

    Attributes:
      config: Writes a data set into a folder and gives an experiment on it: at least four updates, evaluated and
        checkpointed every two. The flag asks for other data whose artifacts have the same sizes.
      predict: What a run predicts for some inputs, as plain values that can be compared.
      score: Numbers that a run gives to some inputs and outputs.
    """

    config: Callable[[Path, bool], ExperimentConfig]
    predict: Callable[[LoadedRun], Any]
    score: Callable[[LoadedRun], Sequence[float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedCase:
    """A case after training.

    Attributes:
      case: The case.
      config: Its experiment.
      result: Of the run that was trained in one go.
      run_dir: Its folder.
      resumed: Of the same run, interrupted at its first evaluation and resumed.
      resumed_dir: Its folder.
    """

    case: TaskCase
    config: ExperimentConfig
    result: ExperimentResult
    run_dir: Path
    resumed: ExperimentResult
    resumed_dir: Path


def train_case(case: TaskCase, folder: Path) -> TrainedCase:
    """Train a case in one go, and with an interruption.

    Args:
      case: The case.
      folder: An empty folder.
    """
    data = folder / "data"
    data.mkdir()
    config = case.config(data, False)
    result = run_experiment(config, folder / "run", RunOptions(quiet=True))
    resumed_dir = folder / "resumed"
    try:
        run_experiment(config, resumed_dir, RunOptions(quiet=True), after_evaluation=_interrupt)
    except KeyboardInterrupt:
        resumed = run_experiment(config, resumed_dir, RunOptions(quiet=True, resume=True))
    else:
        raise AssertionError("the experiment has no evaluation at which it could be interrupted")
    return TrainedCase(
        case=case,
        config=config,
        result=result,
        run_dir=folder / "run",
        resumed=resumed,
        resumed_dir=resumed_dir,
    )


def _interrupt() -> None:
    raise KeyboardInterrupt


def check_protocol(trained: TrainedCase, folder: Path) -> None:
    """The task is a frozen value with the protocol's names, and a round trip through JSON leaves it unchanged."""
    task = trained.config.task
    assert isinstance(task, Task)
    assert trained.config.train.metric in task.metrics
    assert isinstance(hash(task), int), "a task is a frozen value"
    path = folder / CONFIG_NAME
    path.write_text(config_text(trained.config))
    assert start_config(str(path)) == trained.config
    with np.testing.assert_raises(ConfigError):
        evaluation_options(task, {"no_such_option": 1})


def check_prepared_data(trained: TrainedCase, folder: Path) -> None:
    """Artifacts have the names that the task declares; prepared again with them, the data are the same."""
    task, prepared = trained.config.task, trained.result.prepared
    assert set(prepared.artifacts) == set(task.artifact_types)
    for name, artifact in prepared.artifacts.items():
        assert isinstance(artifact, task.artifact_types[name]), name
    again = task.prepare(prepared.artifacts)
    assert dict(again.fingerprints) == dict(prepared.fingerprints)
    assert again.has_development
    assert _fingerprints(again.artifacts) == _fingerprints(prepared.artifacts)
    assert again.train.describe() == prepared.train.describe()
    assert again.train.batches_per_epoch >= 1
    lines = again.report.lines()
    assert lines, "the report has no line"
    assert all(isinstance(line, str) and line.strip() and "\n" not in line for line in lines), lines
    first, second = next(iter(prepared.train.iterate(3))), next(iter(again.train.iterate(3)))
    chex.assert_trees_all_equal(first, second)
    assert 0 < again.train.count_tokens(first) <= sum(leaf.size for leaf in jax.tree.leaves(first))
    announced = [_shapes(batch) for batch in again.train.abstract_batches()]
    assert _shapes(first) in announced, "a batch of a shape that was not announced"


def check_resumed_run_has_the_same_bits(trained: TrainedCase, folder: Path) -> None:
    """A run that was interrupted and resumed ends with the parameters and the scores of one go."""
    chex.assert_trees_all_equal(_values(trained.resumed.model), _values(trained.result.model))
    assert trained.resumed.scores == trained.result.scores
    assert trained.resumed.updates == trained.result.updates == trained.config.train.updates
    once, again = (
        trained.case.predict(load_run(run_dir)) for run_dir in (trained.run_dir, trained.resumed_dir)
    )
    assert once == again


def check_evaluation(trained: TrainedCase, folder: Path) -> None:
    """A loaded run is scored on its development set by all of the task's metrics, the same each time."""
    run = load_run(trained.run_dir)
    found = run.evaluate(split="development")
    metrics = run.config.task.metrics
    assert set(metrics) <= found.keys()
    assert set(trained.result.scores) == set(metrics), "training scores by the same metrics"
    last = [row for row in read_rows(trained.run_dir) if row["kind"] == "evaluation"][-1]
    assert trained.result.scores == {name: last[name] for name in metrics}, (
        "the result is of the last evaluation"
    )
    assert all(np.isfinite(found[name]) for name in metrics)
    assert found["text"], "no line for people"
    assert found["task"] == run.config.task.kind
    again = run.evaluate(split="development")
    assert {name: found[name] for name in metrics} == {name: again[name] for name in metrics}
    json.dumps(found)


def check_prediction(trained: TrainedCase, folder: Path) -> None:
    """A loaded run predicts, and predicts the same again; its scores are those of its model."""
    run = load_run(trained.run_dir)
    found = trained.case.predict(run)
    assert found
    assert trained.case.predict(run) == found
    assert trained.case.predict(load_run(trained.run_dir)) == found
    scores = trained.case.score(run)
    assert len(scores) > 0
    assert np.isfinite(scores).all(), scores
    assert list(trained.case.score(run)) == list(scores)


def check_exported_model(trained: TrainedCase, folder: Path) -> None:
    """An exported model predicts and scores as its run does, but for half precision."""
    output = folder / "model"
    scores = export_model(trained.run_dir, output, about="A test.", split="development")
    assert set(trained.config.task.metrics) <= scores.keys()
    run, exported = load_run(trained.run_dir), load_run(output)
    assert exported.config == run.config
    assert _fingerprints(exported.artifacts) == _fingerprints(run.artifacts)
    wanted, found = (np.asarray(trained.case.score(one)) for one in (run, exported))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=HALF_PRECISION * np.abs(wanted).max())
    assert trained.case.predict(exported) == trained.case.predict(load_run(output))


def check_changed_artifacts_are_refused(trained: TrainedCase, folder: Path) -> None:
    """Artifacts of other data in the folder of a run: it is neither loaded nor resumed."""
    (folder / "other").mkdir()
    other = trained.case.config(folder / "other", True).task.prepare()
    own = trained.result.prepared.artifacts
    for name, artifact in other.artifacts.items():
        assert artifact.fingerprint() != own[name].fingerprint(), f"{name} of other data is the same"
        run_dir = folder / name
        shutil.copytree(trained.run_dir, run_dir)
        save_artifacts(run_dir, {name: artifact})
        assert (run_dir / artifact_file(name)).is_file()
        message = _refusal(RunError, functools.partial(load_run, run_dir))
        assert "trained with another" in message, message
        train = dataclasses.replace(trained.config.train, updates=trained.config.train.updates + 2)
        config = dataclasses.replace(trained.config, train=train)
        options = RunOptions(quiet=True, resume=True, allow_other_data=True)
        _refusal(TransformerJaxError, functools.partial(run_experiment, config, run_dir, options))


def check_plan(trained: TrainedCase, folder: Path) -> None:
    """A run is planned with the parameters that it has."""
    planned = plan_experiment(PlanRequest(config=str(trained.run_dir / CONFIG_NAME), device="h100"))
    assert planned.plan.parameters == parameter_count(trained.result.model)
    assert all(isinstance(line, str) for line in plan_lines(planned))
    task = trained.config.task
    lengths = task.plan_lengths()
    shapes = _shapes(task.abstract_batch(task.plan_rows(lengths), lengths))
    announced = _shapes(trained.result.prepared.train.abstract_batches()[0])
    chex.assert_trees_all_equal_structs(shapes, announced)
    vocab_sizes = tuple(planned.vocab_sizes)
    assert task.known_sizes(vocab_sizes) == task.sizes(trained.result.prepared.artifacts, is_training=True)
    assert task.is_at_hand()


def check_absolute_paths(trained: TrainedCase, folder: Path) -> None:
    """A task with absolute paths, as run folders keep it, finds its data from any folder."""
    data = folder / "data"
    data.mkdir()
    before = Path.cwd()
    os.chdir(data)
    try:
        relative = trained.case.config(Path(), False).task
        absolute = relative.with_absolute_paths()
        wanted = relative.prepare()
    finally:
        os.chdir(before)
    assert str(data) in repr(absolute)
    assert absolute.with_absolute_paths() == absolute
    assert dict(absolute.prepare().fingerprints) == dict(wanted.fingerprints)
    saved = saved_config(trained.run_dir).task
    assert saved.with_absolute_paths() == saved, "the run folder's config has relative paths"


CHECKS: Mapping[str, Callable[[TrainedCase, Path], None]] = {
    "protocol": check_protocol,
    "prepared data": check_prepared_data,
    "resumed run": check_resumed_run_has_the_same_bits,
    "evaluation": check_evaluation,
    "prediction": check_prediction,
    "exported model": check_exported_model,
    "changed artifacts": check_changed_artifacts_are_refused,
    "plan": check_plan,
    "absolute paths": check_absolute_paths,
}
"""All checks by their names."""


def _fingerprints(artifacts: Mapping[str, Any]) -> dict[str, str]:
    return {name: artifact.fingerprint() for name, artifact in artifacts.items()}


def _shapes(batch: Any) -> Any:
    return jax.tree.map(lambda leaf: (leaf.shape, np.dtype(leaf.dtype)), batch)


def _values(model: Any) -> Any:
    return nnx.to_pure_dict(nnx.state(model))


def _refusal(kind: type[Exception], run: Callable[[], Any]) -> str:
    try:
        run()
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__} was raised")
