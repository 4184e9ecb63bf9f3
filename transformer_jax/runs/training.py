"""Joins data, model, trainer, search and scores: one experiment from its config to its run folder."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from transformer_jax.config_json import to_json
from transformer_jax.data.line_breaks import escape_line_breaks
from transformer_jax.data.pairs_config import with_absolute_paths
from transformer_jax.data.prepare import PreparedData, prepare
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.decode.searcher import GreedyConfig
from transformer_jax.errors import ConfigError, RunError, TransformerJaxError
from transformer_jax.evaluate.tokenization import BleuTokenizer
from transformer_jax.files import write_json, write_whole
from transformer_jax.inference.batch_search import BatchSearcher
from transformer_jax.models.build import build_model, model_shapes
from transformer_jax.models.sizes import Sizes
from transformer_jax.nn.parameters import parameter_count
from transformer_jax.notes import note
from transformer_jax.runs.experiment import (
    ExperimentConfig,
    resume_config,
    saved_config,
    start_config,
)
from transformer_jax.runs.folder import (
    CONFIG_NAME,
    RESULT_NAME,
    RUN_ENTRIES,
    RUN_LOCK_NAME,
    SOURCE_TOKENIZER_NAME,
    TARGET_TOKENIZER_NAME,
    KeptFiles,
    interruptible,
    read_result,
)
from transformer_jax.runs.lock import BLEU_TOKENIZER, WARM_START, keep_setting, machine_of, run_setting
from transformer_jax.tasks.pair_metrics import METRICS, bleu_tokenizer, percentages, score_outputs
from transformer_jax.train import hosts
from transformer_jax.train.checkpoint import CheckpointStore, require_same, run_folder
from transformer_jax.train.folder_lock import locked_folder
from transformer_jax.train.loop import ChangedMetadataError, Trainer, TrainResult
from transformer_jax.train.run_folder import check_run_folder, holds_any, remove_run
from transformer_jax.train.state import split_model
from transformer_jax.train.trackers import Tracker

TRAINING_DATA, DEVELOPMENT_DATA = "training data's fingerprint", "development data's fingerprint"
"""Names in a checkpoint's metadata."""

