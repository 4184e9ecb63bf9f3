"""The run that a command is given, and whether the command suits its task."""

from pathlib import Path
from typing import Any

from transformer_jax.errors import RunError
from transformer_jax.inference.text_generator import TextGenerator
from transformer_jax.inference.translator import Translator
from transformer_jax.runs.loading import LoadedRun, load_run

_COMMANDS = {Translator: "translate", TextGenerator: "generate"}
"""The command that writes with a predictor."""


def load_for(command: str, wanted: type[Any], run_dir: Path) -> LoadedRun:
    """Load a run whose predictor a command can use.

    Args:
      command: Its name.
      wanted: Class of the predictor.
      run_dir: A run folder or model folder.

    Raises:
      RunError: If the run is for another task; names the command that suits it.
    """
    run = load_run(run_dir)
    require_predictor(command, wanted, run, run_dir)
    return run


def require_predictor(command: str, wanted: type[Any], run: LoadedRun, run_dir: Path) -> None:
    """Raise ``RunError`` unless the run's predictor is of a class; says which command suits it."""
    if isinstance(run.predictor, wanted):
        return
    other = next((name for kind, name in _COMMANDS.items() if isinstance(run.predictor, kind)), None)
    advice = f": use transformer-jax {other}" if other else ""
    raise RunError(f"{run_dir} is for {run.config.task.kind}, which {command} does not do{advice}")
