"""What an experiment is: data, model, training and search in one value, from a Python file or from JSON."""

import contextlib
import dataclasses
import importlib.machinery
import runpy
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from transformer_jax.config_json import apply_overrides, from_document, load_document, to_json
from transformer_jax.data.batches import PAD_ID
from transformer_jax.data.pairs_config import PairsConfig
from transformer_jax.decode.searcher import BeamConfig, GreedyConfig
from transformer_jax.errors import ConfigError, RunError, TransformerJaxError, nearest_hint
from transformer_jax.files import read_text
from transformer_jax.models.build import ModelConfig
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.runs.config_formats import upgrade_document
from transformer_jax.runs.folder import CONFIG_NAME, RUN_ENTRIES
from transformer_jax.tasks.pair_metrics import METRICS
from transformer_jax.train.config import TrainConfig
from transformer_jax.train.run_folder import holds_any

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
    "search.",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """One run, whole: with the data's files it says everything that the run folder's contents follow from.

    Args:
      name: What to call it in progress and reports.
      task: Says which scores are taken: error rates of phonemes and words, or BLEU and chrF.
      data: Data set, tokenizers and batches.
      model: Model and its sizes.
      train: Optimiser, schedule and lengths.
      objective: Loss that an update minimises.
      search: How outputs are found, in evaluation on the development set too (a beam search is replaced by
        greedy search there, for speed).
    """

    name: str
    task: Literal["pronunciation", "translation"]
    data: PairsConfig
    model: ModelConfig
    train: TrainConfig
    search: GreedyConfig | BeamConfig
    objective: PairCrossEntropy = dataclasses.field(default_factory=PairCrossEntropy)

    def __post_init__(self) -> None:
        padding_id = getattr(self.model, "padding_id", PAD_ID)
        if padding_id != PAD_ID:
            raise ConfigError(f"model.padding_id must be {PAD_ID}, which the data pad with; got {padding_id}")
        if self.data.packing is not None and getattr(self.model, "decoder_self_attention", None) != "softmax":
            raise ConfigError(
                "data.packing puts several pairs into a row, which only a Transformer with softmax attention keeps "
                f"apart; the model is '{self.model.kind}': set data.packing to null"
            )
        known, metric = METRICS[self.task], self.train.metric
        if metric not in known:
            raise ConfigError(f"train.metric is '{metric}', but task '{self.task}' has {', '.join(known)}")
        if self.train.metric_mode != known[metric]:
            raise ConfigError(f"train.metric_mode must be '{known[metric]}' for train.metric '{metric}'")


def start_config(path: str, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Config of a new run.

    Args:
      path: ``*.json`` is read; any other file is Python, is executed, and its ``config()`` is called.
      overrides: ``path=value`` texts, see `apply_overrides`.

    Raises:
      ConfigError: If the file or an override is wrong.
    """
    if Path(path).suffix == ".json":
        document = upgrade_document(load_document(read_text(Path(path)), path))
        from_document(ExperimentConfig, document, path)  # its faults are reported under its own name
    else:
        document = load_document(to_json(_config_of_script(Path(path))), path)
    return _with_overrides(document, overrides, path)


def saved_config(run_dir: Path) -> ExperimentConfig:
    """The config in a run folder; only read, never executed."""
    path = run_dir / CONFIG_NAME
    document = upgrade_document(load_document(read_text(path), str(path)))
    return from_document(ExperimentConfig, document, str(path))


def resume_config(run_dir: Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Config of a run that goes on.

    Raises:
      RunError: If the folder holds no run.
      ConfigError: If an override would change what the run's checkpoint was made with.
    """
    path = run_dir / CONFIG_NAME
    if not path.is_file():
        advice = "start again with --overwrite" if holds_any(run_dir, RUN_ENTRIES) else "leave --resume out"
        raise RunError(f"{run_dir} holds no run to resume ('{CONFIG_NAME}' is missing): {advice}")
    for override in overrides:
        if not override.strip().startswith(RESUMABLE):
            raise ConfigError(
                f"--set {override}: cannot change when a run is resumed; these can: {', '.join(RESUMABLE)}"
            )
    document = upgrade_document(load_document(read_text(path), str(path)))
    from_document(ExperimentConfig, document, str(path))
    return _with_overrides(document, overrides, str(path))


def _with_overrides(document: dict, overrides: Sequence[str], path: str) -> ExperimentConfig:
    where = "--set" if overrides else path
    return from_document(ExperimentConfig, apply_overrides(ExperimentConfig, document, overrides), where)


def _config_of_script(path: Path) -> ExperimentConfig:
    """Execute an experiment file, because the user named it, and call its ``config()``."""
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; wanted an experiment (*.py) or a saved config (*.json)")
    if not path.is_file():
        near = [other.name for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise ConfigError(f"{path}: no such file{nearest_hint(path.name, near)}")
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
