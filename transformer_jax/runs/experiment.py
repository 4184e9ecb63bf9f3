"""An experiment: task, model and training in one value, from a Python file or from JSON."""

import contextlib
import dataclasses
import importlib.machinery
import json
import runpy
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformer_jax.config_json import apply_overrides, from_document, load_document, to_json
from transformer_jax.errors import ConfigError, RunError, TransformerJaxError
from transformer_jax.files import read_text
from transformer_jax.models.build import ModelConfig
from transformer_jax.runs.bundled_experiments import experiment_path
from transformer_jax.runs.config_formats import OBJECTIVE_OPTIONS, upgrade_document
from transformer_jax.runs.folder import CONFIG_NAME, run_entries
from transformer_jax.tasks.union import TaskConfig, task_fields
from transformer_jax.training.config import TrainConfig
from transformer_jax.training.run_folder import holds_any

# What may change when a run is resumed: the rest would not fit the parameters, the optimiser or the batches.
RESUMABLE = (
    "train.updates",
    "train.log_every",
    "train.evaluate_every",
    "train.checkpoint_every",
    "train.keep_best",
    "train.keep_last",
    "train.keep_every",
    "train.sharding",
    "train.on_divergence",
    "train.max_divergences",
    "train.on_failed_save",
    "task.search.",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """One whole run: with the data's files it determines the contents of the run folder.

    Attributes:
      name: What to call it in progress and reports.
      task: What the model is for: data, objective, evaluation and search.
      model: Model and its sizes.
      train: Optimiser, schedule and lengths.
    """

    name: str
    task: TaskConfig
    model: ModelConfig
    train: TrainConfig

    def __post_init__(self) -> None:
        self.task.check(self.model)
        known, metric = self.task.metrics, self.train.metric
        if metric not in known:
            raise ConfigError(
                f"train.metric is '{metric}', but task '{self.task.kind}' has {', '.join(known)}"
            )
        if self.train.metric_mode != known[metric]:
            raise ConfigError(f"train.metric_mode must be '{known[metric]}' for train.metric '{metric}'")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnFiles:
    """A user's own files in the place of a config's data set and tokenizers.

    Attributes:
      training: Paths by what they are, see ``Task.file_overrides``.
      tokenizer: A saved tokenizer; None for the config's own.
    """

    training: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    tokenizer: str | None = None

    def overrides(self, task: TaskConfig) -> list[str]:
        """Overrides of a config with this task."""
        found = task.file_overrides(self.training) if self.training else []
        return found + (task.tokenizer_overrides(self.tokenizer) if self.tokenizer is not None else [])


def start_config(path: str, overrides: Sequence[str] = (), own: OwnFiles | None = None) -> ExperimentConfig:
    """Config of a new run.

    Args:
      path: ``*.json`` is read; any other file is Python, is executed, and its ``config()`` is called. Where there is
        none, the name of an experiment that comes with the library.
      overrides: ``path=value`` texts, see `with_overrides`.
      own: Files in the place of the config's.

    Raises:
      ConfigError: If the file or an override is wrong.
    """
    if Path(path).suffix == ".json":
        document = _saved_document(Path(path))
        config = from_document(ExperimentConfig, document, path)  # its faults are reported under its own name
    else:
        config = _config_of_script(experiment_path(path))
        document = load_document(to_json(config), path)
    given = [] if own is None else own.overrides(config.task)
    return _with_overrides(document, [*given, *overrides], path)


def saved_config(run_dir: Path) -> ExperimentConfig:
    """The config in a run folder; only read, never executed."""
    path = run_dir / CONFIG_NAME
    return from_document(ExperimentConfig, _saved_document(path), str(path))


def resume_config(run_dir: Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Config of a run that is resumed.

    Raises:
      RunError: If the folder holds no run.
      ConfigError: If an override would change what the run's checkpoint was made with.
    """
    path = run_dir / CONFIG_NAME
    if not path.is_file():
        advice = (
            "start again with `overwrite=True`" if holds_any(run_dir, run_entries()) else "leave `resume` out"
        )
        raise RunError(f"{run_dir} holds no run to resume ('{CONFIG_NAME}' is missing): {advice}")
    document = _saved_document(path)
    from_document(ExperimentConfig, document, str(path))
    for override in overrides:
        if not _whole_path(override).startswith(RESUMABLE):
            raise ConfigError(
                f"`overrides={override}`: cannot change when a run is resumed; these can: {', '.join(RESUMABLE)}"
            )
    return _with_overrides(document, overrides, str(path))


def resume_notes(config: ExperimentConfig, run_dir: Path) -> list[str]:
    """Remarks on what a resumed run's config changes.

    Args:
      config: To resume with.
      run_dir: The run folder, with the config of before.
    """
    before, schedule = saved_config(run_dir).train.updates, config.train.schedule
    if config.train.updates == before or schedule.kind not in ("cosine", "linear"):
        return []
    return [
        f"the {schedule.kind} schedule is stretched from {before:,} to {config.train.updates:,} updates: the learning "
        "rate jumps where the run is resumed"
    ]


def require_resumable(saved: ExperimentConfig, wanted: ExperimentConfig, run_dir: Path) -> ExperimentConfig:
    """The config to resume a run with, where a caller gives a whole one.

    Args:
      saved: The run's own.
      wanted: What the caller gives.
      run_dir: The run folder, for messages.

    Raises:
      ConfigError: If it differs from the run's in what may not change.
    """
    before, after = (
        config_leaves(dataclasses.replace(one, task=one.task.with_absolute_paths()))
        for one in (saved, wanted)
    )
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path) and not path.startswith(RESUMABLE) and path != "name":
            raise ConfigError(
                f"{run_dir}: {path} cannot change when a run is resumed: it was {before.get(path)!r}, now it is "
                f"{after.get(path)!r}; these can: {', '.join(RESUMABLE)}"
            )
    return wanted


def config_leaves(config: ExperimentConfig) -> dict[str, Any]:
    """All values of a config by their dotted path, to compare two configs by."""
    return _leaves(json.loads(to_json(config)))


def _leaves(document: Any, path: str = "") -> dict[str, Any]:
    """Values of a document by their dotted path."""
    if not isinstance(document, dict):
        return {path: document}
    found: dict[str, Any] = {}
    for name, value in document.items():
        found |= _leaves(value, f"{path}.{name}" if path else name)
    return found


def with_overrides(config: ExperimentConfig, overrides: Sequence[str]) -> ExperimentConfig:
    """A config with some values replaced, such as ``"train.updates=200"``.

    A path may leave ``task.`` out: ``data.batch_size=64`` is ``task.data.batch_size=64``.

    Raises:
      ConfigError: If a path names no field, or a value does not fit.
    """
    return _with_overrides(load_document(to_json(config)), overrides, "config")


def _with_overrides(document: dict, overrides: Sequence[str], path: str) -> ExperimentConfig:
    where = "`overrides`" if overrides else path
    whole = [_whole_path(override) for override in overrides]
    for override in overrides:
        _check_not_moved(override)
    return from_document(ExperimentConfig, apply_overrides(ExperimentConfig, document, whole), where)


def _whole_path(override: str) -> str:
    """An override whose path may begin inside of the task, with its whole path."""
    first = override.strip().partition("=")[0].partition(".")[0].strip()
    is_of_task = first in task_fields() and first not in ExperimentConfig.__dataclass_fields__
    return f"task.{override.strip()}" if is_of_task else override.strip()


def _check_not_moved(override: str) -> None:
    """Raise ``ConfigError`` for a path of format 1 that has another name since."""
    path = override.strip().partition("=")[0].strip()
    name = path.removeprefix("train.")
    if path != name and name in OBJECTIVE_OPTIONS:
        raise ConfigError(f"{path} is objective.{name} since format 2 of the config: set that")


def _saved_document(path: Path) -> dict:
    return upgrade_document(load_document(read_text(path), str(path)), str(path))


def _config_of_script(path: Path) -> ExperimentConfig:
    """Execute an experiment file, because the user named it, and call its ``config()``."""
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; wanted an experiment (*.py) or a saved config (*.json)")
    source = read_text(path)
    if "\0" in source:
        raise ConfigError(f"{path}: a binary file; wanted an experiment (*.py) or a saved config (*.json)")
    try:
        with _modules_beside(path):
            function = runpy.run_path(str(path), run_name=path.stem).get("config")
            if not callable(function):
                raise ConfigError(f"{path}: has no function config() that returns an ExperimentConfig")
            config = function()
    except TransformerJaxError as error:
        raise ConfigError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None
    except SyntaxError as error:
        raise ConfigError(f"{path}: line {error.lineno}: not Python: {error.msg}") from None
    except SystemExit as stop:
        raise ConfigError(f"{path}: {_line_in(path)}stopped the program ({stop})") from None
    except Exception as error:
        raise ConfigError(f"{path}: {_line_in(path)}{type(error).__name__}: {error}") from None
    if not isinstance(config, ExperimentConfig):
        raise ConfigError(f"{path}: config() returned {type(config).__name__}, wanted ExperimentConfig")
    return config


@contextlib.contextmanager
def _modules_beside(path: Path) -> Iterator[None]:
    """Let a script import the modules of its folder, as Python does for scripts; another script finds its own."""
    folder, before = str(path.parent.resolve()), set(sys.modules)
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)
        own = {name for name in sys.modules.keys() - before if "." not in name and _is_of(folder, name)}
        for name in [name for name in sys.modules if name.partition(".")[0] in own]:
            del sys.modules[name]


def _is_of(folder: str, module: str) -> bool:
    """Whether an imported module is a file or package of ``folder`` itself."""
    found = importlib.machinery.PathFinder.find_spec(module, [folder])
    return found is not None and found.origin == getattr(sys.modules[module], "__file__", None)


def _line_in(path: Path) -> str:
    """``"line 12: "``: the innermost line of the user's file in the exception that is being handled."""
    traceback, found = sys.exc_info()[2], ""
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == str(path):
            found = f"line {traceback.tb_lineno}: "
        traceback = traceback.tb_next
    return found
