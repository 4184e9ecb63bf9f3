"""What a model card and a plan say of a task's data, for every task: those that hold a data set and those that do not.

A task may have ``describe_data()``, ``data_name()`` and ``splits()`` of its own, with the signatures below without the
task. For one that has not, and has a data set as ``task.data.dataset`` or several as ``task.data.datasets``, they
follow from those.
"""

from collections.abc import Sequence
from typing import Any

from transformer_jax.data.sources.registry import find_dataset

SPLITS = ("test", "development")
"""Parts that a trained model can be scored on, the one that counts more first."""


def describe_data(task: Any) -> Sequence[str]:
    """Data and licences of a task, as lines of a model card without their bullets.

    Args:
      task: The task.

    Example:
      >>> from transformer_jax.data.pairs_config import NamedDataset, PairsConfig
      >>> from transformer_jax.tasks.pronunciation import Pronunciation
      >>> lines = describe_data(Pronunciation(data=PairsConfig(dataset=NamedDataset(name="cmudict"))))
      >>> lines[0].split(":")[:2]
      ['Data', ' `cmudict`']
    """
    if hasattr(task, "describe_data"):
        return list(task.describe_data())
    found = [describe_dataset(dataset) for dataset in _datasets(task)]
    if not found:
        return describe_dataset(None)
    *before, last = found
    return [
        *(line for lines in before for line in lines if not line.startswith("Licence of the weights")),
        *last,
    ]


def describe_dataset(dataset: Any) -> list[str]:
    """Data and licences of a data set in a config, as `describe_data` gives them; files of one's own have none.

    Example:
      >>> describe_dataset(None)
      ["Data: files of one's own", 'Licence: to be filled in by who passes it on']
    """
    if getattr(dataset, "kind", None) != "named":
        return ["Data: files of one's own", "Licence: to be filled in by who passes it on"]
    entry = find_dataset(dataset.name)
    languages = [getattr(dataset, f"{side}_language", None) for side in ("source", "target")]
    direction = f", {languages[0]} to {languages[1]}" if all(languages) else ""
    return [
        f"Data: `{dataset.name}`{direction}: {entry.description} ({entry.homepage})",
        f"Licence of the data: {entry.licence}; to be cited: {entry.citation}",
        "Licence of the weights: as the data allow, otherwise Apache-2.0",
    ]


def data_name(task: Any) -> str:
    """Name of a task's data in messages; the task's own kind where the data have none."""
    if hasattr(task, "data_name"):
        return str(task.data_name())
    names = [str(getattr(one, "name", getattr(one, "kind", task.kind))) for one in _datasets(task)]
    return " + ".join(names) or str(task.kind)


def available_splits(task: Any) -> tuple[str, ...]:
    """Parts of the data that `Task.evaluate` can score a model on, of ``"test"`` and ``"development"``.

    Args:
      task: The task.

    Raises:
      DataError: If the data cannot be read.
    """
    if hasattr(task, "splits"):
        return tuple(name for name in SPLITS if name in task.splits())
    found = [dataset.load() for dataset in _datasets(task)]
    return tuple(name for name in SPLITS if any(getattr(one, name) for one in found))


def _datasets(task: Any) -> tuple[Any, ...]:
    data = getattr(task, "data", None)
    one = getattr(data, "dataset", None)
    return tuple(getattr(data, "datasets", ())) if one is None else (one,)
