"""A trained run, read back from its folder alone."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformer_jax.errors import ConfigError
from transformer_jax.runs.artifacts import load_artifacts, require_fingerprints
from transformer_jax.runs.building import shapes_from
from transformer_jax.runs.experiment import ExperimentConfig, saved_config
from transformer_jax.runs.folder import CONFIG_NAME, require_file, require_run
from transformer_jax.tasks.task import Artifacts, evaluation_options
from transformer_jax.training.stored_models import load_model
from transformer_jax.training.weights_file import read_weights, weight_shapes

WEIGHTS_NAME = "model.safetensors"
"""Makes a folder a model folder, see `transformer_jax.runs.model_folder`."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LoadedRun:
    """A trained run, read back from its folder alone.

    Attributes:
      config: The run's config.
      model: The model with the parameters of the run's best checkpoint.
      artifacts: Tokenizers and the like.
      predictor: What the run's task predicts with; its methods (``translate``, ``score``, ``align``, ``generate``)
        can be called on the run itself.
      folder: Where it was read from.
    """

    config: ExperimentConfig
    model: Any
    artifacts: Artifacts
    predictor: Any
    folder: Path

    def evaluate(self, split: str | None = None, **options: Any) -> dict[str, Any]:
        """Score the run.

        Args:
          split: Part of its own data, ``"development"`` or ``"test"``; None where the options name files.
          options: Of the task's evaluation, such as ``source`` and ``reference`` for pairs of lines; ``against`` is
            another run, or its folder.

        Returns:
          Scores by name; ``"text"`` and ``"remarks"`` are lines for people.

        Raises:
          ConfigError: If the task has no such option, or the two runs are for different tasks.
        """
        task = self.config.task
        given = {name: value for name, value in {"split": split, **options}.items() if value is not None}
        if "against" in given:
            given["against"] = self._comparable(given["against"])
        return task.evaluate(self.predictor, evaluation_options(task, given))

    def _comparable(self, other: Any) -> tuple[str, Any]:
        run = other if isinstance(other, LoadedRun) else load_run(Path(other))
        if run.config.task.kind != self.config.task.kind:
            raise ConfigError(
                f"{run.folder} is for {run.config.task.kind}, {self.folder} for {self.config.task.kind}"
            )
        return str(run.folder), run.predictor

    def __repr__(self) -> str:
        return f"LoadedRun({self.config.name!r}, task {self.config.task.kind!r}, folder {str(self.folder)!r})"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "predictor" not in self.__dict__:
            raise AttributeError(name)
        if name in self._verbs():
            return getattr(self.predictor, name)
        offered = ", ".join([*self._verbs(), "evaluate"])
        raise AttributeError(f"a run of task '{self.config.task.kind}' has no '{name}'; it has {offered}")

    def _verbs(self) -> tuple[str, ...]:
        return tuple(getattr(self.predictor, "verbs", ()))

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._verbs()})


def load_run(run_dir: Path) -> LoadedRun:
    """Read a run folder or a model folder; only JSON and arrays are read, nothing in it is executed.

    Raises:
      RunError: If the folder holds neither, or no checkpoint, or its artifacts are not those of the training.
      ConfigError: If its config is damaged, or of a task or model that this version does not know.
    """
    is_model_folder = (run_dir / WEIGHTS_NAME).is_file()
    if is_model_folder:
        require_file(run_dir, CONFIG_NAME)
    else:
        require_run(run_dir)
    config = saved_config(run_dir)
    artifacts = load_artifacts(run_dir, config.task.artifact_types)

    def shapes(stored: Mapping[str, Any]) -> Any:
        return shapes_from(config, artifacts, num_arrays=len(stored), where=run_dir)

    if is_model_folder:
        model = shapes(weight_shapes(run_dir / WEIGHTS_NAME))
        said: Mapping[str, Any] = read_weights(run_dir / WEIGHTS_NAME, model)
    else:
        model, info = load_model(run_dir, "best", build=shapes)
        said = info.extra
    require_fingerprints(run_dir, artifacts, said)
    predictor = config.task.predictor(model, artifacts, model_config=config.model, name=config.name)
    return LoadedRun(config=config, model=model, artifacts=artifacts, predictor=predictor, folder=run_dir)
