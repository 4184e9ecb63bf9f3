"""Artifacts of a task as files: tokenizers and the like beside a run's checkpoints or a model's weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformer_jax.errors import RunError
from transformer_jax.runs.folder import require_file
from transformer_jax.tasks.task import Artifacts

SHARED_TOKENIZER = "tokenizer"
"""Name of the one file that a model folder has for a source and a target tokenizer that are the same."""


def artifact_file(name: str) -> str:
    """Name of an artifact's file.

    Example:
      >>> artifact_file("source_tokenizer")
      'source_tokenizer.json'
    """
    return f"{name}.json"


def save_artifacts(folder: Path, artifacts: Artifacts) -> list[str]:
    """Write every artifact to its file; returns the names of the files."""
    for name, artifact in artifacts.items():
        artifact.save(folder / artifact_file(name))
    return [artifact_file(name) for name in artifacts]


def save_compact(folder: Path, artifacts: Artifacts) -> list[str]:
    """The same for a model folder, where tokenizers of source and target that are equal become one file."""
    fingerprints = {artifact.fingerprint() for artifact in artifacts.values()}
    if _may_share(artifacts) and len(fingerprints) == 1:
        return save_artifacts(folder, {SHARED_TOKENIZER: next(iter(artifacts.values()))})
    return save_artifacts(folder, artifacts)


def load_artifacts(folder: Path, types: Mapping[str, Any]) -> dict[str, Any]:
    """Read a task's artifacts from a run folder or model folder.

    Args:
      folder: The folder.
      types: Class of each artifact by its name.

    Raises:
      RunError: If a file is missing.
    """
    shared = _may_share(types) and (folder / artifact_file(SHARED_TOKENIZER)).is_file()
    found = {}
    for name, kind in types.items():
        file = artifact_file(SHARED_TOKENIZER if shared else name)
        require_file(folder, file)
        found[name] = kind.load(folder / file)
    return found


def _may_share(names: Mapping[str, Any]) -> bool:
    """Whether the artifacts of these names are several tokenizers, which one file may stand for."""
    return len(names) > 1 and all(name.endswith(f"_{SHARED_TOKENIZER}") for name in names)


def artifact_fingerprints(artifacts: Artifacts) -> dict[str, str]:
    """Fingerprints as checkpoints and model folders keep them, by a name for people.

    Example:
      >>> from transformer_jax.data.tokenizers import train_character_tokenizer
      >>> list(artifact_fingerprints({"source_tokenizer": train_character_tokenizer(["ab"])}))
      ["source tokenizer's fingerprint"]
    """
    return {
        f"{name.replace('_', ' ')}'s fingerprint": artifact.fingerprint()
        for name, artifact in artifacts.items()
    }


def require_fingerprints(folder: Path, artifacts: Artifacts, said: Mapping[str, Any]) -> None:
    """Check that a model was trained with these very artifacts.

    Args:
      folder: Where they are from.
      artifacts: As they were read.
      said: Fingerprints that the model's file says; what it does not say cannot differ.

    Raises:
      RunError: If one is another.
    """
    for name, found in artifact_fingerprints(artifacts).items():
        wanted = said.get(name, found)
        if wanted != found:
            what = name.removesuffix("'s fingerprint").split()[-1]
            raise RunError(
                f"{folder}: the model was trained with another {what}: {name} was {wanted}, the file's is {found}; "
                "bring the run's own file back"
            )
