"""From the words of ``transformer-jax plan`` to a plan: config, vocabulary and batch without any training data."""

import dataclasses
from pathlib import Path
from typing import Any

from transformer_jax.errors import ConfigError
from transformer_jax.models.build import build_model
from transformer_jax.models.sizes import Sizes
from transformer_jax.planning import Plan, find_device, parse_mesh, plan_step
from transformer_jax.runs.artifacts import artifact_file, load_artifacts
from transformer_jax.runs.experiment import ExperimentConfig, start_config
from transformer_jax.tasks.task_data import data_name
from transformer_jax.training.config import MeshShape


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """A request for a plan.

    Args:
      config: File of the config.
      overrides: ``path=value`` texts that change the config.
      mesh: Its text; None takes ``train.sharding``.
      device: Its name.
      batch_rows: Rows of a whole batch; None takes the config's.
      lengths: None, one or two; without any the config's longest.
      vocab_sizes: None, one or two; without any the tokenizers'.
    """

    config: str
    overrides: tuple[str, ...] = ()
    mesh: str | None = None
    device: str = "h100"
    batch_rows: int | None = None
    lengths: tuple[int, ...] = ()
    vocab_sizes: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedExperiment:
    """A plan and what it was made for.

    Args:
      name: Of the experiment.
      rows: Of a whole batch.
      lengths: Tokens of a row, of each side of a pair.
      vocab_sizes: Of each side.
      vocab_source: Where those are from.
      is_pair: Whether a row has a source and a target.
      notes: What a reader should know of the config.
      plan: The plan.
    """

    name: str
    rows: int
    lengths: tuple[int, ...]
    vocab_sizes: tuple[int, ...]
    vocab_source: str
    is_pair: bool
    notes: tuple[str, ...]
    plan: Plan


def plan_experiment(request: PlanRequest) -> PlannedExperiment:
    """Plan a run.

    Raises:
      ConfigError: If config, mesh, device, lengths or vocabulary are wrong or not to be had.
      ShapeError: If the batch does not divide over the mesh.
      DataError: If the vocabulary is that of data which cannot be read.
    """
    device = find_device(request.device)  # first what needs no file
    mesh = parse_mesh(request.mesh) if request.mesh is not None else None
    for option, values in (("`lengths`", request.lengths), ("`vocab_sizes`", request.vocab_sizes)):
        if len(values) > 2 or any(value < 1 for value in values):
            raise ConfigError(
                f"{option} wants one or two numbers of at least 1, got {' '.join(map(str, values))}"
            )
    if request.batch_rows is not None and request.batch_rows < 1:
        raise ConfigError(f"`batch_rows` must be at least 1, got {request.batch_rows}")
    config = start_config(request.config, request.overrides)
    task, train = config.task, config.train
    longest = task.plan_lengths()
    given = request.lengths or longest
    lengths = (given[0], given[-1])[: len(longest)]
    rows = request.batch_rows or task.plan_rows(lengths)
    sizes, vocab_source = _sizes(config, request)

    def make_model() -> Any:
        return build_model(config.model, sizes, seed=train.seed)

    plan = plan_step(
        make_model,
        task.objective,
        train,
        task.abstract_batch(rows, lengths),
        mesh=mesh or train.sharding or MeshShape(),
        device=device,
    )
    return PlannedExperiment(
        name=config.name,
        rows=rows,
        lengths=lengths,
        vocab_sizes=sizes.vocabularies(),
        vocab_source=vocab_source,
        is_pair=len(sizes.vocabularies()) > 1,
        notes=_notes(config, request),
        plan=plan,
    )


def _notes(config: ExperimentConfig, request: PlanRequest) -> tuple[str, ...]:
    notes = []
    if not request.lengths and getattr(config.task, "has_shorter_batches", False):
        notes.append("the longest batch that the config allows is planned; shorter ones take less")
    return tuple(notes)


def _sizes(config: ExperimentConfig, request: PlanRequest) -> tuple[Sizes, str]:
    """Sizes of the model, and where they are from: the option, a run's artifacts, the config, or the data."""
    task = config.task
    if request.vocab_sizes:
        given = task.known_sizes(request.vocab_sizes)
        assert given is not None
        return given, "`vocab_sizes`"
    folder = Path(request.config).parent
    beside = [folder / artifact_file(name) for name in task.artifact_types]
    if Path(request.config).suffix == ".json" and beside and all(path.is_file() for path in beside):
        return task.sizes(
            load_artifacts(folder, task.artifact_types), is_training=True
        ), "the run's tokenizers"
    known = task.known_sizes()
    if known is not None:
        return known, "the config"
    if not task.is_at_hand():
        raise ConfigError(
            f"the vocabulary of data set '{data_name(task)}' is not known before its data are read: give `vocab_sizes`"
        )
    return task.sizes(task.prepare().artifacts, is_training=True), "the data"
