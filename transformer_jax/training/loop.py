"""The trainer: updates, log rows, evaluations and checkpoints of one run, from its start or its middle."""

import contextlib
import dataclasses
import signal
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from transformer_jax.errors import ConfigError, RunError, nearest_hint
from transformer_jax.training import hosts
from transformer_jax.training.checkpoint import CheckpointInfo, CheckpointStore
from transformer_jax.training.config import TrainConfig
from transformer_jax.training.contracts import BatchSource, Objective
from transformer_jax.training.digest import digest_arrays, digest_text
from transformer_jax.training.divergence import Diverged, diverged_error, example_ids, no_divergence
from transformer_jax.training.folder_lock import locked_folder
from transformer_jax.training.hosts import AGREE_EVERY
from transformer_jax.training.metrics import fetch_means, learning_curve, zero_metrics
from transformer_jax.training.patience import finite, lost_patience
from transformer_jax.training.progress import Progress, start_progress
from transformer_jax.training.run_folder import check_run_folder, remove_run
from transformer_jax.training.run_logs import RunLogs
from transformer_jax.training.run_saver import RunSaver
from transformer_jax.training.session import Session
from transformer_jax.training.sharding import Placement
from transformer_jax.training.state import TrainState, set_remat, split_model
from transformer_jax.training.step import CompiledSteps, build_step, first_state
from transformer_jax.training.stopping import Stopped, StopRequests
from transformer_jax.training.trackers import Tracker, read_rows
from transformer_jax.training.train_result import ChangedMetadataError, TrainingInterrupted, TrainResult
from transformer_jax.typing import PyTree

Evaluate = Callable[[PyTree], Mapping[str, float]]


