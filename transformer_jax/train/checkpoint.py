"""Checkpoints in a run folder: the last ones, the best and every m-th, each written whole or not at all.

``RUN/checkpoints/00000500/`` is one checkpoint of orbax: the item ``model`` (parameters and other variables
by name; the averaged ones where an average is kept), ``training`` (optimiser, key, counters, what is carried from
batch to batch, and the parameters that are trained beside an average) and ``metadata`` (JSON: update, score, times).

It is written under another name, gets a manifest of its files, and only then its own name: what has the name was whole
once, an interrupted save leaves the former checkpoint alone, and what was damaged later is found by the manifest.
"""

import asyncio
import contextlib
import dataclasses
import logging
import shutil
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transformer_jax.allocator import give_back
from transformer_jax.errors import RunError, shortened
from transformer_jax.memory import machine_memory
from transformer_jax.notes import note
from transformer_jax.train.deferred import deferred_interrupts
from transformer_jax.train.hosts import are_several, to_host
from transformer_jax.train.manifest import (
    LaterFormatError,
    has_manifest,
    is_whole,
    require_whole,
    sync,
    write_manifest,
)
from transformer_jax.train.state import NamedArrays, TrainState, named_arrays, split_model

FOLDER = "checkpoints"
_NEW, _REMOVED, _DAMAGED = "new-", "removed-", "damaged-"
_Model = TypeVar("_Model", bound=nnx.Module)
_AVERAGED = "averaged updates"
_FAULTS_SHOWN = 6
_GIVE_BACK_BYTES = 32_000_000
_PATIENCE_SECONDS = 60.0
_TEMPORARY_MARK = ".orbax-checkpoint-tmp"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """What the metadata of a checkpoint says.

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


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A state's arrays on the host, by name: what a checkpoint is written from.

    Attributes:
      model: Parameters (averaged where an average is kept) and other variables.
      training: Optimiser, key, counters, what is carried from batch to batch, and the parameters that are trained
        beside an average.
    """

    model: Mapping[str, np.ndarray]
    training: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, state: TrainState, carried: Collection[str] = ()) -> "Snapshot":
        """Copies, so that the state may be given up at once.

        Args:
          state: The state.
          carried: Names of its variables that are carried from batch to batch, which are no part of the model.
        """
        # orbax writes numpy arrays about three times as fast as small arrays of a single device.
        others = {name: array for name, array in state.model_state.items() if name not in carried}
        arrays = (state.best_params | others, _training_arrays(state, carried))
        model, training = jax.tree.map(lambda array: np.array(to_host(array), copy=True), arrays)
        return cls(model, training)


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
            if self._is_whole(update, deep=is_newest):
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
            self._path(update).rename(aside)

    def _is_whole(self, update: int, *, deep: bool) -> bool:
        """Whether a checkpoint is as it was written; one that is not is told of and passed over."""
        try:
            require_whole(self._path(update), deep=deep)
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
            document = _restore_item(self._path(update), "metadata")
            try:
                self._infos[update] = CheckpointInfo(**document)
            except TypeError as error:
                raise RunError(
                    f"the metadata of checkpoint {self._path(update)} is not this program's"
                ) from error
        return self._infos[update]

    def model_shapes(self, update: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of a checkpoint's model by name; no array is read.

        Raises:
          RunError: If they cannot be read.
        """
        return _shapes(self._path(update), "model")

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
          RunError: If it cannot be written, or holds a parameter that is no number; the former ones are left as they
            are.
        """
        arrays = state if isinstance(state, Snapshot) else self.snapshot(state)
        for name, array in arrays.model.items():
            if jnp.issubdtype(array.dtype, jnp.floating) and not is_finite(array):
                raise RunError(
                    f"training diverged: {name} is no number after update {info.update}, which is not saved"
                )
        self._write(info, model=arrays.model, training=arrays.training)
        self._remove_superseded()

    def _write(self, info: CheckpointInfo, **items: Mapping[str, np.ndarray]) -> None:
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
                "it that there is room and the folder may be written to, then go on with --resume"
            ) from error
        self._infos[info.update] = info
        self._written.add(info.update)

    def _write_as(
        self, new: Path, info: CheckpointInfo, items: Mapping[str, Mapping[str, np.ndarray]]
    ) -> None:
        import orbax.checkpoint as ocp

        arguments = {name: ocp.args.StandardSave(arrays) for name, arrays in items.items()}
        metadata = ocp.args.JsonSave(dataclasses.asdict(info))
        self._folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(new, ignore_errors=True)
        with _quiet_orbax(), _checkpointer() as checkpointer:
            try:
                checkpointer.save(new, args=ocp.args.Composite(**arguments, metadata=metadata))
            except BaseException:
                _join_writers()
                raise
        write_manifest(new)
        path = self._path(info.update)
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
        path = self._path(update)
        if _AVERAGED in self.info(update).extra:
            raise RunError(
                f"{path} is the mean of several checkpoints: it cannot be trained on; go on with their own run"
            )
        added = _since_added(state)
        wanted = _training_arrays(state, self._carried)
        require_same(added | _shapes(path, "training"), wanted, path)
        others = {name: array for name, array in state.model_state.items() if name not in self._carried}
        model = _copied(_restore_model(path, state.params | others))
        training_arrays = added | _restore_item(path, "training")
        require_same(training_arrays, wanted, path)
        training = _copied(training_arrays)
        update_count = training.pop("update")
        rng_key = jax.random.wrap_key_data(training.pop("rng_key"), impl=jax.random.key_impl(state.rng_key))
        parts = _resumed_parts(state, self._carried)
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
        """The updates whose checkpoints were written here and have gone since, each told once."""
        gone = sorted(self._written.difference(self.updates()))
        self._written.difference_update(gone)
        return gone

    def _remove(self, update: int) -> None:
        self._written.discard(update)
        # Renamed first: an interrupted removal must not look like a checkpoint.
        removed = self._folder / f"{_REMOVED}{update}"
        shutil.rmtree(removed, ignore_errors=True)
        self._path(update).rename(removed)
        shutil.rmtree(removed, ignore_errors=True)

    def _path(self, update: int) -> Path:
        return self._folder / f"{update:08d}"


