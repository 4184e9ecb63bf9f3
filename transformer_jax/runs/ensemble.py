"""Several runs that translate together."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from transformer_jax.errors import ConfigError
from transformer_jax.inference.translator import Translator
from transformer_jax.models.ensemble import Ensemble, EnsembleLimits
from transformer_jax.runs.artifacts import artifact_fingerprints
from transformer_jax.runs.loading import LoadedRun, load_run

__all__ = ["load_ensemble"]


def load_ensemble(folders: Sequence[Path]) -> LoadedRun:
    """Load runs on pairs of lines as one: at each step the mean of their probabilities.

    Args:
      folders: Run folders or model folders, at least one; the first one's config says how to search.

    Returns:
      The first run with the model of all; it translates and scores, and has no attention of its own. A single folder is
      loaded as it is.

    Raises:
      RunError: If a folder holds no trained run.
      ConfigError: If there is no folder, or the runs are for other tasks than pairs of lines or have other
        tokenizers than the first.
    """
    if not folders:
        raise ConfigError("an ensemble needs at least one run")
    runs = [load_run(folder) for folder in folders]
    first = runs[0]
    if len(runs) == 1:
        return first
    wanted = artifact_fingerprints(first.artifacts)
    for run in runs:
        if not isinstance(run.predictor, Translator) or run.predictor.data.copies_unknown:
            what = (
                "copies words of its source"
                if isinstance(run.predictor, Translator)
                else "does not translate"
            )
            raise ConfigError(
                f"{run.folder} {what}: an ensemble is of runs on pairs of lines without a pointer"
            )
        if run.config.task.kind != first.config.task.kind:
            raise ConfigError(
                f"{run.folder} is for {run.config.task.kind}, {first.folder} for {first.config.task.kind}"
            )
        differing = [
            name for name, found in artifact_fingerprints(run.artifacts).items() if found != wanted[name]
        ]
        if differing:
            raise ConfigError(
                f"{run.folder} has another {differing[0].removesuffix(chr(39) + 's fingerprint')} than {first.folder}: "
                "an ensemble needs one vocabulary; train the runs with one `tokenizer`"
            )
    model = Ensemble([run.model for run in runs])
    limits = EnsembleLimits.of([run.config.model for run in runs])
    name = " + ".join(run.config.name for run in runs)
    predictor = first.config.task.predictor(model, first.artifacts, model_config=limits, name=name)
    return dataclasses.replace(first, model=model, predictor=predictor)
