"""One experiment from its config to its run folder: data, model, trainer and evaluations joined."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flax import nnx

from transformer_jax.config_json import to_json
from transformer_jax.errors import ConfigError, RunError
from transformer_jax.files import write_json, write_whole
from transformer_jax.nn.parameters import parameter_count
from transformer_jax.notes import note
from transformer_jax.runs.artifacts import (
    artifact_file,
    artifact_fingerprints,
    load_artifacts,
    save_artifacts,
)
from transformer_jax.runs.building import build_checked, require_fitting
from transformer_jax.runs.config_formats import config_text
from transformer_jax.runs.experiment import ExperimentConfig, resume_notes
from transformer_jax.runs.folder import (
    CONFIG_NAME,
    RESULT_NAME,
    RUN_LOCK_NAME,
    KeptFiles,
    interruptible,
    read_result,
    run_entries,
)
from transformer_jax.runs.lock import (
    WARM_START,
    keep_setting,
    machine_of,
    run_setting,
    settings_of_data,
)
from transformer_jax.runs.vector_start import VectorStart
from transformer_jax.runs.warm_start import Start
from transformer_jax.tasks.task import Artifacts, Evaluator
from transformer_jax.training import hosts
from transformer_jax.training.checkpoint import CheckpointStore, run_folder
from transformer_jax.training.folder_lock import locked_folder
from transformer_jax.training.loop import Trainer
from transformer_jax.training.metrics import development_column
from transformer_jax.training.run_folder import check_run_folder, holds_any, remove_run
from transformer_jax.training.trackers import Tracker
from transformer_jax.training.train_result import ChangedMetadataError, TrainResult

__all__ = ["ExperimentResult", "RunOptions", "begin_or_resume", "last_scores", "run_experiment"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run begins or is resumed, besides its config.

    Attributes:
      resume: Continue the folder's run (its artifacts are read, not made again).
      overwrite: Remove the folder's run first.
      start: Another run to begin from, or word vectors for the embeddings; not for a run that is resumed.
      quiet: Show no progress.
      label: Name beside the progress; None for the experiment's own.
      strict_compile: Whether a batch shape that was not planned is an error.
      allow_inexact: Whether a run may be resumed with other versions, flags or another device.
      allow_other_data: Whether it may be resumed with other training or development data.

    Raises:
      ConfigError: If a run is to be resumed and to begin from another one.
    """

    resume: bool = False
    overwrite: bool = False
    start: Start | VectorStart | None = None
    quiet: bool = False
    label: str | None = None
    strict_compile: bool = False
    allow_inexact: bool = False
    allow_other_data: bool = False

    def __post_init__(self) -> None:
        if self.resumes and self.start is not None:
            raise ConfigError("`start` begins a run, `resume` continues one: leave one of them out")

    @property
    def resumes(self) -> bool:
        """Whether a run's own config is continued: an overwritten one begins anew."""
        return self.resume and not self.overwrite


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentResult:
    """Results of a finished experiment in memory.

    Attributes:
      config: What was run.
      parameters: Number of trained parameters.
      updates: Updates done.
      compile_seconds: Compiling of training steps and of evaluations, in the session that trained last.
      peak_bytes: Memory of the largest training step in that session, see `TrainResult`.
      scores: Of the last evaluation on the development set.
      training: Times, tokens and the learning curve.
      model: Holds the last parameters.
      prepared: The data that it was trained on.
      evaluator: Scores of the development set, compiled for its shapes.
    """

    config: ExperimentConfig
    parameters: int
    updates: int
    compile_seconds: float
    peak_bytes: int | None
    scores: dict[str, float]
    training: TrainResult
    model: nnx.Module
    prepared: Any
    evaluator: Any