__all__ = [
    "ExperimentConfig",
    "ExperimentResult",
    "Start",
    "build_from",
    "resume_config",
    "run_experiment",
    "saved_config",
    "start_config",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentResult:
    """What a finished experiment leaves in memory.

    Args:
      config: What was run.
      parameters: Trained numbers of the model.
      updates: Updates done.
      compile_seconds: Compiling of training steps and of the search, in the session that trained last.
      scores: Of the last evaluation on the development set.
      training: Times, tokens and the learning curve.
      model: Holds the last parameters.
      data: What it was trained on.
      searcher: The greedy search of the evaluations, compiled for the development set's shapes.
    """

    config: ExperimentConfig
    parameters: int
    updates: int
    compile_seconds: float
    scores: dict[str, float]
    training: TrainResult
    model: nnx.Module
    data: PreparedData
    searcher: BatchSearcher


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """What another run gives to a new one: its parameters, and the tokenizers that they were trained with.

    Args:
      where: The other run's folder.
      model: A module with its parameters.
      source_tokenizer: Of the other run.
      target_tokenizer: Of the other run.
      allow_partial: Whether the new model may be of another structure: arrays of the same name, shape and dtype are
        then taken, the others stay as they were initialized.
    """

    where: Path
    model: nnx.Module
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer
    allow_partial: bool = False

    def fill(self, model: nnx.Module) -> str:
        """Give ``model`` the parameters.

        Returns:
          What was taken and what was not, for a person.

        Raises:
          RunError: If it is of another structure and that is not allowed, or nothing of it fits; says in what.
        """
        structure, *wanted = split_model(model)
        _, *found = split_model(self.model)
        own, arrays = wanted[0] | wanted[1], found[0] | found[1]
        if not self.allow_partial:
            try:
                require_same(arrays, own, self.where)
            except RunError as error:
                raise RunError(f"{error} (--allow-partial takes what fits)") from None
        fitting = {
            name
            for name, array in own.items()
            if name in arrays and (arrays[name].shape, arrays[name].dtype) == (array.shape, array.dtype)
        }
        if not fitting:
            raise RunError(f"{self.where}: not one of its arrays fits the model: begin without --warm-start")
        taken = {name: arrays[name] if name in fitting else array for name, array in own.items()}
        nnx.update(model, structure.state(taken, taken))
        text = f"warm start: {len(fitting)} of {len(own)} arrays are those of {self.where}"
        for what, names in (
            ("as initialized", own.keys() - fitting),
            ("not taken", arrays.keys() - fitting),
        ):
            text += f"\n  {what}: {', '.join(sorted(names))}" if names else ""
        return text


def run_experiment(
    config: ExperimentConfig,
    run_dir: Path | str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    label: str | None = None,
    data: PreparedData | None = None,
    after_evaluation: Callable[[], None] | None = None,
    start: Start | None = None,
    strict_compile: bool = False,
    allow_inexact: bool = False,
    allow_other_data: bool = False,
    tokenizers: tuple[Tokenizer, Tokenizer] | None = None,
    tracker: Tracker | None = None,
) -> ExperimentResult:
    """Train as ``config`` says and keep everything in ``run_dir``.

    Args:
      config: The experiment.
      run_dir: Run folder.
      resume: Go on with the folder's run (its tokenizers are read, not trained again).
      overwrite: Remove the folder's run first.
      quiet: Show no progress.
      label: Name beside the progress; the experiment's own by default.
      data: The prepared data, if the caller has them; their tokenizers are saved in the run folder.
      after_evaluation: Called after every evaluation on the development set.
      start: Another run to begin from; not for a run that goes on.
      strict_compile: Whether a batch shape that was not planned is an error.
      allow_inexact: Whether a run may go on with other versions, flags or another device.
      allow_other_data: Whether it may go on with other training or development data.
      tokenizers: Of source and target, for a new run that is not to train or load its own.
      tracker: Gets the log's rows too.

    Raises:
      RunError: If the folder does not fit ``resume`` and ``overwrite``, or the model not ``start``; if a run would go
        on to other bits and that is not allowed; if another process trains here.
      DataError: If the data are not to be had or hold no training example.
      KeyboardInterrupt: After Ctrl-C, with a message that says how to go on.
    """
    run_folder(run_dir)  # a text: an empty one is no Path any more
    run_dir, quiet = Path(run_dir), quiet or not hosts.is_first()
    with hosts.first_alone() as is_mine:
        if is_mine:
            check_run_folder(run_dir, resume=resume, overwrite=overwrite, entries=RUN_ENTRIES)
    with locked_folder(run_dir):
        return _run_locked(
            config, run_dir, resume=resume, overwrite=overwrite, quiet=quiet, label=label, data=data,
            after_evaluation=after_evaluation, start=start, strict_compile=strict_compile,
            allow_inexact=allow_inexact, allow_other_data=allow_other_data, tokenizers=tokenizers, tracker=tracker,
        )  # fmt: skip


def _run_locked(
    config: ExperimentConfig,
    run_dir: Path,
    *,
    resume: bool,
    overwrite: bool,
    quiet: bool,
    label: str | None,
    data: PreparedData | None,
    after_evaluation: Callable[[], None] | None,
    start: Start | None,
    strict_compile: bool,
    allow_inexact: bool,
    allow_other_data: bool,
    tokenizers: tuple[Tokenizer, Tokenizer] | None,
    tracker: Tracker | None,
) -> ExperimentResult:
    done = max(CheckpointStore(run_dir).updates(), default=0) if resume else 0
    if done > config.train.updates:  # before config.json is written anew
        raise RunError(f"{run_dir} has {done:,} updates already: train.updates must be at least that")
    hint = "nothing was trained in this session: go on with --resume" if resume else "nothing was trained yet"
    with interruptible(f"{hint} ({run_dir})"):
        if data is None:
            if resume:
                tokenizers = saved_tokenizers(run_dir)
            elif start is not None:
                tokenizers = (start.source_tokenizer, start.target_tokenizer)
            source_tokenizer, target_tokenizer = tokenizers or (None, None)
            data = prepare(config.data, source_tokenizer=source_tokenizer, target_tokenizer=target_tokenizer)
            if not quiet:
                note("\n".join(data.report.lines()))
        tokenizer = development_tokenizer(config, data)
        if not quiet:
            for text in config.train.notes():
                note(f"note: {text}")
        if tokenizer is not None and not quiet:
            note(f"BLEU cuts words by sacrebleu's '{tokenizer.name}' ({tokenizer.reason})")
        if done:  # before a model of other sizes than the checkpoint's is built
            require_fitting(config, data, run_dir)
        model, searcher = build_checked(config, data)
        if start is not None:
            told = start.fill(model)
            if not quiet:
                note(told)
        kept = KeptFiles(run_dir, tracker)
        trainer = Trainer(
            model,
            config.objective,
            config.train,
            run_dir=run_dir,
            batches=data.train,
            evaluate=DevelopmentScores(config, data, searcher, after_evaluation)
            if data.development_items
            else None,
            label=label or config.name,
            quiet=quiet,
            extra_metadata={
                TRAINING_DATA: data.train.examples.fingerprint(),
                DEVELOPMENT_DATA: data.development.fingerprint(),
                **tokenizer_fingerprints(data.source_tokenizer, data.target_tokenizer),
            },
            may_differ=(TRAINING_DATA, DEVELOPMENT_DATA) if allow_other_data else (),
            strict_compile=strict_compile,
            tracker=kept,
        )
        hosts.require_same(
            "data", f"{data.train.examples.fingerprint()} {data.train.describe()} {to_json(config)}"
        )
        setting = run_setting(data) | ({} if tokenizer is None else {BLEU_TOKENIZER: tokenizer.name})
        setting |= {WARM_START: str(start.where.absolute()) if start else "none"}
        config = dataclasses.replace(config, data=with_absolute_paths(config.data))
        with hosts.first_alone() as is_mine:
            if is_mine:
                # Only now, when the new run is known to be possible, may the old one go.
                if overwrite:
                    remove_run(run_dir, RUN_ENTRIES)
                keep_setting(run_dir, setting, update=done, allow_inexact=allow_inexact)
                if not resume:
                    data.source_tokenizer.save(run_dir / SOURCE_TOKENIZER_NAME)
                    data.target_tokenizer.save(run_dir / TARGET_TOKENIZER_NAME)
                write_whole(run_dir / CONFIG_NAME, to_json(config))  # last: it is what makes the folder a run
                kept.keep(CONFIG_NAME, SOURCE_TOKENIZER_NAME, TARGET_TOKENIZER_NAME, RUN_LOCK_NAME)
    try:
        training = trainer.fit(resume=hosts.decided_by_first(lambda: holds_any(run_dir)))
    except ChangedMetadataError as error:
        if error.name in (TRAINING_DATA, DEVELOPMENT_DATA):
            raise RunError(f"{error} (--allow-other-data goes on all the same)") from None
        raise
    kept.restore()
    scores = last_scores(training.curve, list(METRICS[config.task]))
    result = ExperimentResult(
        config=config,
        parameters=parameter_count(model),
        updates=training.updates,
        compile_seconds=_compile_seconds(run_dir, training, searcher),
        scores=scores,
        training=training,
        model=model,
        data=data,
        searcher=searcher,
    )
    if hosts.is_first():
        write_json(run_dir / RESULT_NAME, _result_document(result, machine_of(run_dir)))
    return result


def tokenizer_fingerprints(source_tokenizer: Tokenizer, target_tokenizer: Tokenizer) -> dict[str, str]:
    """What a checkpoint says about the tokenizers that its ids come from."""
    return {
        "source tokenizer's fingerprint": source_tokenizer.fingerprint(),
        "target tokenizer's fingerprint": target_tokenizer.fingerprint(),
    }


def build_from(config: ExperimentConfig, source_tokenizer: Tokenizer, target_tokenizer: Tokenizer) -> Any:
    """The experiment's model with initial parameters, sized for these vocabularies."""
    sizes = Sizes.of_pairs(source_tokenizer.vocab_size, target_tokenizer.vocab_size)
    return build_model(config.model, sizes, seed=config.train.seed)


def shapes_from(
    config: ExperimentConfig,
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    *,
    num_arrays: int,
    where: Path,
) -> Any:
    """The experiment's model with shapes in the place of arrays, for what a run or model folder holds.

    Args:
      config: The folder's.
      source_tokenizer: The folder's.
      target_tokenizer: The folder's.
      num_arrays: Stored in the folder for the model.
      where: The folder, for messages.

    Raises:
      RunError: If the config has more layers than there are arrays, or its values do not go together.
    """
    try:
        sizes = Sizes.of_pairs(source_tokenizer.vocab_size, target_tokenizer.vocab_size)
        return model_shapes(config.model, sizes, num_arrays=num_arrays)
    except TransformerJaxError as error:
        raise RunError(f"{where}: {error}") from None


def require_fitting(config: ExperimentConfig, data: PreparedData, run_dir: Path) -> None:
    """Check that a run's last checkpoint holds a model of this config; only shapes are compared.

    Raises:
      RunError: If it does not; says in what.
    """
    store = CheckpointStore(run_dir)
    update = store.updates()[-1]
    try:
        found = store.model_shapes(update)
    except RunError:  # damaged: whoever reads it says so, and takes the one before
        return
    model = shapes_from(
        config, data.source_tokenizer, data.target_tokenizer, num_arrays=len(found), where=run_dir
    )
    _, params, others = split_model(model)
    require_same(found, params | others, run_dir)


def build_checked(config: ExperimentConfig, data: PreparedData) -> tuple[Any, BatchSearcher]:
    """The experiment's model, and the greedy search of its evaluations, traced once to see that it can run.

    Raises:
      ConfigError: If model, data and search do not fit together.
      ShapeError: If the model cannot take sequences of the data's lengths.
    """
    weight = config.objective.r_drop_weight
    if weight and not any(rate for name, rate in vars(config.model).items() if name.endswith("dropout_rate")):
        raise ConfigError(
            f"objective.r_drop_weight is {weight:g}, but the model has no dropout, so that both passes "
            "would be the same: set model.dropout_rate above 0, or objective.r_drop_weight to 0"
        )
    model = build_from(config, data.source_tokenizer, data.target_tokenizer)
    searcher = BatchSearcher(
        model,
        GreedyConfig(max_len=config.search.max_len, forbidden_ids=config.search.forbidden_ids),
        batch_size=config.data.batch_size,
        lengths=[shape[0] for shape in data.plan.shapes],
        num_devices=1 if config.train.sharding is None else jax.local_device_count(),
    )
    searcher.check()
    return model, searcher


def development_tokenizer(config: ExperimentConfig, data: PreparedData) -> BleuTokenizer | None:
    """What BLEU cuts words with on the development set; None where the task takes no BLEU or there is no such set."""
    if "bleu" not in METRICS[config.task] or not data.development_items:
        return None
    return bleu_tokenizer(config.data, [item.references for item in data.development_items])


@dataclasses.dataclass
class DevelopmentScores:
    """Scores on the development set by greedy search; what the trainer calls."""

    config: ExperimentConfig
    data: PreparedData
    searcher: BatchSearcher
    after: Callable[[], None] | None = None

    @functools.cached_property
    def tokenizer(self) -> BleuTokenizer | None:
        """What BLEU cuts words with, one for the whole run; None where the task takes no BLEU."""
        return development_tokenizer(self.config, self.data)

    def __call__(self, state: Any) -> dict[str, float]:
        """Scores by name, from the model's state as of ``nnx.split(model)[1]``."""
        sources = encoded_sources(self.data.development)
        found = self.searcher(state, sources)
        outputs = [self.data.target_tokenizer.decode_line(hypotheses[0].tokens) for hypotheses in found]
        references = [tuple(map(escape_line_breaks, item.references)) for item in self.data.development_items]
        scores = percentages(score_outputs(self.config.task, outputs, references, tokenize=self.tokenizer))
        if self.after is not None:
            self.after()
        return scores


def encoded_sources(examples: Any) -> list[list[int]]:
    """Source ids of every example of an ``EncodedExamples``."""
    offsets = examples.source_offsets
    return [examples.source_ids[start:stop].tolist() for start, stop in itertools.pairwise(offsets)]


def last_scores(curve: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:
    """The task's scores at the last point of a learning curve that has them."""
    for point in reversed(curve):
        found = {name: point[name] for name in names if point.get(name) is not None}
        if found:
            return found
    return {}


def _compile_seconds(run_dir: Path, training: TrainResult, searcher: BatchSearcher) -> float:
    """Of this session; of the one before if this one found the training finished and compiled nothing."""
    before = read_result(run_dir) if training.compile_seconds == 0.0 else None
    if before is not None:
        return float(before.get("compile_seconds", 0.0))
    return training.compile_seconds + searcher.compile_seconds


def saved_tokenizers(run_dir: Path) -> tuple[Tokenizer, Tokenizer]:
    """Source and target tokenizer of a run."""
    return Tokenizer.load(run_dir / SOURCE_TOKENIZER_NAME), Tokenizer.load(run_dir / TARGET_TOKENIZER_NAME)


def _result_document(result: ExperimentResult, machine: dict[str, str]) -> dict[str, Any]:
    training = result.training
    tokenizer = development_tokenizer(result.config, result.data)
    return {
        "name": result.config.name,
        "task": result.config.task,
        "parameters": result.parameters,
        "updates": training.updates,
        "train_seconds": training.train_seconds,
        "compile_seconds": result.compile_seconds,
        "tokens_per_second": training.tokens_per_second,
        "truncated": False,
        "machine": machine,
        "best_update": training.best_update,
        "best_score": training.best_score,
        "development": result.scores,
        **({} if tokenizer is None else {"bleu_tokenizer": tokenizer.name}),
    }
