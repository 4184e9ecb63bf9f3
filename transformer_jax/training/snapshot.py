"""A training state's arrays on the host, by the names under which a checkpoint keeps them."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.allocator import give_back
from transformer_jax.training.hosts import to_host
from transformer_jax.training.state import NamedArrays, TrainState, named_arrays

_GIVE_BACK_BYTES = 32_000_000


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
        arrays = (state.best_params | others, training_arrays(state, carried))
        model, training = jax.tree.map(lambda array: np.array(to_host(array), copy=True), arrays)
        return cls(model, training)


def training_arrays(state: TrainState, carried: Collection[str] = ()) -> NamedArrays:
    """Arrays that a resumed run needs besides the model, by name; the key as plain integers."""
    counters = {"update": state.update, "rng_key": jax.random.key_data(state.rng_key)}
    return counters | named_arrays(resumed_parts(state, carried))


def resumed_parts(state: TrainState, carried: Collection[str]) -> dict[str, Any]:
    parts = {"optimizer": state.optimizer_state, "metrics": state.metrics, "divergence": state.divergence}
    if carried:
        parts["carried"] = {name: state.model_state[name] for name in carried}
    return parts | {"params": state.params} if state.average else parts


def copied_arrays(arrays: dict[str, np.ndarray]) -> NamedArrays:
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


def since_added(state: TrainState) -> dict[str, np.ndarray]:
    """Initial values of entries that checkpoints of earlier versions lack."""
    return {name: np.asarray(array) for name, array in named_arrays({"divergence": state.divergence}).items()}
