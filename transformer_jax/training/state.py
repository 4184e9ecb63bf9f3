"""State that an update changes: parameters, other model state, optimiser state, counter and running metrics.

Inside the loop parameters are plain dictionaries ``{"encoder.layers.0.weight": array}``: JAX flattens those
in C++ at every call, NNX states in Python, and a checkpoint holds the same names.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from transformer_jax.errors import ConfigError
from transformer_jax.functional.losses import LossSum
from transformer_jax.functional.remat import Remat
from transformer_jax.functional.seeds import seed_key
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.training.divergence import no_divergence
from transformer_jax.training.time_loops import declared_in_loops
from transformer_jax.typing import Array, Int, Key, PyTree
from transformer_jax.variables import CarriedState

NamedArrays = dict[str, Array]

# ``nnx.Rngs(seed)`` gives its i-th parameter the key ``fold_in(key(seed), i)``. Updates are folded into a key
# as well, so theirs starts from another one: a number ("drop" in ASCII) that no count of parameters reaches.
_DROPOUT_STREAM = 0x64726F70


@pytree_dataclass
class TrainState:
    """All that is carried from one update to the next.

    Attributes:
      params: Parameters by their dotted path.
      model_state: The module's other variables (batch statistics) by their dotted path.
      optimizer_state: Of the optax transformation.
      update: Updates done.
      rng_key: `dropout_key` of the run; never changes, the update is folded into it.
      metrics: Sums since the last log row.
      average: Moving average of the parameters by their dotted path; empty where none is kept.
      divergence: Updates since the last look whose loss or gradient was no number, see `note_divergence`.
    """

    params: NamedArrays
    model_state: NamedArrays
    optimizer_state: PyTree
    update: Int[Array, ""]
    rng_key: Key[Array, ""]
    metrics: dict[str, LossSum]
    average: NamedArrays
    divergence: NamedArrays

    @property
    def best_params(self) -> NamedArrays:
        """Parameters that are evaluated and used for search: the average where there is one."""
        return self.average or self.params


@dataclasses.dataclass(frozen=True)
class ModelStructure:
    """The static half of a split module: turns named arrays back into it.

    Attributes:
      looped: Names of the parameters that loops over time read, as far as it is known.
      carried: Names of the variables that are carried from batch to batch, see `CarriedState`.

    Example:
      >>> module = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
      >>> structure, params, model_state = split_model(module)
      >>> sorted(params), model_state
      (['bias', 'kernel'], {})
      >>> structure.merge(params, model_state)(jnp.ones((1, 2))).shape
      (1, 3)
    """

    graph: nnx.GraphDef
    params_structure: Any
    params_names: tuple[str, ...]
    model_state_structure: Any
    model_state_names: tuple[str, ...]
    looped: frozenset[str] = frozenset()
    carried: frozenset[str] = frozenset()

    def state(self, params: NamedArrays, model_state: NamedArrays) -> PyTree:
        """The whole state, as ``nnx.split(model)[1]`` gives it."""
        params_state = jax.tree.unflatten(self.params_structure, [params[name] for name in self.params_names])
        if not self.model_state_names:
            return params_state
        others = [model_state[name] for name in self.model_state_names]
        return nnx.merge_state(params_state, jax.tree.unflatten(self.model_state_structure, others))

    def merge(self, params: NamedArrays, model_state: NamedArrays) -> nnx.Module:
        """The module itself, holding these arrays."""
        return nnx.merge(self.graph, self.state(params, model_state))

    def without_carried(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Arrays by name, but for the variables that are carried from batch to batch: what belongs to the model."""
        return {name: array for name, array in arrays.items() if name not in self.carried}

    def for_program(self, gradient_of: Callable[..., Any], *arguments: Any) -> "ModelStructure":
        """The structure to compile a gradient with; where nothing is cut, the structure itself.

        Args:
          gradient_of: From a structure to ``(params, model_state, batch, rng_key, update) -> gradient``.
          arguments: Of that function.
        """
        return self


def split_model(model: nnx.Module) -> tuple[ModelStructure, dict[str, Any], dict[str, Any]]:
    """Split a module once into its structure, its parameters and its other variables.

    Args:
      model: Any NNX module, or one of shapes only (``nnx.eval_shape``).

    Returns:
      ``(structure, params, model_state)``; the arrays (or shapes) are the module's own, not copies.
    """
    split: Any = nnx.split(model, nnx.Param, ...)
    graph, params, others = split
    named_params, named_others = named_arrays(params), named_arrays(others)
    structure = ModelStructure(
        graph,
        jax.tree.structure(params),
        tuple(named_params),
        jax.tree.structure(others),
        tuple(named_others),
        declared_in_loops(model),
        frozenset(named_arrays(nnx.state(model, CarriedState))),
    )
    return structure, named_params, named_others


def set_remat(model: nnx.Module, recomputed: Remat) -> None:
    """Tell every part of ``model`` that has layers what its backward pass computes again.

    Args:
      model: The attribute ``remat`` of its modules is set.
      recomputed: See :func:`~transformer_jax.functional.remat.remat`.

    Raises:
      ConfigError: If something is to be computed again and no module has that attribute.
    """
    told = [module for _, module in nnx.iter_graph(model) if hasattr(module, "remat")]
    if recomputed != "nothing" and not told:
        raise ConfigError(
            f"train.remat is {recomputed!r}, but {type(model).__name__} has no layers that know it: set it to 'nothing'"
        )
    for module in told:
        module.remat = recomputed


def named_arrays(tree: Any) -> dict[str, Any]:
    """The leaves of ``tree`` by their dotted path, in the tree's order.

    Example:
      >>> named_arrays({"layers": [jnp.zeros(1), jnp.zeros(2)]}).keys()
      dict_keys(['layers.0', 'layers.1'])
    """
    named: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        # An NNX variable adds ".value", which says nothing.
        parts = [_key_name(key) for key in path if _key_name(key) != "value"]
        name = ".".join(parts) or "value"
        if name in named:
            raise ValueError(f"two leaves are both named {name!r}: rename one of the module's attributes")
        named[name] = leaf
    return named


def dropout_key(seed: int) -> Key[Array, ""]:
    """The key that a run's dropout starts from: of the seed, but of none of the initial parameters."""
    with jax.transfer_guard("allow"):
        return jax.random.fold_in(seed_key(seed), _DROPOUT_STREAM)


def create_state(
    model: nnx.Module,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    metrics: dict[str, LossSum],
    averages: bool = False,
) -> tuple[ModelStructure, TrainState]:
    """The state before the first update; arrays are copied, since the step donates its buffers.

    Args:
      model: Holds the initial parameters; left as it is.
      optimizer: Gives the initial optimiser state.
      seed: Of the dropout keys.
      metrics: The shapes of the running sums; they start at zero.
      averages: Whether a moving average of the parameters is kept.

    Returns:
      ``(structure, state)``.
    """
    structure, params, model_state = split_model(model)
    with jax.transfer_guard(
        "allow"
    ):  # zeros and keys go to the device once, whatever guards the updates to come
        params, model_state = jax.tree.map(lambda array: jnp.array(array, copy=True), (params, model_state))
        state = TrainState(
            params=params,
            model_state=model_state,
            optimizer_state=optimizer.init(params),
            update=jnp.int32(0),
            rng_key=dropout_key(seed),
            metrics=jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), metrics),
            average={name: jnp.array(array, copy=True) for name, array in params.items()} if averages else {},
            divergence=no_divergence(),
        )
    return structure, state


def _key_name(key: Any) -> str:
    """The word of one step of a pytree path."""
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)
