"""A model folder: a trained model to be passed on, a few megabytes, read like a run by all that comes after training.

::

    config.json          the run's ExperimentConfig
    tokenizer.json       or source_tokenizer.json and target_tokenizer.json where they are two
    model.safetensors    the parameters in half precision
    result.json          updates, seconds and machine of the training
    MODEL_CARD.md        what it is, what it was trained on and how, its scores

Some come with the library: `pretrained_folder` finds them by name.
"""

import contextlib
import shlex
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from transformer_jax.environment import environment_table
from transformer_jax.errors import ConfigError, DataError, RunError, nearest_hint
from transformer_jax.files import write_json, write_whole
from transformer_jax.runs.artifacts import (
    SHARED_TOKENIZER,
    artifact_file,
    artifact_fingerprints,
    save_compact,
)
from transformer_jax.runs.config_formats import config_text
from transformer_jax.runs.experiment import ExperimentConfig, saved_config
from transformer_jax.runs.folder import (
    CONFIG_NAME,
    RESULT_NAME,
    run_entries,
)
from transformer_jax.runs.loading import WEIGHTS_NAME, LoadedRun, load_run
from transformer_jax.runs.record import training_record
from transformer_jax.tasks.task import evaluation_options
from transformer_jax.tasks.task_data import available_splits, describe_data
from transformer_jax.tasks.union import artifact_names
from transformer_jax.training.run_folder import holds_any
from transformer_jax.training.weights_file import write_weights

CARD_NAME = "MODEL_CARD.md"


def model_entries() -> tuple[str, ...]:
    """Names of all files that a model folder may hold.

    Example:
      >>> model_entries()[:2]
      ('config.json', 'tokenizer.json')
    """
    names = sorted({SHARED_TOKENIZER, *artifact_names()}, key=lambda name: (name != SHARED_TOKENIZER, name))
    return (CONFIG_NAME, *map(artifact_file, names), WEIGHTS_NAME, RESULT_NAME, CARD_NAME)


def pretrained_names() -> list[str]:
    """The models that come with the library."""
    root = Path(str(resources.files("transformer_jax.pretrained")))
    return sorted(path.parent.name for path in root.glob(f"*/{WEIGHTS_NAME}"))


def pretrained_folder(name: str) -> Path:
    """Folder of a model that comes with the library.

    Raises:
      ConfigError: If there is none of this name.
    """
    known = pretrained_names()
    if name not in known:
        raise ConfigError(
            f"`pretrained={name}`: no such model{nearest_hint(name, known)}; there are: {', '.join(known)}"
        )
    return Path(str(resources.files("transformer_jax.pretrained"))) / name


def chosen_folder(run_dir: Path | None, pretrained: str | None) -> Path:
    """The one folder that is meant by ``run_dir`` or by ``pretrained``.

    Raises:
      ConfigError: If both or neither are given, or no model has the name.
    """
    if (run_dir is None) == (pretrained is None):
        raise ConfigError(
            "name RUN_DIR, the folder of a run, or a model that comes with the library: `pretrained` "
            f"{' | '.join(pretrained_names())}"
        )
    if pretrained is not None:
        return pretrained_folder(pretrained)
    assert run_dir is not None
    return run_dir