def run_experiment(
    config: ExperimentConfig,
    run_dir: Path | str,
    options: RunOptions | None = None,
    *,
    prepared: Any = None,
    artifacts: Artifacts | None = None,
    after_evaluation: Callable[[], None] | None = None,
    tracker: Tracker | None = None,
) -> ExperimentResult:
    """Train as ``config`` says and keep everything in ``run_dir``.

    Args:
      config: The experiment.
      run_dir: Run folder.
      options: How the run begins or is resumed.
      prepared: The task's prepared data, if the caller has them.
      artifacts: Of a new run that is not to make or load its own.
      after_evaluation: Called after every evaluation on the development set.
      tracker: Gets the log's rows too.

    Raises:
      RunError: If the folder does not fit ``resume`` and ``overwrite``, or the model not ``start``; if a resumed run
        would come to other bits and that is not allowed; if another process trains here.
      DataError: If the data are not to be had or hold no training example.
      KeyboardInterrupt: After Ctrl-C, with a message that says how to resume.
    """
    options = options or RunOptions()
    run_folder(run_dir)  # a text: an empty one is no Path any more
    run_dir = Path(run_dir)
    with hosts.first_alone() as is_mine:
        if is_mine:
            check_run_folder(
                run_dir, resume=options.resume, overwrite=options.overwrite, entries=run_entries()
            )
    with locked_folder(run_dir):
        session = _Session(config, run_dir, options, tracker)
        session.begin(prepared, artifacts, after_evaluation)
        return session.train()


def begin_or_resume(run_dir: Path, *, label: str | None = None, allow_inexact: bool = False) -> RunOptions:
    """How the run of a series that may have been killed anywhere is begun or resumed.

    Args:
      run_dir: Its folder. Without a config what is there is the rest of a beginning, or of a removal, and goes.
      label: Name beside the progress.
      allow_inexact: See `RunOptions`.
    """
    has_config = (run_dir / CONFIG_NAME).is_file()
    has_rest = not has_config and holds_any(run_dir, run_entries())
    return RunOptions(resume=has_config, overwrite=has_rest, label=label, allow_inexact=allow_inexact)


class _Session:
    """One session of one run, its folder locked."""

    def __init__(
        self, config: ExperimentConfig, run_dir: Path, options: RunOptions, tracker: Tracker | None
    ) -> None:
        self.config, self.run_dir, self.options = config, run_dir, options
        self.quiet = options.quiet or not hosts.is_first()
        self.kept = KeptFiles(run_dir, tracker)

    def begin(
        self,
        prepared: Any,
        artifacts: Artifacts | None,
        after_evaluation: Callable[[], None] | None,
    ) -> None:
        """Prepare data, model and trainer, and then the folder."""
        config, run_dir, options = self.config, self.run_dir, self.options
        done = max(CheckpointStore(run_dir).updates(), default=0) if options.resume else 0
        if done > config.train.updates:  # before config.json is written anew
            raise RunError(f"{run_dir} has {done:,} updates already: train.updates must be at least that")
        hint = (
            "nothing was trained in this session: continue with `resume=True`"
            if options.resume
            else "nothing was trained yet"
        )
        with interruptible(f"{hint} ({run_dir})"):
            if prepared is None:
                prepared = self._prepared(artifacts)
            self.prepared = prepared
            stretched = resume_notes(config, run_dir) if options.resumes else []
            for text in [*stretched, *config.train.notes()]:
                self._say(f"note: {text}")
            if done:  # before a model of other sizes than the checkpoint's is built
                require_fitting(config, prepared.artifacts, run_dir)
            self.model, self.evaluator = build_checked(config, prepared)
            for text in self.evaluator.notes:
                self._say(text)
            if options.start is not None:
                self._say(options.start.fill(self.model, prepared.artifacts))
            self.trainer = self._trainer(after_evaluation)
            self._check_hosts()
            with hosts.first_alone() as is_mine:
                if is_mine:
                    self._keep_files(done)

    def _prepared(self, artifacts: Artifacts | None) -> Any:
        if self.options.resume:
            artifacts = load_artifacts(self.run_dir, self.config.task.artifact_types)
        elif self.options.start is not None:
            artifacts = self.options.start.artifacts_for(self.config.task)
        prepared = self.config.task.prepare(artifacts)
        self._say("\n".join(prepared.report.lines()))
        return prepared

    def _trainer(self, after_evaluation: Callable[[], None] | None) -> Trainer:
        prepared, options = self.prepared, self.options
        data = {f"{name}'s fingerprint": value for name, value in prepared.fingerprints.items()}
        self.data_metadata = tuple(data)
        return Trainer(
            self.model,
            self.config.task.objective,
            self.config.train,
            run_dir=self.run_dir,
            batches=prepared.train,
            evaluate=_followed(self.evaluator, after_evaluation) if prepared.has_development else None,
            label=options.label or self.config.name,
            quiet=self.quiet,
            extra_metadata=data | artifact_fingerprints(prepared.artifacts),
            may_differ=self.data_metadata if options.allow_other_data else (),
            strict_compile=options.strict_compile,
            tracker=self.kept,
        )

    def _check_hosts(self) -> None:
        first = next(iter(self.prepared.fingerprints.values()), "")
        hosts.require_same("data", f"{first} {self.prepared.train.describe()} {to_json(self.config)}")

    def _keep_files(self, done: int) -> None:
        """Only now, when the new run is known to be possible, may the old one go."""
        run_dir, options, start = self.run_dir, self.options, self.options.start
        setting = run_setting(self.prepared) | dict(self.evaluator.settings)
        setting |= {WARM_START: str(start.where.absolute()) if start else "none"}
        self.config = dataclasses.replace(self.config, task=self.config.task.with_absolute_paths())
        if options.overwrite:
            remove_run(run_dir, run_entries())
        keep_setting(
            run_dir,
            setting,
            update=done,
            allow_inexact=options.allow_inexact,
            ignored=settings_of_data(self.prepared),
        )
        artifacts = self.prepared.artifacts
        if not options.resume:
            save_artifacts(run_dir, artifacts)
        write_whole(run_dir / CONFIG_NAME, config_text(self.config))  # last: it makes the folder a run
        self.kept.keep(CONFIG_NAME, *map(artifact_file, artifacts), RUN_LOCK_NAME)

    def train(self) -> ExperimentResult:
        """Train to the end and write the result."""
        run_dir = self.run_dir
        try:
            training = self.trainer.fit(resume=hosts.decided_by_first(lambda: holds_any(run_dir)))
        except ChangedMetadataError as error:
            if error.name in self.data_metadata:
                raise RunError(f"{error} (`allow_other_data=True` continues all the same)") from None
            raise
        self.kept.restore()
        result = ExperimentResult(
            config=self.config,
            parameters=parameter_count(self.model),
            updates=training.updates,
            compile_seconds=_compile_seconds(run_dir, training, self.evaluator),
            peak_bytes=_peak_bytes(run_dir, training),
            scores=last_scores(training.curve, list(self.config.task.metrics)),
            training=training,
            model=self.model,
            prepared=self.prepared,
            evaluator=self.evaluator,
        )
        if hosts.is_first():
            write_json(run_dir / RESULT_NAME, _result_document(result, machine_of(run_dir)))
        return result

    def _say(self, text: str) -> None:
        if not self.quiet:
            note(text)


