"""The checkpoints of a running training, in a folder that others may change, too."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from transformer_jax.errors import RunError
from transformer_jax.training import hosts
from transformer_jax.training.background import BackgroundSaver
from transformer_jax.training.checkpoint import CheckpointInfo, CheckpointStore
from transformer_jax.training.folder_lock import LOCK_NAME, renew_lock
from transformer_jax.training.state import TrainState


class RunSaver(BackgroundSaver):
    """Saves in the background, and reports files that somebody else has removed from the run folder.

    Args:
      run_dir: The run folder.
      store: Its checkpoints.
      on_failure: What a save that failed does, see `BackgroundSaver`.
      tell: Called with what a person should know.
    """

    def __init__(
        self,
        run_dir: Path,
        store: CheckpointStore,
        *,
        on_failure: Literal["stop", "go_on"],
        tell: Callable[[str], None],
    ) -> None:
        super().__init__(store, on_failure=on_failure, tell=tell)
        self._run_dir = run_dir

    def save(self, state: TrainState, info: CheckpointInfo) -> None:
        """Have a checkpoint written.

        Raises:
          RunError: If the run folder has vanished, or the save before failed and that stops the run.
        """
        self.wait()
        if not self._run_dir.is_dir():  # a new one would lack the config and the log
            raise RunError(
                f"{self._run_dir} has vanished: the checkpoint of update {info.update} cannot be written"
            )
        self._say_removed()
        super().save(state, info)

    def keep_last(self, state: TrainState, info: CheckpointInfo) -> None:
        """Write the last checkpoint again if somebody has removed it: what the run ends with would be lost.

        Args:
          state: What the run ends with.
          info: Its metadata, for hosts that have not written the checkpoint.
        """
        self.wait()
        if hosts.decided_by_first(lambda: self._run_dir.is_dir() and info.update in self._say_removed()):
            is_mine = hosts.is_first()  # the others only give their parts of the arrays
            self.save(state, self._store.info(info.update) if is_mine else info)

    def is_among_best(self, score: float | None, metric_mode: Literal["min", "max"]) -> bool:
        """Whether a checkpoint of this score would be kept as one of the best."""
        if score is None:
            return False
        self.wait()
        return hosts.decided_by_first(lambda: self._store.is_among_best(score, metric_mode))

    def _say_removed(self) -> list[int]:
        """Tell of checkpoints, and of the lock, that somebody removed since the last save."""
        if not hosts.is_first():
            return []
        if renew_lock(self._run_dir):
            self._tell(f"{self._run_dir / LOCK_NAME} was removed by somebody else: it is restored")
        gone = self._store.removed_by_others()
        if gone:
            shown = ", ".join(str(update) for update in gone)
            self._tell(f"{self._run_dir}: checkpoints were removed by somebody else, of update {shown}")
        return gone
