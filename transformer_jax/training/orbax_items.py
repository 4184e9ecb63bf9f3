"""The items of one checkpoint as orbax writes and reads them: arrays by name, and JSON."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from transformer_jax.errors import RunError
from transformer_jax.memory import machine_memory
from transformer_jax.training.array_checks import require_finite, require_same
from transformer_jax.training.deferred import deferred_interrupts
from transformer_jax.training.hosts import are_several

_PATIENCE_SECONDS = 60.0


def write_items(
    path: Path, arrays: Mapping[str, Mapping[str, np.ndarray]], metadata: Mapping[str, Any]
) -> None:
    """Write a checkpoint.

    Args:
      path: Its folder, which must not be there.
      arrays: By item and name.
      metadata: JSON values, the item ``metadata``.
    """
    import orbax.checkpoint as ocp

    items = {name: ocp.args.StandardSave(item) for name, item in arrays.items()}
    with _quiet_orbax(), _checkpointer() as checkpointer:
        try:
            checkpointer.save(path, args=ocp.args.Composite(**items, metadata=ocp.args.JsonSave(metadata)))
        except BaseException:
            _join_writers()
            raise


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


def item_shapes(path: Path, item: Literal["model", "training"]) -> dict[str, jax.ShapeDtypeStruct]:
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


def read_model(
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
    found = item_shapes(path, "model")
    require_same(found, found if wanted is None else wanted, path, same_dtype=same_dtype)
    arrays = read_item(path, "model")
    require_same(arrays, found, path)
    require_finite(arrays, path)
    return arrays


def _unreadable(item: str, path: Path, error: Exception) -> RunError:
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return RunError(f"cannot read {item} of checkpoint {path}: it is damaged or incomplete ({reason})")


def read_item(path: Path, item: Literal["model", "training", "metadata"]) -> Any:
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
