"""The functions that the package's own name offers: load a run or a model that comes with the library, train one."""

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformer_jax.errors import ConfigError, RunError, nearest_hint
from transformer_jax.notes import listening, print_note
from transformer_jax.runs.ensemble import load_ensemble
from transformer_jax.runs.experiment import (
    ExperimentConfig,
    require_resumable,
    resume_config,
    start_config,
    with_overrides,
)
from transformer_jax.runs.experiment_runner import RunOptions, run_experiment
from transformer_jax.runs.folder import run_entries
from transformer_jax.runs.given_data import remove_other_data, with_given_data
from transformer_jax.runs.loading import LoadedRun, load_run
from transformer_jax.runs.model_folder import pretrained_folder, pretrained_names
from transformer_jax.runs.vector_start import start_of
from transformer_jax.training.run_folder import check_run_folder

__all__ = ["load", "load_pretrained", "pretrained_names", "train"]


def load(folder: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> LoadedRun:
    """Load a trained run, or an exported model folder, or several that translate together.

    Args:
      folder: The folder; or a list of folders of runs on pairs of lines with the same tokenizers, whose probabilities
        are averaged at each step.

    Returns:
      The run: ``translate``, ``score`` and ``align`` of a run on pairs of lines, ``generate`` and ``score`` of a
      language model, ``classify`` of a classifier, ``tag`` of a tagger, ``fill`` and ``embed`` of a masked language
      model, ``embed``, ``nearest`` and ``analogy`` of word vectors, ``caption`` and ``attend`` of a captioner,
      ``transcribe`` and ``align`` of a transcriber, and ``evaluate`` of all.

    Raises:
      RunError: If the folder holds no trained run.
      ConfigError: If its config is damaged, or of a task or model that this version does not know; if several runs do
        not go together.
    """
    if isinstance(folder, str | os.PathLike):
        return load_run(_folder(folder))
    return load_ensemble([_folder(one) for one in folder])


def load_pretrained(name: str) -> LoadedRun:
    """Load a model that comes with the library.

    Args:
      name: One of `pretrained_names`.

    Raises:
      ConfigError: If there is none of this name.

    Example:
      >>> load_pretrained("g2p-en").translate(["attention"])[0].text
      'AH T EH N SH AH N'
    """
    return load_run(pretrained_folder(name))


def train(
    config: ExperimentConfig | str | os.PathLike[str] | None,
    run_dir: str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    data: Any = None,
    **options: Any,
) -> LoadedRun:
    """Train a model and keep everything in a run folder; progress is shown in a terminal or a notebook.

    Args:
      config: The experiment, or the path of a file: ``*.json`` is read, any other is Python with a function
        ``config()``; None where a run is resumed, whose own config is read.
      run_dir: Run folder.
      overrides: ``path=value`` texts that change the config, such as ``"train.updates=200"``.
      data: Examples in memory in place of the config's data set, an iterable for training, or a mapping of the parts
        ``"train"``, ``"development"`` and ``"test"``: pairs ``(source, target)`` of lines, texts of a language model,
        ``(text, label)`` of a classifier, ``(words, labels)`` of a tagger. They are kept in the run folder.
      options: Of `RunOptions`: ``resume``, ``overwrite``, ``quiet``, ``strict_compile``, ``allow_inexact``,
        ``allow_other_data``, ``label``, and ``start``: another run, or its folder, to begin from, or a file of word
        vectors in word2vec's text or binary format for the input embeddings.

    Returns:
      The trained run, with the parameters of its best checkpoint.

    Raises:
      RunError: If the folder does not fit ``resume`` and ``overwrite``.
      ConfigError: If the config, an override or the name of an option is wrong.
      DataError: If the data cannot be read, or an example has another form than the task's.
    """
    known = [field.name for field in dataclasses.fields(RunOptions)]
    for name in options:
        if name not in known:
            raise ConfigError(
                f"train has no option '{name}'{nearest_hint(name, known)}; it has {', '.join(known)}"
            )
    folder = _folder(run_dir)
    if isinstance(options.get("start"), str | os.PathLike):
        options["start"] = start_of(_folder(options["start"]))
    wanted_run = RunOptions(**options)
    if isinstance(config, ExperimentConfig):
        config = with_overrides(config, overrides) if overrides else config
    elif config is not None:
        config = start_config(os.fspath(config), overrides)
    if data is not None:
        if config is None:
            raise ConfigError(
                "the config is missing: data in memory take the place of the data set of an experiment"
            )
        check_run_folder(
            folder, resume=wanted_run.resume, overwrite=wanted_run.overwrite, entries=run_entries()
        )
        given = with_given_data(config.task.data, data, folder.absolute(), resumes=wanted_run.resumes)
        config = dataclasses.replace(config, task=dataclasses.replace(config.task, data=given))
    if wanted_run.resumes:
        wanted, config = config, resume_config(folder, overrides if config is None else ())
        if wanted is not None:
            config = require_resumable(config, wanted, folder)
    if config is None:
        raise ConfigError("the config is missing: give an experiment or its file, or `resume=True`")
    with contextlib.nullcontext() if wanted_run.quiet else listening(print_note):
        run_experiment(config, folder, wanted_run)
    if data is not None:
        remove_other_data(folder.absolute(), config.task.data)
    return load_run(folder)


def _folder(name: str | os.PathLike[str]) -> Path:
    """A folder that a caller names.

    Raises:
      RunError: If the name is empty.
    """
    if not os.fspath(name):
        raise RunError("the folder's name is empty: name the folder of a run")
    return Path(name).expanduser()
