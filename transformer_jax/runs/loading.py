"""A trained run, read back from its folder alone."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import RunError
from transformer_jax.inference.translator import Translator
from transformer_jax.runs.experiment import saved_config
from transformer_jax.runs.folder import (
    CONFIG_NAME,
    SOURCE_TOKENIZER_NAME,
    TARGET_TOKENIZER_NAME,
    require_file,
    require_run,
)
from transformer_jax.runs.training import ExperimentConfig, Start, shapes_from, tokenizer_fingerprints
from transformer_jax.train.checkpoint import load_model
from transformer_jax.train.weights_file import read_weights, weight_shapes

WEIGHTS_NAME = "model.safetensors"
"""Makes a folder a model folder, see `transformer_jax.runs.model_folder`."""
TOKENIZER_NAME = "tokenizer.json"
"""In a model folder, where sources and targets have one tokenizer."""


@dataclasses.dataclass
class LoadedRun:
    """A trained run, read back from its folder alone.

    Attributes:
      config: The run's config.
      model: The model with the parameters of the run's best checkpoint.
      predictor: What the run's task predicts with.
    """

    config: ExperimentConfig
    model: Any
    predictor: Translator


def start_from(run_dir: Path, *, allow_partial: bool = False) -> Start:
    """What a new run takes of another: its parameters and tokenizers.

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
        source_tokenizer=other.predictor.source_tokenizer,
        target_tokenizer=other.predictor.target_tokenizer,
        allow_partial=allow_partial,
    )


def load_run(run_dir: Path) -> LoadedRun:
    """Read a run folder or a model folder; only JSON and arrays are read, nothing in it is executed.

    Raises:
      RunError: If the folder holds neither, or no checkpoint, or its tokenizers are not those of the training.
      ConfigError: If its config is damaged.
    """
    is_model_folder = (run_dir / WEIGHTS_NAME).is_file()
    names = (SOURCE_TOKENIZER_NAME, TARGET_TOKENIZER_NAME)
    if is_model_folder:
        if (run_dir / TOKENIZER_NAME).is_file():
            names = (TOKENIZER_NAME, TOKENIZER_NAME)
        for name in (CONFIG_NAME, *names):
            require_file(run_dir, name)
    else:
        require_run(run_dir)
    config = saved_config(run_dir)
    source_tokenizer, target_tokenizer = (Tokenizer.load(run_dir / name) for name in names)

    def shapes(stored: Mapping[str, Any]) -> Any:
        return shapes_from(config, source_tokenizer, target_tokenizer, num_arrays=len(stored), where=run_dir)

    if is_model_folder:
        model = shapes(weight_shapes(run_dir / WEIGHTS_NAME))
        said: Mapping[str, Any] = read_weights(run_dir / WEIGHTS_NAME, model)
    else:
        model, info = load_model(run_dir, "best", build=shapes)
        said = info.extra
    for name, found in tokenizer_fingerprints(source_tokenizer, target_tokenizer).items():
        wanted = said.get(name, found)
        if wanted != found:
            raise RunError(
                f"{run_dir}: the model was trained with another tokenizer: {name} was {wanted}, the file's is {found}; "
                "bring the run's own file back"
            )
    translator = Translator(
        name=config.name,
        model=model,
        source_tokenizer=source_tokenizer,
        target_tokenizer=target_tokenizer,
        data=config.data,
        search=config.search,
        source_limit=getattr(config.model, "source_limit", None),
        target_limit=getattr(config.model, "target_limit", None),
    )
    return LoadedRun(config, model, translator)
