"""Checkpoints written beside the training: what is saved is copied, the files are the work of another thread."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

from transformer_jax.errors import RunError
from transformer_jax.training.checkpoint import CheckpointInfo, CheckpointStore
from transformer_jax.training.hosts import is_first
from transformer_jax.training.state import TrainState


class BackgroundSaver:
    """Saves one checkpoint at a time; the next save, and whoever wants to look at the store, waits for it.

    Copying costs one pass over the state; writing, hashing and syncing its files happen during the next updates.

    Args:
      store: Where to. While a save is under way nobody else may use it: call `wait` first.
      on_failure: ``"stop"``: a save that failed is raised at the next `save` or `wait`; ``"go_on"``: it is only told,
        unless it was the last (see `close`).
      tell: Called with a failure that does not end the run.
    """

    def __init__(
        self,
        store: CheckpointStore,
        *,
        on_failure: Literal["stop", "go_on"],
        tell: Callable[[str], None],
    ) -> None:
        self._store, self._on_failure, self._tell = store, on_failure, tell
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._failed: RunError | None = None

    def save(self, state: TrainState, info: CheckpointInfo) -> None:
        """Copy the state's arrays to the host and have them written, by the first host where there are several.

        Raises:
          RunError: If the save before failed, and that stops the run.
        """
        self.wait()
        snapshot = self._store.snapshot(state)
        if is_first():
            self._pending = self._executor.submit(self._store.save, snapshot, info)

    def wait(self) -> None:
        """Until nothing is being written.

        Raises:
          RunError: If what was written failed, and that stops the run.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.result()
            self._failed = None
        except RunError as error:
            self._failed = error
            if self._on_failure == "stop":
                raise
            self._tell(f"{error}: going on (train.on_failed_save)")
        except KeyboardInterrupt:
            self._pending = pending  # the wait was broken off, not the save
            raise

    def poll(self) -> None:
        """As `wait`, but only if it would not wait."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def close(self, *, waits: bool, raises: bool) -> None:
        """Let the thread go.

        Args:
          waits: Whether to wait for the last save.
          raises: Whether to raise its failure, whatever ``on_failure`` says: what a run ends with would be lost.
        """
        try:
            if waits:
                self.wait()
            failed = self._failed
        except RunError as error:
            failed = error
        finally:
            self._executor.shutdown(wait=False)
        if failed is not None and raises:
            raise failed
