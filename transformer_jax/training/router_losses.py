"""What routers of experts add to an update: their losses, and what the log says of how they spread the tokens."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.functional.losses import LossSum
from transformer_jax.typing import Array, Float
from transformer_jax.variables import RoutingState

__all__ = ["routing_terms"]


def routing_terms(model: nnx.Module) -> tuple[Float[Array, ""], dict[str, LossSum]]:
    r"""Losses and metrics of all layers with experts, as the last call of the model that trains left them.

    Args:
      model: Any module.

    Returns:
      The sum of the layers' weighted losses, to add to the loss per token; and the metrics ``"routing_loss"`` (that
      sum), ``"dropped_tokens"`` (share of the choices that found their expert full, mean over the layers) and
      ``"busiest_expert"`` (load of the fullest expert of any layer over the mean load: 1 is even, and the number of
      experts divided by ``top_k`` means that all tokens go to the same ones). Zero and no metrics without experts.

    Example:
      >>> routing_terms(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))[1]
      {}
    """
    state: Any = nnx.state(model, RoutingState)
    named: dict[str, list[Array]] = {"auxiliary_loss": [], "load": [], "dropped": []}
    for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(state)):
        named[path[-1].key].append(leaf)
    if not named["load"]:
        return jnp.zeros((), jnp.float32), {}
    loss = sum(named["auxiliary_loss"], jnp.zeros((), jnp.float32))
    busiest = jnp.stack([load.max() for load in named["load"]]).max()
    dropped = jnp.stack(named["dropped"]).mean()
    values = {"routing_loss": loss, "dropped_tokens": dropped, "busiest_expert": busiest}
    return loss, {name: LossSum.of(jax.lax.stop_gradient(value), 1.0) for name, value in values.items()}