def load_params(
    run_dir: Path | str, which: Literal["best", "last"] = "best", *, model: nnx.Module
) -> CheckpointInfo:
    """Fill ``model`` with the parameters (and other variables) of a run's checkpoint.

    Args:
      run_dir: The run folder.
      which: The best-scoring checkpoint (the last one if none was ever scored), or the last.
      model: Built from the run's configuration, or only its shapes (``nnx.eval_shape``); changed in place.

    Returns:
      The checkpoint's metadata.

    Raises:
      RunError: If there is no checkpoint, it does not fit the model, or a number in it is not finite.
    """
    return load_model(run_dir, which, build=lambda shapes: model)[1]


def load_model(
    run_dir: Path | str,
    which: Literal["best", "last"] = "best",
    *,
    build: Callable[[Mapping[str, Any]], _Model],
) -> tuple[_Model, CheckpointInfo]:
    """As `load_params`, of a model that is built when the checkpoint's shapes are known.

    Args:
      run_dir: The run folder.
      which: The best-scoring checkpoint (the last one if none was ever scored), or the last.
      build: From the stored arrays' shapes and dtypes by name to the model, or only its shapes (``nnx.eval_shape``);
        where it raises, no array has been read.

    Returns:
      The model and the checkpoint's metadata.

    Raises:
      RunError: As `load_params`.
    """
    store = CheckpointStore(run_dir)
    had_any = bool(store.updates())
    store.pass_over_damaged()
    update = None
    while update is None:
        updates = store.updates()
        if not updates:
            state = "no whole checkpoint, only damaged ones" if had_any else "no checkpoint"
            raise RunError(f"{run_dir} holds {state}: train first, or name another run folder")
        best = store.best_updates() if which == "best" else []
        chosen = best[0] if best else updates[-1]
        update = chosen if store._is_whole(chosen, deep=True) else None
    path = store._path(update)
    model = build(_shapes(path, "model"))
    structure, params, model_state = split_model(model)
    with jax.transfer_guard("allow"):
        wanted = structure.without_carried(params | model_state)
        arrays = model_state | jax.tree.map(jnp.asarray, _restore_model(path, wanted))
    nnx.update(model, structure.state(arrays, arrays))
    return model, store.info(update)


