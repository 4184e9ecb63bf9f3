"""Kinds of NNX variables that the trainer must tell apart, besides ``nnx.Param``."""

from flax import nnx

__all__ = ["CarriedState", "RoutingState"]


class CarriedState(nnx.Variable):
    """State that a recurrent model carries from one training batch to the next, one row a row of the batch.

    It belongs to a training run and not to the model: a checkpoint keeps it so that a resumed run is exact, but it is
    neither written to model folders nor needed to load a model.

    Example:
      >>> import jax.numpy as jnp
      >>> class Counter(nnx.Module):
      ...   def __init__(self, rows):
      ...     self.seen = CarriedState(jnp.zeros((rows, 1)))
      >>> nnx.state(Counter(2), CarriedState)["seen"].shape
      (2, 1)
    """


class RoutingState(nnx.BatchStat):
    """What a router of experts did in the last training batch: its weighted losses, and how it spread the tokens.

    The trainer adds the losses to that of the objective and logs the rest; evaluation neither reads nor writes it.

    Example:
      >>> import jax.numpy as jnp
      >>> RoutingState(jnp.zeros(2)).shape
      (2,)
    """
