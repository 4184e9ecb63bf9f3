"""Parameters and artifacts of another run, to begin a new one from."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import nnx

from transformer_jax.errors import RunError
from transformer_jax.runs.loading import load_run
from transformer_jax.tasks.task import Artifacts
from transformer_jax.training.array_checks import require_same
from transformer_jax.training.state import split_model

ENCODER = "encoder."
"""Beginning of the names of the arrays that a model takes over from one that was trained for another task."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """Parameters of another run for a new one, and the artifacts that they were trained with.

    A model of the same kind takes all parameters. One of another kind takes the encoder's where both are heads over a
    text encoder, as a classifier over the encoder of a masked language model is; its own heads are new.

    Args:
      where: The other run's folder.
      model: A module with its parameters.
      artifacts: Of the other run.
      allow_partial: Whether the new model may be of another structure: arrays of the same name, shape and dtype are
        then taken, the others stay as they were initialized.
      task_kind: The other run's task.
    """

    where: Path
    model: nnx.Module
    artifacts: Artifacts
    allow_partial: bool = False
    task_kind: str | None = None

    def artifacts_for(self, task: Any) -> Artifacts:
        """The artifacts that a new run takes: all of them for the same task, else those that its task has too.

        Raises:
          RunError: If the other run has none of them, or one of another class: its parameters mean something else.
        """
        types: Mapping[str, Any] = task.artifact_types
        if task.kind == self.task_kind or self.task_kind is None:
            return self.artifacts
        found = {
            name: self.artifacts[name]
            for name, kind in types.items()
            if isinstance(self.artifacts.get(name), kind)
        }
        if not found:
            raise RunError(
                f"{self.where}: a run of task '{self.task_kind}' has {', '.join(self.artifacts)}, task '{task.kind}' "
                f"needs {', '.join(types)}: begin without `warm_start`"
            )
        return found

    def fill(self, model: nnx.Module, artifacts: Artifacts | None = None) -> str:
        """Give ``model`` the parameters.

        Args:
          model: The new run's.
          artifacts: The new run's, which are those of the other one.

        Returns:
          What was taken and what was not, for a person.

        Raises:
          RunError: If it is of another structure and that is not allowed, or nothing of it fits; says in what.
        """
        del artifacts
        structure, params, model_state = split_model(model)
        other, *found = split_model(self.model)
        own, arrays = (
            structure.without_carried(params | model_state),
            other.without_carried(found[0] | found[1]),
        )
        if not self.allow_partial:
            if type(model) is not type(self.model) and _encoder(own) and _encoder(arrays):
                _require_same_encoder(arrays, own, self.where)
                arrays = _encoder(arrays)
            else:
                try:
                    require_same(arrays, own, self.where)
                except RunError as error:
                    raise RunError(f"{error} (`allow_partial=True` takes what fits)") from None
        fitting = {
            name
            for name, array in own.items()
            if name in arrays and (arrays[name].shape, arrays[name].dtype) == (array.shape, array.dtype)
        }
        if not fitting:
            raise RunError(f"{self.where}: not one of its arrays fits the model: begin without `warm_start`")
        taken = {name: arrays[name] if name in fitting else array for name, array in own.items()}
        nnx.update(model, structure.state(taken, model_state | taken))
        text = f"warm start: {len(fitting)} of {len(own)} arrays are those of {self.where}"
        for what, names in (
            ("as initialized", own.keys() - fitting),
            ("not taken", arrays.keys() - fitting),
        ):
            text += f"\n  {what}: {', '.join(sorted(names))}" if names else ""
        return text


def _encoder(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of a model's text encoder."""
    return {name: array for name, array in arrays.items() if name.startswith(ENCODER)}


def _require_same_encoder(arrays: Mapping[str, Any], own: Mapping[str, Any], where: Path) -> None:
    """Raise ``RunError`` unless two models of different kinds have the same encoder; says in what it differs."""
    theirs, ours = _encoder(arrays), _encoder(own)
    for name in sorted(theirs.keys() | ours.keys()):
        if name not in theirs or name not in ours:
            has, lacks = ("the model", "it") if name not in theirs else ("it", "the model")
            raise RunError(
                f"{where}: another encoder: {has} has {name}, which {lacks} has not; give the model the encoder of "
                f"{where}/config.json"
            )
        if theirs[name].shape != ours[name].shape:
            if name.startswith("encoder.embedding.") and theirs[name].shape[1:] == ours[name].shape[1:]:
                what, advice = "another vocabulary", "take the run's tokenizer"
            else:
                what, advice = "another encoder", f"give the model the encoder of {where}/config.json"
            raise RunError(
                f"{where}: {what}: {name} is {theirs[name].shape} there and {ours[name].shape} in the model; {advice}"
            )


def start_from(run_dir: Path, *, allow_partial: bool = False) -> Start:
    """Load another run's parameters and artifacts for a new run.

    Args:
      run_dir: A run folder or model folder.
      allow_partial: Whether the new run's model may be of another structure.

    Raises:
      RunError: If it cannot be read.
    """
    other = load_run(run_dir)
    return Start(
        where=run_dir,
        model=other.model,
        artifacts=other.artifacts,
        allow_partial=allow_partial,
        task_kind=other.config.task.kind,
    )
