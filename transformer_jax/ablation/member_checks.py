"""A member of a grid, built and traced before anything is trained: whether it can run, and what an update costs."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from transformer_jax.nn.parameters import parameter_count
from transformer_jax.planning.equations import flops_within
from transformer_jax.runs.building import build_checked, build_from
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.training.state import ModelStructure, TrainState
from transformer_jax.training.step import first_state, loss_gradient


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemberCosts:
    """Size of a member and of its updates.

    Attributes:
      parameters: Trained numbers.
      update_flops: Floating-point operations of the matrix products in the gradient of the largest training batch,
        forward and backward, loops multiplied out; convolutions are not counted, and what is computed again
        (``train.remat``) is counted once.
    """

    parameters: int
    update_flops: float


def check_member(config: ExperimentConfig, prepared: Any) -> MemberCosts:
    """Build the model, trace its evaluation and its gradient; nothing is compiled.

    Args:
      config: The member's.
      prepared: Data of the config's task.

    Raises:
      TransformerJaxError: If model, data, objective and search do not fit together.
    """
    model, _ = build_checked(config, prepared)
    return MemberCosts(parameters=parameter_count(model), update_flops=update_flops(config, prepared))


def update_flops(config: ExperimentConfig, prepared: Any) -> float:
    """Floating-point operations of the products of one update on the largest batch of the training data."""
    batch = max(prepared.train.abstract_batches(), key=_size)
    structures: list[ModelStructure] = []

    def initial() -> TrainState:
        model = build_from(config, prepared.artifacts, is_training=True)
        structure, state = first_state(model, config.task.objective, config.train, batch)
        structures.append(structure)
        return state

    state = jax.eval_shape(initial)
    gradient = jax.make_jaxpr(loss_gradient(structures[0], config.task.objective))
    key = jax.eval_shape(lambda: jax.random.key(0))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), batch)
    update = jax.ShapeDtypeStruct((), np.int32)
    return flops_within(gradient(state.params, state.model_state, shapes, key, update))


def _size(batch: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(batch))
