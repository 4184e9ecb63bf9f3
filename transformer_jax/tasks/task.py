"""The task protocol: everything that is specific to one use of a model, as one frozen value.

Below a task all is generic (models, objectives, trainer, searches); above it (run folders, the command line) nobody
asks which task it is.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

from transformer_jax.errors import ConfigError
from transformer_jax.models.sizes import Sizes

Direction = Literal["min", "max"]
"""Which values of a metric are better."""


class Artifact(Protocol):
    """Something made of the training data that a trained model needs again: a tokenizer, a label set, a scaler."""

    def save(self, path: Path) -> None:
        """Write it to a file, whole or not at all."""
        ...

    def fingerprint(self) -> str:
        """A short text that changes with its contents."""
        ...


Artifacts = Mapping[str, Any]
"""Artifacts by name; the name is that of the file, without ``.json``."""


class Prepared(Protocol):
    """Data of an experiment, ready to train on."""

    @property
    def train(self) -> Any:
        """Training batches: a ``BatchSource`` with ``describe()`` and ``batches_per_epoch``."""
        ...

    @property
    def artifacts(self) -> Artifacts:
        """Artifacts made from the data."""
        ...

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprints of the parts of the data by name, such as ``"training data"``."""
        ...

    @property
    def has_development(self) -> bool:
        """Whether there is a development set."""
        ...

    @property
    def report(self) -> Any:
        """Sizes and remarks; ``lines()`` gives them as text."""
        ...


class Evaluator(Protocol):
    """Scores a model on the development set; the trainer calls it."""

    @property
    def notes(self) -> Sequence[str]:
        """Remarks on the scores, for people."""
        ...

    @property
    def settings(self) -> Mapping[str, str]:
        """Settings besides the data that determine the scores, as ``run.lock`` records them."""
        ...

    @property
    def record(self) -> Mapping[str, Any]:
        """The same for ``result.json``."""
        ...

    @property
    def compile_seconds(self) -> float:
        """Seconds spent on compiling so far."""
        ...

    def check(self) -> None:
        """Raise what evaluating would raise for this model, by shapes alone."""
        ...

    def __call__(self, state: Any) -> dict[str, float]:
        """Metrics by name, of the model's state as of ``nnx.split(model)[1]``."""
        ...


@runtime_checkable
class Task(Protocol):
    """A frozen, keyword-only dataclass tagged by ``kind`` that holds its data, objective and search.

    Beside the protocol a task may have ``describe_data()``, ``data_name()`` and ``splits()``, which `task_data` derives
    from its data set otherwise, and ``has_shorter_batches``, of which a plan takes note.

    Attributes:
      kind: Its name in configs.
      metrics: What may select checkpoints, and which way is better.
      artifact_types: Class of each artifact by its name; the class has ``load(path)``.
      sizes_given: Names of the sizes that it gives to models.
      evaluation_type: Class of the options of `evaluate`; it takes ``split`` and what the task has beside it.
    """

    kind: Any
    metrics: ClassVar[Mapping[str, Direction]]
    artifact_types: ClassVar[Mapping[str, Any]]
    sizes_given: ClassVar[tuple[str, ...]]
    evaluation_type: ClassVar[Any]

    @property
    def objective(self) -> Any:
        """Loss that an update minimises: ``(model, batch, rng_key) -> (LossSum, metrics, model state)``."""
        ...

    def check(self, model: Any) -> None:
        """Raise ``ConfigError`` if a model's config does not go with the task."""
        ...

    def check_objective(self, model: Any) -> None:
        """Raise ``ConfigError`` if the objective cannot do anything with a model's config."""
        ...

    def prepare(self, artifacts: Artifacts | None = None) -> Any:
        """Read the data; given artifacts are used instead of making new ones.

        Returns:
          A `Prepared`.
        """
        ...

    def sizes(self, artifacts: Artifacts, *, is_training: bool = False) -> Sizes:
        """Sizes of the data that a model's ``build`` needs."""
        ...

    def evaluator(self, model: Any, prepared: Any, *, num_devices: int = 1) -> Evaluator:
        """Scores of the development set."""
        ...

    def predictor(self, model: Any, artifacts: Artifacts, *, model_config: Any, name: str) -> Any:
        """Predictor of a trained model: a ``Translator``, a ``TextGenerator`` ..."""
        ...

    def evaluate(self, predictor: Any, options: Any) -> dict[str, Any]:
        """Scores of a trained model on a part of the data or on files; see the task for what the options are.

        Returns:
          The scores by name; ``"text"`` and ``"remarks"`` are lines for people.
        """
        ...

    def file_overrides(self, files: Mapping[str, Sequence[str]]) -> list[str]:
        """Overrides of the config that put a user's own files in the place of the data set.

        Args:
          files: Paths by what they are: ``source``, ``target``, ``development_source`` and ``development_target`` of
            pairs, ``text`` and ``development_text`` of text.

        Raises:
          ConfigError: If the task does not train on such files.
        """
        ...

    def tokenizer_overrides(self, path: str) -> list[str]:
        """Overrides of the config that take a saved tokenizer."""
        ...

    def with_absolute_paths(self) -> Self:
        """The same task, its files to be found from any folder."""
        ...

    def plan_lengths(self) -> tuple[int, ...]:
        """Lengths of the longest training batch that the config allows."""
        ...

    def plan_rows(self, lengths: tuple[int, ...]) -> int:
        """Rows of a training batch of such lengths."""
        ...

    def abstract_batch(self, rows: int, lengths: tuple[int, ...]) -> Any:
        """Shapes of a training batch."""
        ...

    def known_sizes(self, vocab_sizes: tuple[int, ...] = ()) -> Sizes | None:
        """Sizes that follow from the config alone, or from vocabulary sizes that are given; None where none do."""
        ...

    def is_at_hand(self) -> bool:
        """Whether the data can be read without fetching anything."""
        ...


