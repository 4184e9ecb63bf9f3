"""Parameters and artifacts of another run, to begin a new one from."""

import dataclasses
from pathlib import Path

from flax import nnx

from transformer_jax.errors import RunError
from transformer_jax.runs.loading import load_run
from transformer_jax.tasks.task import Artifacts
from transformer_jax.training.array_checks import require_same
from transformer_jax.training.state import split_model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """Parameters of another run for a new one, and the artifacts that they were trained with.

    Args:
      where: The other run's folder.
      model: A module with its parameters.
      artifacts: Of the other run.
      allow_partial: Whether the new model may be of another structure: arrays of the same name, shape and dtype are
        then taken, the others stay as they were initialized.
    """

    where: Path
    model: nnx.Module
    artifacts: Artifacts
    allow_partial: bool = False

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


def start_from(run_dir: Path, *, allow_partial: bool = False) -> Start:
    """Load another run's parameters and artifacts for a new run.

    Args:
      run_dir: A run folder or model folder.
      allow_partial: Whether the new run's model may be of another structure.

    Raises:
      RunError: If it cannot be read.
    """
    other = load_run(run_dir)
    return Start(where=run_dir, model=other.model, artifacts=other.artifacts, allow_partial=allow_partial)