def export_model(
    run_dir: Path,
    output: Path,
    *,
    about: str,
    split: Literal["development", "test"] | None = None,
    source: Path | None = None,
    reference: Path | None = None,
) -> dict[str, Any]:
    """Make a model folder from a run and score it, where there is something to score it on.

    Args:
      run_dir: The run; its best checkpoint is taken.
      output: The folder to make.
      about: A sentence for the card.
      split: Of the run's data, on which the card's scores are taken with the weights as they were written. None takes
        the test set, or else the development set; without either, or where the data cannot be had any more, the card
        says why it has no scores.
      source: Instead of a split: sources to score the model on, one a line.
      reference: What should come out for them.

    Returns:
      What `evaluate_run` says of it; without scores only ``"text"``, which says why, ``"lines"`` (0) and
      ``"environment"``.

    Raises:
      RunError: If ``run_dir`` holds no trained run, or ``output`` is a file or holds a model or a run.
      DataError: If what is named cannot be had: the split or the files.
      ConfigError: If only one of ``source`` and ``reference`` is given, or a split beside them.
    """
    if (reference is not None and source is None) or (split is not None and source is not None):
        raise ConfigError("the card's scores are taken on `source` (and `reference`), or on a `split`")
    if output.exists() and not output.is_dir():
        raise RunError(f"{output} is a file: name a folder for the model")
    if holds_any(output, (*model_entries(), *run_entries())):
        raise RunError(f"{output} already holds a model or a run: name another folder")
    scored_on = {"split": split, "source": source, "reference": reference}
    given = {name: value for name, value in scored_on.items() if value is not None}
    if given and (run_dir / CONFIG_NAME).is_file():  # refused before anything is loaded or written
        evaluation_options(saved_config(run_dir).task, given)
    run = load_run(run_dir)
    is_new = not output.exists()
    output.mkdir(parents=True, exist_ok=True)
    try:
        save_compact(output, run.artifacts)
        size = write_weights(output / WEIGHTS_NAME, run.model, artifact_fingerprints(run.artifacts))
        write_whole(output / CONFIG_NAME, config_text(run.config))
        scores, where = _scores_for_card(output, run.config, given)
        training = training_record(run_dir, run)
        if training is not None:
            write_json(output / RESULT_NAME, training)
        card = _card(output.name, about, run, training, scores, where, size)
        write_whole(output / CARD_NAME, card)
    except BaseException:
        for name in model_entries():
            (output / name).unlink(missing_ok=True)
        if is_new:
            with contextlib.suppress(OSError):  # somebody else has put something there
                output.rmdir()
        raise
    return scores


def _scores_for_card(
    folder: Path, config: ExperimentConfig, given: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    """Scores of the folder's weights as written, and on what they were taken."""
    from transformer_jax.runs.evaluation import evaluate_run

    if given:
        where = given["source"].name if "source" in given else f"the {given['split']} set"
        return evaluate_run(folder, given), where
    try:
        splits = available_splits(config.task)
    except DataError as error:
        reason = f"not scored: the run's data cannot be had ({error})"
    else:
        if splits:
            return evaluate_run(folder, {"split": splits[0]}), f"the {splits[0]} set"
        reason = "not scored: the run's data have neither a test nor a development set"
    return {"text": [reason], "lines": 0, "environment": environment_table()}, ""


def _card(
    name: str,
    about: str,
    run: LoadedRun,
    training: Mapping[str, Any] | None,
    scores: Mapping[str, Any],
    where: str,
    size: int,
) -> str:
    config = run.config
    command = next(iter(getattr(run.predictor, "verbs", ())), "translate")
    machine = scores["environment"] if training is None else training.get("machine") or scores["environment"]
    lines = [f"# {name}", "", about, "", f"- Task: {config.task.kind}"]
    lines += [f"- {line}" for line in describe_data(config.task)]
    lines += [f"- File: {size:,} bytes, half precision"]
    if training is not None:
        averaged = training.get("averaged")
        mean = f", mean of the checkpoints at updates {', '.join(map(str, averaged))}" if averaged else ""
        lines += [
            f"- Parameters: {training['parameters']:,}",
            f"- Training: {training['updates']:,} updates in {training['train_seconds']:,.0f} s at "
            f"{training['tokens_per_second']:,.0f} tokens a second{mean}",
        ]
    lines += [
        f"- Hardware: {machine['processor']}, {machine['cores']} cores, {machine['device']}; JAX {machine['jax']}",
        f"- Command: `transformer-jax train {shlex.quote(f'experiments/{config.name}.py')}`; everything that was set "
        "stands in `config.json`",
        "",
        f"Scores of these weights on {where} ({_amount(scores)}), taken for this card:"
        if where
        else "Scores: `transformer-jax evaluate` with this folder takes them on files of your own.",
        "",
        "```",
        *scores["text"],
        "```",
        "",
        f"Use: `transformer-jax {command}` with this folder in the place of a run, or `transformer_jax.load` in "
        "Python.",
    ]
    return "\n".join(lines) + "\n"


def _amount(scores: Mapping[str, Any]) -> str:
    """How much was scored."""
    return f"{scores['characters']:,} characters" if "characters" in scores else f"{scores['lines']:,} items"