def evaluation_options(task: Any, given: Mapping[str, Any]) -> Any:
    """The options of a task's evaluation.

    Raises:
      ConfigError: If the task has no option of a name.
    """
    known = [field.name for field in dataclasses.fields(task.evaluation_type)]
    for name in given:
        if name not in known:
            raise ConfigError(f"the evaluation of {task.kind} has no `{name}`: leave it out")
    return task.evaluation_type(**given)


def check_sizes(task: Any, model: Any) -> None:
    """Raise ``ConfigError`` if a model's config needs sizes that a task does not give."""
    needed = getattr(model, "sizes_needed", ())
    if not set(needed) <= set(task.sizes_given):
        raise ConfigError(
            f"model '{model.kind}' needs {', '.join(needed)}; task '{task.kind}' gives {', '.join(task.sizes_given)}: "
            "choose a model of the task"
        )


def check_limit(
    option: str, wanted: int, limit: int | None, *, raised: str, noun: str = "learned positions"
) -> None:
    """Raise ``ConfigError`` if the longest sequence that the data allow is more than a model can take.

    Args:
      option: The config's value that bounds the data.
      wanted: The value.
      limit: What the model can take; None for no limit.
      raised: The config's value that the limit comes from.
      noun: What the model has so many of.

    Example:
      >>> check_limit("data.max_len", 9, 8, raised="model.positions.max_len")
      Traceback (most recent call last):
      transformer_jax.errors.ConfigError: data.max_len is 9, but the model has 8 learned positions: lower it, or raise
      model.positions.max_len
    """
    if limit is not None and limit < wanted:
        raise ConfigError(
            f"{option} is {wanted}, but the model has {limit} {noun}: lower it, or raise {raised}"
        )


def check_files(
    task: str, files: Mapping[str, Sequence[str]], *, known: Sequence[str], needed: Sequence[str]
) -> None:
    """Raise ``ConfigError`` unless files are those that a task trains on."""
    for name in files:
        if name not in known:
            raise ConfigError(
                f"task '{task}' does not train on `{name}`: give {' and '.join(f'`{one}`' for one in needed)}"
            )
    if not all(name in files for name in needed):
        raise ConfigError(
            f"{' and '.join(f'`{one}`' for one in needed)} go together, with or without a development set"
            if len(needed) > 1
            else f"`{needed[0]}` is missing: name a file to train on"
        )


def saved_tokenizer_overrides(path: str) -> list[str]:
    """Overrides of a task with one tokenizer that take a saved one.

    Args:
      path: Its file.

    Example:
      >>> saved_tokenizer_overrides("mine.json")
      ['task.data.tokenizer={"kind": "saved", "path": "mine.json"}']
    """
    return [f"task.data.tokenizer={json.dumps({'kind': 'saved', 'path': path})}"]
