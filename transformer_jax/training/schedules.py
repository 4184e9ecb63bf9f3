"""Learning rate over updates, as pure functions of the number of updates already done."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from transformer_jax.training.config import (
    Constant,
    Cosine,
    LinearDecay,
    Noam,
    ScheduleConfig,
    warmup_updates,
)
from transformer_jax.typing import Array, Float, Int

Schedule = Callable[[Int[Array, ""] | int], Float[Array, ""]]


def build_schedule(config: ScheduleConfig, *, updates: Int[Array, ""] | int) -> Schedule:
    r"""The function from the number of updates done to the learning rate of the next one.

    With :math:`t` = updates done + 1, :math:`w` the warm-up (see `warmup_updates`), :math:`n` the length of the run:

    .. math::
      \text{Noam: } & f\, d^{-1/2} \min(t^{-1/2},\; t\, w^{-3/2}) \\
      \text{others: } & p \min(1, t / w) \cdot s(\max(0, (t - w) / (n - w)))

    where :math:`s(x)` is 1 (constant), :math:`1 - x` counted so that the last update still moves (linear), or
    :math:`r + (1 - r)(1 + \cos \pi x) / 2` (cosine).

    Args:
      config: Which schedule, and its sizes.
      updates: Length of the run; may be traced, so that one program serves runs of every length.

    Returns:
      The schedule: a scalar int in, a float32 scalar out; traceable.

    Example:
      >>> schedule = build_schedule(Noam(model_dim=512, warmup_updates=4000), updates=100_000)
      >>> print(f"{float(schedule(3999)):.6f}")  # the paper's peak
      0.000699

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 3.
    """

    rising: Any = (
        warmup_updates(config, updates) if isinstance(updates, int) else _traced_warmup(config, updates)
    )
    length: Any = updates if isinstance(updates, int) else updates.astype(jnp.float32)

    def progress(step: Float[Array, ""], end: Any) -> Float[Array, ""]:
        return jnp.clip((step - rising) / jnp.maximum(end - rising, 1), 0.0, 1.0)

    def warmup(step: Float[Array, ""]) -> Float[Array, ""]:
        return jnp.minimum(1.0, step / jnp.maximum(rising, 1))

    def schedule(updates_done: Int[Array, ""] | int) -> Float[Array, ""]:
        step = jnp.asarray(updates_done, jnp.float32) + 1.0
        match config:
            case Noam():
                slope = rising**-1.5
                rate = config.factor * config.model_dim**-0.5 * jnp.minimum(step**-0.5, step * slope)
            case Constant():
                rate = config.peak_learning_rate * warmup(step)
            case LinearDecay():
                rate = config.peak_learning_rate * warmup(step) * (1.0 - progress(step, length + 1))
            case Cosine():
                falling = 0.5 * (1.0 + jnp.cos(jnp.pi * progress(step, length)))
                share = config.final_ratio + (1.0 - config.final_ratio) * falling
                rate = config.peak_learning_rate * warmup(step) * share
        return jnp.asarray(rate, jnp.float32)

    return schedule


def _traced_warmup(config: ScheduleConfig, updates: Int[Array, ""]) -> Any:
    """`warmup_updates` for a length that is traced, as float32; a number where it does not depend on the length."""
    if not isinstance(config, Cosine | LinearDecay):
        return config.warmup_updates
    found = jnp.where(config.warmup_updates >= updates, updates // 10, config.warmup_updates)
    return found.astype(jnp.float32)
