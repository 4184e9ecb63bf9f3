"""Configs that earlier versions saved, brought to the present form.

Format 1 had no number. It kept the options of the objective among those of training.
"""

from typing import Any

OBJECTIVE_OPTIONS = (
    "label_smoothing",
    "scheduled_sampling_rate",
    "scheduled_sampling_updates",
    "r_drop_weight",
)
"""What stood under ``train`` in format 1 and stands under ``objective`` now."""


def upgrade_document(document: dict[str, Any]) -> dict[str, Any]:
    """A saved config's plain values in the present form; what is in that form already stays as it is.

    Args:
      document: As `config_json.load_document` returns it; not changed.

    Returns:
      The values, still to be checked by `config_json.from_document`.

    Example:
      >>> upgrade_document({"train": {"updates": 3, "label_smoothing": 0.1}})
      {'train': {'updates': 3}, 'objective': {'kind': 'cross_entropy', 'label_smoothing': 0.1}}
    """
    train = document.get("train")
    if "objective" in document or not isinstance(train, dict):
        return document
    moved = {name: train[name] for name in OBJECTIVE_OPTIONS if name in train}
    if not moved:
        return document
    kept = {name: value for name, value in train.items() if name not in moved}
    return document | {"train": kept, "objective": {"kind": "cross_entropy", **moved}}
