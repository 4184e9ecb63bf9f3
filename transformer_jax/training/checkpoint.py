"""Checkpoints in a run folder: the last ones, the best and every m-th, each written whole or not at all.

``RUN/checkpoints/00000500/`` is one checkpoint of orbax: the item ``model`` (parameters and other variables
by name; the averaged ones where an average is kept), ``training`` (optimiser, key, counters, what is carried from
batch to batch, and the parameters that are trained beside an average) and ``metadata`` (JSON: update, score, times).

It is written under another name, gets a manifest of its files, and only then its own name: what has the name was whole
once, an interrupted save leaves the former checkpoint alone, and what was damaged later is found by the manifest.
"""

import dataclasses
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.errors import RunError, shortened
from transformer_jax.notes import note
from transformer_jax.training.array_checks import is_finite, require_same
from transformer_jax.training.deferred import deferred_interrupts
from transformer_jax.training.manifest import (
    LaterFormatError,
    has_manifest,
    is_whole,
    require_whole,
    sync,
    write_manifest,
)
from transformer_jax.training.orbax_items import item_shapes, read_item, read_model, write_items
from transformer_jax.training.snapshot import (
    Snapshot,
    copied_arrays,
    resumed_parts,
    since_added,
    training_arrays,
)
from transformer_jax.training.state import TrainState, named_arrays

FOLDER = "checkpoints"
_NEW, _REMOVED, _DAMAGED = "new-", "removed-", "damaged-"
AVERAGED = "averaged updates"
_TEMPORARY_MARK = ".orbax-checkpoint-tmp"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """Metadata of a checkpoint.

    Attributes:
      update: Updates done.
      score: Value of the run's metric at this update; None when it was not evaluated here.
      metric_mode: Whether low or high scores are good.
      train_seconds: Spent on training so far.
      tokens: Real tokens trained on so far.
      metrics: Of the evaluation at this update.
      extra: What the caller of the trainer added (the configuration, say).
      passed_over: Batches that no update was done on, since roll-backs passed over them.
      divergences: Updates skipped, or roll-backs made, so far.
    """

    update: int
    score: float | None
    metric_mode: Literal["min", "max"]
    train_seconds: float
    tokens: int
    metrics: dict[str, float | None]
    extra: dict[str, Any]
    passed_over: int = 0
    divergences: int = 0


def run_folder(run_dir: Path | str) -> Path:
    """The absolute path of a run folder.

    Raises:
      RunError: If its name is empty, which would be the current folder, or not UTF-8, which orbax cannot open.
    """
    if str(run_dir) == "":
        raise RunError("the name of the run folder is empty: name a folder, or '.' for the current one")
    path = Path(run_dir).absolute()
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise RunError(
            f"{ascii(str(path))[1:-1]}: not UTF-8, which checkpoints need: give the run folder another name"
        ) from None
    return path