def average_checkpoints(run_dir: Path | str, output_dir: Path | str, *, num_last: int) -> list[int]:
    """Write the mean of the parameters of a run's last checkpoints as the only checkpoint of another folder.

    Args:
      run_dir: The run folder.
      output_dir: The other folder; its checkpoint has no optimiser state, so that it cannot be trained on.
      num_last: How many checkpoints.

    Returns:
      Their updates, rising.

    Raises:
      RunError: If the run has fewer.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 6.1.
    """
    store, output = CheckpointStore(run_dir), CheckpointStore(output_dir)
    updates = store.updates()[-num_last:]
    if len(updates) < num_last:
        raise RunError(
            f"{run_dir} holds {len(updates)} checkpoint(s), {num_last} are wanted: "
            f"train with train.keep_last={num_last}"
        )
    last: dict[str, np.ndarray] = {}
    sums: dict[str, np.ndarray] = {}
    for update in updates:  # one at a time: a model may be large
        require_whole(store._path(update), deep=True)
        last = _restore_model(store._path(update), sums or None, same_dtype=False)
        for name, array in last.items():
            sums[name] = sums.get(name, 0.0) + np.asarray(array, np.float64)
    is_float = {name: jnp.issubdtype(array.dtype, jnp.floating) for name, array in last.items()}
    mean = {
        name: (sums[name] / num_last).astype(array.dtype) if is_float[name] else np.asarray(array)
        for name, array in last.items()
    }
    info = store.info(updates[-1])
    extra = {**info.extra, _AVERAGED: updates}
    output._write(dataclasses.replace(info, score=None, metrics={}, extra=extra), model=mean)
    return updates


def _training_arrays(state: TrainState, carried: Collection[str] = ()) -> NamedArrays:
    """What a resumed run needs besides the model, by name; the key as plain integers."""
    counters = {"update": state.update, "rng_key": jax.random.key_data(state.rng_key)}
    return counters | named_arrays(_resumed_parts(state, carried))


def _resumed_parts(state: TrainState, carried: Collection[str]) -> dict[str, Any]:
    parts = {"optimizer": state.optimizer_state, "metrics": state.metrics, "divergence": state.divergence}
    if carried:
        parts["carried"] = {name: state.model_state[name] for name in carried}
    return parts | {"params": state.params} if state.average else parts


def _copied(arrays: dict[str, np.ndarray]) -> NamedArrays:
    """JAX's own copies, since a buffer that the step may donate must not belong to numpy; ``arrays`` is emptied.

    One goes as the other comes. What went was allocated by other threads, so that the allocator does not take it for
    what comes, and has to be told to give it back.
    """
    copies: NamedArrays = {}
    given_up = 0
    for name in list(arrays):
        with jax.transfer_guard("allow"):
            copies[name] = jnp.array(arrays[name], copy=True).block_until_ready()
        given_up += arrays.pop(name).nbytes
        if given_up > _GIVE_BACK_BYTES:
            give_back()
            given_up = 0
    return copies


def _since_added(state: TrainState) -> dict[str, np.ndarray]:
    """What checkpoints of earlier versions do not hold, as it is at a start."""
    return {name: np.asarray(array) for name, array in named_arrays({"divergence": state.divergence}).items()}


def require_same(
    found: Mapping[str, Any], wanted: Mapping[str, Any], path: Path, *, same_dtype: bool = True
) -> None:
    """Raise ``RunError`` naming the arrays in which a checkpoint differs from what is wanted, the first of many."""
    faults = []
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            faults.append(f"has no array {name!r}")
        elif name not in wanted:
            faults.append(f"holds {shortened(repr(name))}, which the model does not have")
        elif (same_dtype and found[name].dtype != wanted[name].dtype) or (
            found[name].shape != wanted[name].shape
        ):
            faults.append(
                f"{name!r} is {found[name].dtype}{list(found[name].shape)}, "
                f"the model wants {wanted[name].dtype}{list(wanted[name].shape)}"
            )
    if faults:
        more = len(faults) - _FAULTS_SHOWN
        shown = "; ".join(faults[:_FAULTS_SHOWN]) + (f"; and {more} more arrays" if more > 0 else "")
        raise RunError(
            f"checkpoint {path}: {shown}: was the run trained with another configuration or version?"
        )


def require_finite(arrays: Mapping[str, Any], path: Path) -> None:
    """Raise ``RunError`` naming the first array that holds NaN or infinity."""
    for name, array in arrays.items():
        if jnp.issubdtype(array.dtype, jnp.floating) and not is_finite(array):
            raise RunError(
                f"{path}: {shortened(repr(name))} holds numbers that are not finite (NaN or infinity): take another "
                "file or checkpoint"
            )


def is_finite(array: np.ndarray) -> bool:
    """Whether no number of a floating-point array is NaN or infinite."""
    if array.dtype not in (np.float16, np.float32, np.float64):
        array = array.astype(np.float32)
    return bool(np.isfinite(array).all())


def _badness(info: CheckpointInfo) -> float:
    assert info.score is not None
    return _signed(info.score, info.metric_mode)


def _signed(score: float, metric_mode: str) -> float:
    """The score as a number of which less is better."""
    return score if metric_mode == "min" else -score


