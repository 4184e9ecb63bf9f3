"""Optimisers by their config; clipping by the global norm is the training step's."""

import jax
import optax

from transformer_jax.training.config import Adam, AdamW, OptimizerConfig, RowAdagrad
from transformer_jax.training.row_updates import row_adagrad
from transformer_jax.training.schedules import Schedule
from transformer_jax.typing import PyTree


def build_optimizer(config: OptimizerConfig, schedule: Schedule) -> optax.GradientTransformation:
    """The optax transformation of ``config`` with the learning rate of ``schedule``.

    Args:
      config: Adam, AdamW or RowAdagrad.
      schedule: From updates done to the learning rate.

    Returns:
      A transformation whose output is added to the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> optimizer = build_optimizer(Adam(), lambda updates_done: jnp.float32(0.1))
      >>> params = {"weight": jnp.zeros(2)}
      >>> updates, _ = optimizer.update({"weight": jnp.ones(2)}, optimizer.init(params), params)
      >>> updates["weight"].round(3).tolist()
      [-0.10000000149011612, -0.10000000149011612]
    """
    match config:
        case Adam():
            return optax.adam(schedule, b1=config.beta1, b2=config.beta2, eps=config.epsilon)
        case AdamW():
            return optax.adamw(
                schedule,
                b1=config.beta1,
                b2=config.beta2,
                eps=config.epsilon,
                weight_decay=config.weight_decay,
                mask=decays,
            )
        case RowAdagrad():
            return row_adagrad(schedule, initial=config.initial)


def decays(params: PyTree) -> PyTree:
    """True for each parameter that weight decay applies to: those of two or more axes."""
    return jax.tree.map(lambda param: param.ndim >= 2, params)