class CheckpointStore:
    """The checkpoints of one run folder.

    Args:
      run_dir: The run folder.
      keep_best: How many of the best-scoring checkpoints to keep besides the last.
      keep_last: How many of the last to keep.
      keep_every: Those of updates that it divides are kept as well; None keeps no such.
      carried: Names of the model's variables that are carried from batch to batch: a resumed run needs them, a model
        that is loaded has none.
    """

    def __init__(
        self,
        run_dir: Path | str,
        *,
        keep_best: int = 1,
        keep_last: int = 1,
        keep_every: int | None = None,
        carried: Collection[str] = (),
    ) -> None:
        self._carried = frozenset(carried)
        self._folder = run_folder(run_dir) / FOLDER
        self._keep_best, self._keep_last, self._keep_every = keep_best, keep_last, keep_every
        self._infos: dict[int, CheckpointInfo] = {}
        self._passed_over: set[int] = set()
        self._written: set[int] = set()

    def updates(self) -> list[int]:
        """The updates that have a checkpoint, rising; without those that were passed over as damaged."""
        if not self._folder.is_dir():
            return []
        found = (int(path.name) for path in self._folder.iterdir() if path.name.isdecimal() and path.is_dir())
        return sorted(set(found) - self._passed_over)

    def pass_over_damaged(self, *, sets_aside: bool = False) -> None:
        """Leave damaged checkpoints out of everything from now on, and say so on standard error.

        Every file of the newest one is read; of the others, names and sizes are looked at.

        Args:
          sets_aside: Give them other names, so that a new checkpoint can have theirs.
        """
        damaged = []
        is_newest = True
        for update in reversed(self.updates()):
            if self.is_whole(update, deep=is_newest):
                is_newest = False
            else:
                damaged.append(update)
        if (
            not sets_aside or is_newest
        ):  # where none is whole, all stay what they are for whoever can repair them
            return
        for update in damaged:
            aside = self._folder / f"{_DAMAGED}{update:08d}"
            shutil.rmtree(aside, ignore_errors=True)
            self.path(update).rename(aside)

    def is_whole(self, update: int, *, deep: bool) -> bool:
        """Whether a checkpoint is as it was written; a damaged one is reported and skipped."""
        try:
            require_whole(self.path(update), deep=deep)
            self.info(update)
        except LaterFormatError:
            raise  # whole, but not for this version: to pass it over would lose what it holds
        except RunError as error:
            note(f"note: checkpoint of update {update} is passed over: {error}")
            self._passed_over.add(update)
            return False
        return True

    def info(self, update: int) -> CheckpointInfo:
        """The metadata of one checkpoint.

        Raises:
          RunError: If it cannot be read.
        """
        if update not in self._infos:
            document = read_item(self.path(update), "metadata")
            try:
                self._infos[update] = CheckpointInfo(**document)
            except TypeError as error:
                raise RunError(
                    f"the metadata of checkpoint {self.path(update)} is not this program's"
                ) from error
        return self._infos[update]

    def model_shapes(self, update: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of a checkpoint's model by name; no array is read.

        Raises:
          RunError: If they cannot be read.
        """
        return item_shapes(self.path(update), "model")

    def best_updates(self) -> list[int]:
        """Updates of the scored checkpoints, best first; of equals the earlier."""
        infos = [self.info(update) for update in self.updates()]
        scored = [(_badness(info), info.update) for info in infos if info.score is not None]
        return [update for _, update in sorted(scored)]

    def is_among_best(self, score: float, metric_mode: Literal["min", "max"]) -> bool:
        """Whether a checkpoint of this score would be kept as one of the best."""
        kept = self.best_updates()[: self._keep_best]
        badness = _signed(score, metric_mode)
        return len(kept) < self._keep_best or any(badness < _badness(self.info(update)) for update in kept)

    def snapshot(self, state: TrainState) -> Snapshot:
        """A state's arrays on the host, so that the state may be given up at once."""
        return Snapshot.of(state, self._carried)

    def save(self, state: TrainState | Snapshot, info: CheckpointInfo) -> None:
        """Write one checkpoint atomically, then remove those that are not to be kept.

        Args:
          state: The state after ``info.update`` updates; only read.
          info: The metadata.

        Raises:
          RunError: If it cannot be written, or holds a non-finite parameter; the former ones are left as they
            are.
        """
        arrays = state if isinstance(state, Snapshot) else self.snapshot(state)
        for name, array in arrays.model.items():
            if jnp.issubdtype(array.dtype, jnp.floating) and not is_finite(array):
                raise RunError(
                    f"training diverged: {name} is no number after update {info.update}, which is not saved"
                )
        self.write(info, model=arrays.model, training=arrays.training)
        self._remove_superseded()

    def write(self, info: CheckpointInfo, **items: Mapping[str, np.ndarray]) -> None:
        """Write arrays by item and name atomically; nothing is removed."""
        new = self._folder / f"{_NEW}{info.update:08d}"
        try:
            with deferred_interrupts():
                self._write_as(new, info, items)
        except (OSError, ValueError) as error:  # tensorstore's own faults are of the second kind
            for left in self._folder.glob(f"{new.name}*"):  # orbax has a name of its own while it writes
                shutil.rmtree(left, ignore_errors=True)
            reason = getattr(error, "strerror", None) or shortened(str(error).splitlines()[0], 200)
            kept = self.updates()
            last = f"the last one is of update {kept[-1]}" if kept else "there is none yet"
            raise RunError(
                f"{self._folder}: the checkpoint of update {info.update} cannot be written ({reason}); {last}: see to "
                "it that there is room and the folder may be written to, then go on with `resume=True`"
            ) from error
        self._infos[info.update] = info
        self._written.add(info.update)

    def _write_as(
        self, new: Path, info: CheckpointInfo, items: Mapping[str, Mapping[str, np.ndarray]]
    ) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(new, ignore_errors=True)
        write_items(new, items, dataclasses.asdict(info))
        write_manifest(new)
        path = self.path(info.update)
        if path.exists():
            self._remove(info.update)
        new.rename(path)
        sync(self._folder)

    def restore(self, state: TrainState, update: int) -> tuple[TrainState, CheckpointInfo]:
        """Read a checkpoint into a state of the same structure.

        Args:
          state: Says which arrays are wanted, of which shapes and dtypes.
          update: Which checkpoint.

        Returns:
          The state with every array replaced, and the metadata.

        Raises:
          RunError: If an array is missing, superfluous, or of another shape or dtype.
        """
        path = self.path(update)
        if AVERAGED in self.info(update).extra:
            raise RunError(
                f"{path} is the mean of several checkpoints: it cannot be trained on; go on with their own run"
            )
        added = since_added(state)
        wanted = training_arrays(state, self._carried)
        require_same(added | item_shapes(path, "training"), wanted, path)
        others = {name: array for name, array in state.model_state.items() if name not in self._carried}
        model = copied_arrays(read_model(path, state.params | others))
        found = added | read_item(path, "training")
        require_same(found, wanted, path)
        training = copied_arrays(found)
        update_count = training.pop("update")
        rng_key = jax.random.wrap_key_data(training.pop("rng_key"), impl=jax.random.key_impl(state.rng_key))
        parts = resumed_parts(state, self._carried)
        leaves = [training[name] for name in named_arrays(parts)]
        parts = jax.tree.unflatten(jax.tree.structure(parts), leaves)
        restored = TrainState(
            params=parts["params"] if state.average else {name: model[name] for name in state.params},
            model_state={name: model[name] for name in others} | parts.get("carried", {}),
            optimizer_state=parts["optimizer"],
            update=update_count,
            rng_key=rng_key,
            metrics=parts["metrics"],
            average={name: model[name] for name in state.average},
            divergence=parts["divergence"],
        )
        return restored, self.info(update)

    def remove_leftovers(self) -> None:
        """Delete what an interrupted save or removal left behind; a new checkpoint that is whole gets its name."""
        if not self._folder.is_dir():
            return
        for path in sorted(self._folder.iterdir()):
            if _TEMPORARY_MARK in path.name or path.name.startswith(_REMOVED):
                shutil.rmtree(path, ignore_errors=True)
            elif path.name.startswith(_NEW):
                named = self._folder / path.name.removeprefix(_NEW)
                if has_manifest(path) and not named.exists() and is_whole(path):
                    path.rename(named)
                else:
                    shutil.rmtree(path, ignore_errors=True)

    def _remove_superseded(self) -> None:
        kept = {*self.updates()[-self._keep_last :], *self.best_updates()[: self._keep_best]}
        for update in self.updates():
            if update not in kept and (self._keep_every is None or update % self._keep_every):
                self._remove(update)

    def removed_by_others(self) -> list[int]:
        """The updates whose checkpoints were written here and have been removed since, each reported once."""
        gone = sorted(self._written.difference(self.updates()))
        self._written.difference_update(gone)
        return gone

    def _remove(self, update: int) -> None:
        self._written.discard(update)
        # Renamed first: an interrupted removal must not look like a checkpoint.
        removed = self._folder / f"{_REMOVED}{update}"
        shutil.rmtree(removed, ignore_errors=True)
        self.path(update).rename(removed)
        shutil.rmtree(removed, ignore_errors=True)

    def path(self, update: int) -> Path:
        """The folder of one checkpoint."""
        return self._folder / f"{update:08d}"


def _badness(info: CheckpointInfo) -> float:
    assert info.score is not None
    return _signed(info.score, info.metric_mode)


def _signed(score: float, metric_mode: str) -> float:
    """The score as a number of which less is better."""
    return score if metric_mode == "min" else -score