def _checkpointer() -> Any:
    import orbax.checkpoint as ocp

    if not are_several():
        return ocp.Checkpointer(ocp.CompositeCheckpointHandler())
    # By itself orbax would wait for the other hosts, who do not write, and read when they come to it.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(),
        active_processes={jax.process_index()},
        barrier_sync_key_prefix=f"host-{jax.process_index()}",
    )
    options = ocp.CompositeOptions(multiprocessing_options=alone)
    return ocp.Checkpointer(
        ocp.CompositeCheckpointHandler(composite_options=options), multiprocessing_options=alone
    )


def _shapes(path: Path, item: Literal["model", "training"]) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of an item's arrays by name; no array is read.

    Raises:
      RunError: If they cannot be read, or are more than the machine's memory.
    """
    import orbax.checkpoint as ocp

    try:
        with deferred_interrupts(), _quiet_orbax():
            said = ocp.StandardCheckpointHandler().metadata(path / item)
        found = {
            str(name): jax.ShapeDtypeStruct(tuple(one.shape), np.dtype(one.dtype))
            for name, one in said.items()
        }
        total = sum(one.size * one.dtype.itemsize for one in found.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise _unreadable(item, path, error) from error
    memory = machine_memory()
    if memory is not None and total > memory:  # zeros take no room in a file
        raise RunError(
            f"{item} of checkpoint {path} claims {total / 1e9:,.0f} GB, and this machine has {memory / 1e9:,.0f} GB of "
            "memory"
        )
    return found


def _restore_model(
    path: Path, wanted: Mapping[str, Any] | None, *, same_dtype: bool = True
) -> dict[str, np.ndarray]:
    """The model's arrays of a checkpoint.

    Args:
      path: The checkpoint.
      wanted: What they must be, by name; compared before an array is read, since a damaged or foreign file may ask for
        more memory than there is. None takes what is there.
      same_dtype: Whether dtypes are compared too.

    Raises:
      RunError: If they are not that, cannot be read, or a number is not finite.
    """
    found = _shapes(path, "model")
    require_same(found, found if wanted is None else wanted, path, same_dtype=same_dtype)
    arrays = _restore_item(path, "model")
    require_same(arrays, found, path)
    require_finite(arrays, path)
    return arrays


def _unreadable(item: str, path: Path, error: Exception) -> RunError:
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return RunError(f"cannot read {item} of checkpoint {path}: it is damaged or incomplete ({reason})")


def _restore_item(path: Path, item: Literal["model", "training", "metadata"]) -> Any:
    """One item as it was saved: a dictionary of numpy arrays, or the metadata."""
    import orbax.checkpoint as ocp

    arguments = ocp.args.JsonRestore() if item == "metadata" else ocp.args.StandardRestore()
    try:
        with deferred_interrupts(), _quiet_orbax(), _checkpointer() as checkpointer:
            return checkpointer.restore(path, args=ocp.args.Composite(**{item: arguments}))[item]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable(item, path, error) from error


def _join_writers() -> None:
    """Wait for orbax's other threads where one has failed: nobody else does, and what they write is to be removed."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    for thread in threading.enumerate():
        if type(thread).__module__.partition(".")[0] == "orbax":
            thread_join = threading.Thread.join  # orbax's own raises the thread's failure
            thread_join(thread, max(0.0, deadline - time.monotonic()))


class _quiet_orbax:
    """Silence orbax's commentary (through absl's logger): what goes wrong is raised as well.

    Where one of many writes fails, orbax closes its event loop while the others are still under way: their threads
    would print a traceback each, and go on writing into a folder that is being removed. So the loops that it makes
    meanwhile wait for their tasks before they are closed.
    """

    _lock = threading.Lock()
    _inside = 0
    _level = logging.NOTSET
    _new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop

    def __enter__(self) -> None:
        cls = _quiet_orbax
        with cls._lock:
            cls._inside += 1
            if cls._inside == 1:
                logger = logging.getLogger("absl")
                cls._level, cls._new_event_loop = logger.level, asyncio.new_event_loop
                logger.setLevel(logging.CRITICAL)
                asyncio.new_event_loop = _PatientLoop

    def __exit__(self, *unused: object) -> None:
        cls = _quiet_orbax
        with cls._lock:
            cls._inside -= 1
            if cls._inside == 0:
                logging.getLogger("absl").setLevel(cls._level)
                asyncio.new_event_loop = cls._new_event_loop


class _PatientLoop(asyncio.SelectorEventLoop):
    """Closes when its tasks have ended, as well or badly as they may."""

    def close(self) -> None:
        if not self.is_closed() and not self.is_running():
            tasks = asyncio.all_tasks(self)
            if tasks:
                with contextlib.suppress(Exception):
                    self.run_until_complete(asyncio.wait(tasks, timeout=_PATIENCE_SECONDS))
        super().close()
