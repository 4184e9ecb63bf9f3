"""The numbered formats of ``config.json``: how the present one is written, and earlier ones are read.

Format 1 had no number. Its experiments were pairs of lines only: ``task`` was a word, data and search stood beside it,
and the options of the objective among those of training. Format 2 gathers them in ``task``.
"""

import json
from typing import Any

from transformer_jax.config_json import to_json
from transformer_jax.errors import ConfigError, shortened

FORMAT = 2

OBJECTIVE_OPTIONS = (
    "label_smoothing",
    "scheduled_sampling_rate",
    "scheduled_sampling_updates",
    "r_drop_weight",
)
"""Fields under ``train`` in format 1 that are now under ``task.objective``."""

_OF_THE_TASK = ("data", "search", "objective")


def config_text(config: Any) -> str:
    """The text of ``config.json``: the config with the number of its format first."""
    return json.dumps({"format": FORMAT, **json.loads(to_json(config))}, indent=2) + "\n"


def upgrade_document(document: dict[str, Any], where: str = "config") -> dict[str, Any]:
    """A saved config's plain values in the present form, without the number of the format.

    Args:
      document: As `config_json.load_document` returns it; not changed.
      where: What to call it in messages.

    Returns:
      The values, still to be checked by `config_json.from_document`: a key that format 1 did not have stays where it
      is and is refused there.

    Raises:
      ConfigError: If it is of a later format than this version reads, or has no task.

    Example:
      >>> found = upgrade_document({"task": "translation", "train": {"updates": 3, "label_smoothing": 0.1}})
      >>> found["task"]
      {'kind': 'translation', 'objective': {'kind': 'cross_entropy', 'label_smoothing': 0.1}}
      >>> found["train"]
      {'updates': 3}
    """
    found = {name: value for name, value in document.items() if name != "format"}
    number = document.get("format", 2 if isinstance(document.get("task"), dict) else 1)
    if number == FORMAT and not isinstance(number, bool):
        return found
    if number != 1 or isinstance(number, bool):
        raise ConfigError(
            f"{where}: of format {shortened(repr(number))}; this version reads formats 1 to {FORMAT}: install a newer "
            "transformer-jax"
        )
    if "task" not in found:
        raise ConfigError(f"{where}: key 'task' is missing")
    task: dict[str, Any] = {"kind": found.pop("task")}
    task |= {name: found.pop(name) for name in _OF_THE_TASK if name in found}
    train = found.get("train")
    if isinstance(train, dict):
        moved = {name: train[name] for name in OBJECTIVE_OPTIONS if name in train}
        found["train"] = {name: value for name, value in train.items() if name not in moved}
        if moved:
            task["objective"] = {"kind": "cross_entropy", **moved}
    # In the order of the fields, for whoever reads it.
    return {
        name: {"task": task, **found}[name] for name in ("name", "task", *found) if name in {"task", *found}
    }
