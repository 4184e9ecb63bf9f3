"""A run folder and its files, each either whole or not there.

::

    config.json             the ExperimentConfig, all that a resumed run reads
    *_tokenizer.json        and other artifacts of the task, a file each
    run.lock                versions, device, flags and data that the run's bits follow from
    checkpoints/            written by the trainer (orbax)
    metrics.jsonl           one record a line; the TensorBoard log stands in tensorboard/
    result.json             the scores, once training has ended
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformer_jax.config_json import load_document
from transformer_jax.errors import RunError, nearest_hint
from transformer_jax.files import read_text, write_whole
from transformer_jax.notes import note
from transformer_jax.tasks.union import artifact_names
from transformer_jax.training.checkpoint import FOLDER
from transformer_jax.training.metrics import Row
from transformer_jax.training.run_folder import TRAINER_ENTRIES
from transformer_jax.training.stopping import Stopped
from transformer_jax.training.trackers import Tracker

CONFIG_NAME = "config.json"
RESULT_NAME = "result.json"
RUN_LOCK_NAME = "run.lock"


def run_entries() -> tuple[str, ...]:
    """Entries of a run in its folder; any of them shows that there is one, and overwriting removes them all.

    The config goes first: what an interrupted removal leaves can be removed again, but not taken for a whole run.

    Example:
      >>> run_entries()[0]
      'config.json'
    """
    artifacts = (f"{name}.json" for name in artifact_names())
    return (CONFIG_NAME, *artifacts, RESULT_NAME, RUN_LOCK_NAME, *TRAINER_ENTRIES, "figures")


def read_result(run_dir: Path) -> dict[str, Any] | None:
    """Contents of ``result.json`` of a run whose training has ended; None where it has not."""
    path = run_dir / RESULT_NAME
    return load_document(read_text(path), str(path)) if path.is_file() else None


def require_config(run_dir: Path) -> None:
    """Check that ``run_dir`` holds a run's config.

    Raises:
      RunError: If the folder or its config is missing, or it is a file.
    """
    if run_dir.is_file():
        raise RunError(f"{run_dir} is a file: name the folder of a run, or of an exported model, first")
    if not run_dir.is_dir():
        beside = (
            [path.name for path in run_dir.parent.iterdir() if path.is_dir()]
            if run_dir.parent.is_dir()
            else []
        )
        raise RunError(f"{run_dir}: no such run folder{nearest_hint(run_dir.name, beside)}")
    require_file(run_dir, CONFIG_NAME)


def require_run(run_dir: Path) -> None:
    """Check that ``run_dir`` holds a run with a checkpoint.

    Raises:
      RunError: If the folder, its config or its checkpoints are missing.
    """
    require_config(run_dir)
    checkpoints = run_dir / FOLDER
    if not checkpoints.is_dir() or not any(checkpoints.iterdir()):
        raise RunError(f"{run_dir} has no checkpoint yet: continue its training with `resume=True`")


def require_file(run_dir: Path, name: str) -> None:
    """Check that a file of a run is there.

    Raises:
      RunError: If it is not.
    """
    if not (run_dir / name).is_file():
        raise RunError(f"{run_dir} holds no run: '{name}' is missing")


class KeptFiles:
    """Files of a run that are restored if they are removed during training; a tracker that checks at each row.

    Args:
      run_dir: The run folder.
      then: Another tracker, which gets the rows, too.
    """

    def __init__(self, run_dir: Path, then: Tracker | None = None) -> None:
        self._run_dir, self._then = run_dir, then
        self._contents: dict[str, bytes] = {}

    def keep(self, *names: str) -> None:
        """Remember what files hold now."""
        self._contents |= {name: (self._run_dir / name).read_bytes() for name in names}

    def restore(self) -> None:
        """Write those that have gone again, and say so on standard error; a run folder that has gone is left so."""
        for name, content in self._contents.items():
            path = self._run_dir / name
            if not path.exists() and self._run_dir.is_dir():
                write_whole(path, content.decode())
                note(f"note: {path} was removed by somebody else: it is restored")

    def write(self, row: Row) -> None:
        """Look at the files, then hand the row on."""
        self.restore()
        if self._then is not None:
            self._then.write(row)

    def close(self) -> None:
        """Nothing is open here."""


@contextlib.contextmanager
def interruptible(hint: str) -> Iterator[None]:
    """Give a Ctrl-C or SIGTERM inside the block one line that says how to resume."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if isinstance(interrupt, Stopped):  # it knows which signal that was
            raise Stopped(interrupt.signal_number, hint) from None
        raise KeyboardInterrupt(hint) from None