class Trainer:
    """Trains one model in one run folder.

    Args:
      model: An NNX module; holds the initial parameters, and after ``fit`` the last ones.
      objective: ``(model, batch, rng_key) -> (LossSum, metrics, new model state)``.
      config: The run.
      run_dir: Where ``checkpoints/``, ``metrics.jsonl`` and ``tensorboard/`` go.
      batches: The training data.
      evaluate: From the model's state (as ``nnx.split(model)[1]`` is) to development metrics by name. It must
        not keep the state: its buffers are given up by the next update.
      label: Name shown beside the progress.
      quiet: Show nothing.
      extra_metadata: Saved in every checkpoint's metadata (JSON values), and to be the same when the run is
        continued: the training data's fingerprint, say.
      may_differ: Names of such metadata that may be others when the run is continued.
      strict_compile: Whether a batch shape that the data did not announce is an error.
      tracker: Gets the rows too, after the logs; what it raises ends the run.

    Raises:
      ConfigError: If ``config.sharding`` does not fit the devices, or ``config.remat`` the model; if micro-batches
        would take apart a state that the model carries.
      ShapeError: If a batch does not divide over them.
    """

    def __init__(
        self,
        model: nnx.Module,
        objective: Objective,
        config: TrainConfig,
        *,
        run_dir: Path | str,
        batches: BatchSource,
        evaluate: Evaluate | None = None,
        label: str = "training",
        quiet: bool = False,
        extra_metadata: Mapping[str, Any] | None = None,
        may_differ: Container[str] = (),
        strict_compile: bool = False,
        tracker: Tracker | None = None,
    ) -> None:
        self._model, self._objective, self._config = model, objective, config
        self._run_dir, self._batches = Path(run_dir), batches
        self._evaluate = evaluate
        self._label, self._quiet = label, quiet
        self._extra_metadata, self._may_differ = dict(extra_metadata or {}), may_differ
        self._strict_compile = strict_compile
        self._logs = RunLogs(
            self._run_dir, goes_on=config.on_failed_save == "go_on", tell=self._tell, tracker=tracker
        )
        set_remat(model, config.remat)
        self._structure = split_model(model)[0]
        if self._structure.carried and config.accumulation > 1:
            raise ConfigError(
                f"train.accumulation is {config.accumulation}, but the model carries a state of each row from batch to "
                "batch, which micro-batches would take apart: set it to 1"
            )
        if self._structure.carried and config.on_divergence == "rollback":
            raise ConfigError(
                "train.on_divergence is 'rollback', but the model carries a state of each row from batch to batch, "
                "which would not be that of the batch that follows those passed over: set it to 'skip' or 'stop'"
            )
        self._store = CheckpointStore(
            run_dir,
            keep_best=config.keep_best,
            keep_last=config.keep_last,
            keep_every=config.keep_every,
            carried=self._structure.carried,
        )
        self._saver: RunSaver
        self._digest: Any = None
        self._progress: Progress | None = None
        self._stops = StopRequests()
        self._agreed: int | None = None
        self._placement = Placement(config.sharding, carried=self._structure.carried)
        self._planned = [_abstract(batch) for batch in batches.abstract_batches()]
        for batch in self._planned:
            self._placement.check_batch(batch, accumulation=config.accumulation)
        structure = self._placement.structure(self._structure)
        step = self._placement.step(build_step(structure, objective, config))
        length = self._placement.replicated(jax.device_put(np.int32(config.updates)))
        self.steps = CompiledSteps(step, self._report_unplanned, updates=length)

    def fit(self, *, resume: bool = False, overwrite: bool = False) -> TrainResult:
        """Train to ``config.updates``.

        Args:
          resume: Continue from the folder's last checkpoint (from the start if there is none yet).
          overwrite: Remove the folder's run and begin a new one.

        Returns:
          The result of the whole run.

        Raises:
          RunError: If another process trains here; if the folder holds a run and neither was asked, or holds none and
            ``resume`` was; if its checkpoint does not fit or is past ``config.updates``; if the data end early; if the
            loss is no longer a number; if a shape was not announced and ``strict_compile``.
          ConfigError: If the evaluation has no number of the name ``config.metric``.
          TrainingInterrupted: After Ctrl-C or SIGTERM, once the update is done and saved; after a second one at once.
        """
        with locked_folder(self._run_dir):
            return self._fit(resume=resume, overwrite=overwrite)

    def _fit(self, *, resume: bool, overwrite: bool) -> TrainResult:
        with hosts.first_alone() as is_mine:
            if is_mine:
                check_run_folder(self._run_dir, resume=resume, overwrite=overwrite)
                if overwrite:
                    remove_run(self._run_dir)
                self._store.remove_leftovers()
        state, session = self._start_state(resume=resume)
        with contextlib.ExitStack() as stack:
            self._progress = start_progress(
                self._label,
                total=self._config.updates,
                done=session.update,
                quiet=self._quiet or not hosts.is_first(),
            )
            stack.callback(self._progress.close)
            stack.push(self._logs.close)
            self._logs.open(session)
            self._saver = RunSaver(
                self._run_dir, self._store, on_failure=self._config.on_failed_save, tell=self._tell
            )
            stack.push(self._close_saver)
            self._stops = stack.enter_context(StopRequests(self._say_stopping))
            try:
                if session.evaluation_due:
                    with self._stops.held():  # its score belongs into the checkpoint
                        self._evaluate_and_save(state, session, evaluates=True, saves=True)
                        self._saver.wait()
                if session.update < self._config.updates:
                    self.steps.compile(state, self._planned_batches())
                    self._digest = jax.jit(digest_arrays).lower(state.params | state.model_state).compile()
                    with self._stops.held():  # from a signal on, the update is finished and saved
                        state = self._run(state, session)
                self._saver.keep_last(state, self._info(session, {}, None))
            except KeyboardInterrupt as interrupt:
                if not isinstance(interrupt, Stopped):
                    self._saver.wait()  # a second signal does not wait; the first has done so
                number = interrupt.signal_number if isinstance(interrupt, Stopped) else signal.SIGINT
                if self._agreed:
                    hosts.leave()
                raise TrainingInterrupted(number, self._where_to_resume(session.update)) from interrupt
        nnx.update(self._model, self._whole_model(state))
        hosts.any_host(False)  # the first has written everything
        return self._result(session)

    def _close_saver(self, kind: Any, error: Any, trace: Any) -> None:
        # Whoever stops on a signal has waited, or was told not to.
        stopped = kind is not None and issubclass(kind, KeyboardInterrupt)
        self._saver.close(waits=not stopped, raises=kind is None)

    def _tell(self, text: str) -> None:
        if self._progress is not None:
            self._progress.message(f"{self._label}: {text}")

    def _planned_batches(self) -> list[Any]:
        """The shapes to compile for, with where they lie."""
        return [self._placement.abstract_batch(batch) for batch in self._planned]

    def _start_state(self, *, resume: bool) -> tuple[TrainState, Session]:
        planned = self._planned_batches()
        if not planned:
            raise RunError("the training data announce no batch shape: are there no examples?")
        _, state = first_state(self._model, self._objective, self._config, planned[0])
        with hosts.first_alone() as is_mine:
            had_any = bool(self._store.updates())
            if is_mine:
                self._store.pass_over_damaged(sets_aside=resume)
        updates = self._store.updates()
        if resume and had_any and not updates:
            raise RunError(f"{self._run_dir}: every checkpoint is damaged: begin again with `overwrite=True`")
        if not resume or not updates:
            return self._placement.state(state), Session()
        state, info = self._store.restore(state, updates[-1])
        if info.update > self._config.updates:
            raise RunError(
                f"{self._run_dir} has been trained for {info.update} updates, more than train.updates "
                f"({self._config.updates}): ask for at least {info.update}"
            )
        for name, value in self._extra_metadata.items():
            was = info.extra.get(name, value)  # what an older version did not write cannot differ
            if was != value and name not in self._may_differ:
                raise ChangedMetadataError(
                    f"{self._run_dir} cannot go on: its {name} was {was!r}, now it is {value!r}", name
                )
        session = Session(
            update=info.update, tokens=info.tokens, passed_over=info.passed_over, divergences=info.divergences
        )
        session.evaluation_due = not info.metrics and self._evaluates_at(info.update)
        session.stopwatch.seconds = info.train_seconds
        return self._placement.state(state), session

    def _run(self, state: TrainState, session: Session) -> TrainState:
        """All updates that are still to do."""
        config, progress = self._config, self._progress
        assert progress is not None
        iterator = self._batches.iterate(session.batches)
        session.start_window()
        session.stopwatch.start()
        while session.update < config.updates and not self._lost_patience(session.update):
            batch = next(iterator, None)
            if batch is None:
                raise RunError(
                    f"the training data ended at update {session.update} of {config.updates}: "
                    "the batch source must repeat its epochs"
                )
            compiled_before = self.steps.compile_seconds
            state = self.steps(state, self._placement.batch(batch))
            session.stopwatch.exclude(self.steps.compile_seconds - compiled_before)
            session.update += 1
            session.tokens += self._batches.count_tokens(batch)
            progress.advance(session.update)
            self._saver.poll()

            evaluates = self._evaluates_at(session.update)
            saves = session.update % config.checkpoint_every == 0 or session.update == config.updates
            self._agree_to_stop(state, session.update)
            stopping = self._stop_signal() is not None
            logs = session.update % config.log_every == 0 or evaluates or session.update == config.updates
            if logs or saves or stopping:  # non-finite states are never checkpointed
                diverged = self._look(state, session)
                if diverged is not None and config.on_divergence == "rollback":
                    session.stopwatch.stop()
                    state = self._roll_back(session, diverged)
                    iterator = self._batches.iterate(session.batches)
                    session.start_window()
                    session.stopwatch.start()
                    continue
                if diverged is not None:
                    state = dataclasses.replace(state, divergence=self._placement.replicated(no_divergence()))
            if logs:
                state = self._log(state, session)
            if evaluates or saves or stopping:
                jax.block_until_ready(state.update)
                session.stopwatch.stop()
                self._evaluate_and_save(state, session, evaluates=evaluates, saves=saves)
                session.stopwatch.start()
        session.stopwatch.stop()
        return state

    def _stop_signal(self) -> int | None:
        """The signal to stop by; where there are several hosts, the one that they agreed on."""
        return self._agreed if hosts.are_several() else self._stops.came

    def _agree_to_stop(self, state: TrainState, update: int) -> None:
        """Let all hosts know of a signal that one of them got."""
        every = (
            AGREE_EVERY,
            self._config.log_every,
            self._config.checkpoint_every,
            self._config.evaluate_every,
        )
        if hosts.are_several() and not all(update % one for one in (*every, self._config.updates)):
            jax.block_until_ready(state)  # two programs with collectives must not run beside each other
            self._agreed = hosts.largest(self._stops.came or 0) or None

    def _look(self, state: TrainState, session: Session) -> Diverged | None:
        """Divergences since the last check: logged and reported, or the end of the run."""
        found = Diverged.fetched(state.divergence)
        if found is None:
            return None
        ids = []
        for update in found.updates:
            place = update - 1 + session.passed_over
            batch = next(self._batches.iterate(place), None)
            ids.append(example_ids(batch))
        found = dataclasses.replace(found, examples=tuple(ids) if any(ids) else ())
        policy = self._config.on_divergence
        told = found.told(fetch_means(state.metrics))
        session.divergences += 1 if policy == "rollback" else found.count
        if policy != "rollback":
            self._logs.write(found.row(session.update, policy))
        if policy == "stop" or session.divergences > self._config.max_divergences:
            raise diverged_error(told, policy=policy, limit=self._config.max_divergences)
        if policy == "skip":
            self._tell(f"skipped: {told}")
        return found

    def _roll_back(self, session: Session, diverged: Diverged) -> TrainState:
        """The last checkpoint's state, or the first one; the batches up to the one that diverged are passed over."""
        self._saver.wait()
        self._logs.close()
        bad = diverged.updates[0]
        state, back = self._start_state(resume=True)
        back.evaluation_due = False  # it was made before this update was done
        back.divergences = session.divergences
        back.passed_over = session.passed_over + bad - back.update
        vars(session).update(vars(back))
        self._logs.open(session)
        self._logs.write(diverged.row(session.update, "rollback") | {"passed_over": session.passed_over})
        self._tell(
            f"back at update {session.update}: the loss or its gradient was no number at update {bad}; passing over "
            f"{bad - session.update} batches"
        )
        return state

    def _say_stopping(self) -> None:
        self._tell("stopping after this update; once more stops at once")

    def _lost_patience(self, update: int) -> bool:
        """Whether the score has not become better in the last ``patience`` evaluations; from the rows alone."""
        patience = self._config.patience
        if patience is None or update % self._config.evaluate_every:
            return False
        metric, mode = self._config.metric, self._config.metric_mode
        lost = hosts.decided_by_first(
            lambda: lost_patience(
                read_rows(self._run_dir), metric=metric, metric_mode=mode, patience=patience
            )
        )
        if lost and self._progress is not None:
            self._progress.message(
                f"{self._label} {update}/{self._config.updates}  stopped early: no better {metric} in "
                f"{patience} evaluations"
            )
        return lost

    def _evaluates_at(self, update: int) -> bool:
        due = update % self._config.evaluate_every == 0 or update == self._config.updates
        return self._evaluate is not None and due

    def _evaluate_and_save(
        self, state: TrainState, session: Session, *, evaluates: bool, saves: bool
    ) -> None:
        """Score the model, then save it if that is due or the score is among the best; stop if requested."""
        metrics: dict[str, float] = {}
        try:
            if evaluates:
                metrics = self._run_evaluation(state, session)
        except BaseException as error:
            # The updates are done, whatever became of their score, which a resumed run computes first.
            if (saves or isinstance(error, KeyboardInterrupt)) and not hosts.are_several():
                self._saver.save(state, self._info(session, {}, None))
                self._saver.wait()
            raise
        score = finite(metrics.get(self._config.metric))
        signal_number = self._stop_signal()
        if saves or signal_number is not None or self._saver.is_among_best(score, self._config.metric_mode):
            self._saver.save(state, self._info(session, metrics, score))
        signal_number = self._stop_signal()
        if signal_number is not None:
            self._saver.wait()
            raise Stopped(signal_number)

    def _log(self, state: TrainState, session: Session) -> TrainState:
        """Fetch the running metrics, write a row, and start new sums."""
        means = fetch_means(state.metrics)  # the host waits here, and only here
        seconds = session.stopwatch.read()
        row = {"kind": "train", "update": session.update, "seconds": seconds} | means
        row["tokens_per_second"] = session.close_window(seconds)
        row["digest"] = digest_text(self._digest(state.params | state.model_state))
        self._logs.write(row)
        assert self._progress is not None
        text = f"loss {row['loss']:.4f}  {row['tokens_per_second']:,.0f} tokens/s"
        self._progress.show(text, update=session.update)
        return dataclasses.replace(state, metrics=self._placement.replicated(zero_metrics(state.metrics)))

    def _whole_model(self, state: TrainState) -> PyTree:
        """The model's state on one device, as evaluations and searches take it."""
        return self._structure.state(
            self._placement.gathered(state.best_params), self._placement.gathered(state.model_state)
        )

    def _run_evaluation(self, state: TrainState, session: Session) -> dict[str, float]:
        assert self._evaluate is not None
        assert self._progress is not None
        model_state = self._whole_model(state)
        # One of several hosts must not leave the others alone: there a signal waits for the next agreement.
        with contextlib.nullcontext() if hosts.are_several() else self._stops.released():
            found = self._evaluate(model_state)
        metrics = {name: float(value) for name, value in found.items()}
        if self._config.metric not in metrics:
            raise ConfigError(
                f"metric is {self._config.metric!r}, but the evaluation gives only "
                f"{', '.join(sorted(metrics)) or 'nothing'}{nearest_hint(self._config.metric, metrics)}"
            )
        row = {"kind": "evaluation", "update": session.update, "seconds": session.stopwatch.read()} | metrics
        self._logs.write(row)
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self._progress.message(
            f"{self._label} {session.update}/{self._config.updates}  development: {numbers}"
        )
        return metrics

    def _info(self, session: Session, metrics: dict[str, float], score: float | None) -> CheckpointInfo:
        return CheckpointInfo(
            update=session.update,
            score=score,
            metric_mode=self._config.metric_mode,
            train_seconds=session.stopwatch.read(),
            tokens=session.tokens,
            metrics={name: finite(value) for name, value in metrics.items()},
            extra=self._extra_metadata,
            passed_over=session.passed_over,
            divergences=session.divergences,
        )

    def _result(self, session: Session) -> TrainResult:
        best = self._store.best_updates()
        seconds = session.stopwatch.read()
        return TrainResult(
            updates=session.update,
            train_seconds=seconds,
            compile_seconds=self.steps.compile_seconds,
            tokens=session.tokens,
            tokens_per_second=session.tokens / seconds if seconds else 0.0,
            curve=learning_curve(read_rows(self._run_dir)),
            peak_bytes=self.steps.peak_bytes(),
            unplanned_compilations=self.steps.unplanned,
            best_update=best[0] if best else None,
            best_score=self._store.info(best[0]).score if best else None,
        )

    def _where_to_resume(self, update: int) -> str:
        saved = self._store.updates()
        where = f"resume from update {saved[-1]}" if saved else "no checkpoint was due yet: start again"
        return f"stopped at update {update} of {self._config.updates}; {where} with `resume=True` ({self._run_dir})"

    def _report_unplanned(self, batch: Any) -> None:
        shapes = ", ".join(str(leaf.shape) for leaf in jax.tree.leaves(batch)[:3])
        if self._strict_compile:
            raise RunError(
                f"a batch of shapes {shapes} came, which were not announced (`strict_compile=True`)"
            )
        if self._progress is not None:
            self._progress.message(f"compiling for a batch shape that was not announced: {shapes}")


def _abstract(batch: Any) -> Any:
    """The shapes and dtypes of a batch."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), batch)
