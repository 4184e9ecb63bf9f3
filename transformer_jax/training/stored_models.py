"""Models from the checkpoints of a run: the best, the last, or the mean of several."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transformer_jax.errors import RunError
from transformer_jax.training.checkpoint import AVERAGED, CheckpointInfo, CheckpointStore
from transformer_jax.training.manifest import require_whole
from transformer_jax.training.orbax_items import item_shapes, read_model
from transformer_jax.training.state import split_model

_Model = TypeVar("_Model", bound=nnx.Module)


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
        update = chosen if store.is_whole(chosen, deep=True) else None
    path = store.path(update)
    model = build(item_shapes(path, "model"))
    structure, params, model_state = split_model(model)
    with jax.transfer_guard("allow"):
        wanted = structure.without_carried(params | model_state)
        arrays = model_state | jax.tree.map(jnp.asarray, read_model(path, wanted))
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
        require_whole(store.path(update), deep=True)
        last = read_model(store.path(update), sums or None, same_dtype=False)
        for name, array in last.items():
            sums[name] = sums.get(name, 0.0) + np.asarray(array, np.float64)
    is_float = {name: jnp.issubdtype(array.dtype, jnp.floating) for name, array in last.items()}
    mean = {
        name: (sums[name] / num_last).astype(array.dtype) if is_float[name] else np.asarray(array)
        for name, array in last.items()
    }
    info = store.info(updates[-1])
    extra = {**info.extra, AVERAGED: updates}
    output.write(dataclasses.replace(info, score=None, metrics={}, extra=extra), model=mean)
    return updates
