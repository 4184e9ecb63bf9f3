"""The experiments that come with the library: in a wheel inside the package, in a checkout beside it."""

import ast
import functools
from pathlib import Path

import transformer_jax
from transformer_jax.errors import ConfigError, nearest_hint

__all__ = ["bundled_experiments", "experiment_path"]


@functools.cache
def bundled_experiments() -> dict[str, Path]:
    """The files of all experiments by name, sorted.

    Example:
      >>> bundled_experiments()["pronunciation_lstm"].name
      'pronunciation_lstm.py'
    """
    package = Path(transformer_jax.__file__).parent
    folders = (package / "experiments", package.parent / "experiments")
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {path.stem: path for path in sorted(folder.glob("*.py"))}


def experiment_path(named: str) -> Path:
    """The file of an experiment: the one that is named, or else one that comes with the library.

    Args:
      named: A path; or the name of an experiment, with or without ``experiments/`` and ``.py``.

    Raises:
      ConfigError: If there is neither; names the nearest.

    Example:
      >>> experiment_path("pronunciation_lstm").name
      'pronunciation_lstm.py'
    """
    path = Path(named)
    if path.exists():
        return path
    known = bundled_experiments()
    is_short = path.parent in (Path(), Path("experiments")) and path.suffix in ("", ".py")
    if is_short and path.stem in known:
        return known[path.stem]
    beside = [other.name for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
    hint = nearest_hint(path.name, beside) or (nearest_hint(path.stem, known) if is_short else "")
    raise ConfigError(f"{named}: no such file{hint}")


def summary(path: Path) -> str:
    """The first line of an experiment's description; nothing is executed."""
    described = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return described.partition("\n")[0]