def _followed(evaluator: Evaluator, after: Callable[[], None] | None) -> Callable[[Any], dict[str, float]]:
    """The evaluator, and a call after each evaluation."""
    if after is None:
        return evaluator

    def evaluate(state: Any) -> dict[str, float]:
        scores = evaluator(state)
        after()
        return scores

    return evaluate


def last_scores(curve: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:
    """The task's scores at the last point of a learning curve that has them."""
    columns = {name: development_column(curve, name) for name in names}
    for point in reversed(curve):
        found = {name: point[own] for name, own in columns.items() if point.get(own) is not None}
        if found:
            return found
    return {}


def _compile_seconds(run_dir: Path, training: TrainResult, evaluator: Evaluator) -> float:
    """Of this session; of the one before if this one found the training finished and compiled nothing."""
    before = read_result(run_dir) if training.compile_seconds == 0.0 else None
    if before is not None:
        return float(before.get("compile_seconds", 0.0))
    return training.compile_seconds + evaluator.compile_seconds


def _peak_bytes(run_dir: Path, training: TrainResult) -> int | None:
    """As `_compile_seconds`."""
    before = read_result(run_dir) if training.compile_seconds == 0.0 else None
    return training.peak_bytes if before is None else before.get("peak_bytes")


def _result_document(result: ExperimentResult, machine: dict[str, str]) -> dict[str, Any]:
    training = result.training
    return {
        "name": result.config.name,
        "task": result.config.task.kind,
        "parameters": result.parameters,
        "updates": training.updates,
        "train_seconds": training.train_seconds,
        "compile_seconds": result.compile_seconds,
        "tokens_per_second": training.tokens_per_second,
        "peak_bytes": result.peak_bytes,
        "truncated": False,
        "machine": machine,
        "best_update": training.best_update,
        "best_score": training.best_score,
        "development": result.scores,
        **result.evaluator.record,
    }
