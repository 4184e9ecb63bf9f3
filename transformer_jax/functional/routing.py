"""Routing of tokens to experts: who computes what, the losses that balance it, and where each token stands."""

import math

import jax
import jax.numpy as jnp

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Bool, Float, Int

__all__ = [
    "Routes",
    "balance_loss",
    "expert_capacity",
    "expert_load",
    "places_in_experts",
    "route_to_top",
    "router_z_loss",
]


@pytree_dataclass
class Routes:
    """Which experts compute each token, and what their outputs weigh.

    Attributes:
      experts: Numbers of the chosen experts, the most probable first, ``[tokens, chosen]``; the number of experts
        itself where a token goes to none.
      weights: What the outputs are multiplied by, ``[tokens, chosen]``; zero where a token goes to none.
      probabilities: Softmax over all experts, ``[tokens, experts]``.
    """

    experts: Int[Array, "tokens chosen"]
    weights: Float[Array, "tokens chosen"]
    probabilities: Float[Array, "tokens experts"]


def route_to_top(
    logits: Float[Array, "tokens experts"], top_k: int, *, valid: Bool[Array, "tokens"] | None = None
) -> Routes:
    r"""Send each token to its ``top_k`` most probable experts.

    .. math:: p = \mathrm{softmax}(z), \qquad
       w_e = p_e \big/ \textstyle\sum_{e' \in T} p_{e'} \;\text{for}\; e \in T = \mathrm{top}_k(p)

    With one expert a token its weight is :math:`p_e` itself, which the router learns by; of equally probable experts
    the lower number wins.

    Args:
      logits: Of the router, any float dtype; computed in float32.
      top_k: Experts of each token.
      valid: Which tokens count; the others go to no expert. ``None`` = all.

    Returns:
      The routes.

    Raises:
      ConfigError: If ``top_k`` is not between 1 and the number of experts.

    Example:
      >>> routes = route_to_top(jnp.log(jnp.array([[0.1, 0.6, 0.3], [0.8, 0.1, 0.1]])), 2)
      >>> routes.experts.tolist(), [round(weight, 3) for weight in routes.weights[0].tolist()]
      ([[1, 2], [0, 1]], [0.667, 0.333])

    Source: Shazeer et al. 2017, https://arxiv.org/abs/1701.06538, section 2.1, without noise; one expert: Fedus et al.
    2022, https://arxiv.org/abs/2101.03961, section 2.1.
    """
    num_experts = logits.shape[-1]
    if not 1 <= top_k <= num_experts:
        raise ConfigError(f"top_k must be 1 to the number of experts, {num_experts}; got {top_k}")
    probabilities = jax.nn.softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), axis=-1)
    weights, experts = jax.lax.top_k(probabilities, top_k)
    if top_k > 1:
        weights = weights / weights.sum(axis=-1, keepdims=True)
    if valid is not None:
        experts = jnp.where(valid[:, None], experts, num_experts)
        weights = jnp.where(valid[:, None], weights, 0.0)
    return Routes(experts.astype(jnp.int32), weights, probabilities)


def expert_load(experts: Int[Array, "tokens chosen"], num_experts: int) -> Int[Array, "experts"]:
    """How many tokens go to each expert.

    Example:
      >>> expert_load(jnp.array([[1, 0], [1, 3]]), 3).tolist()
      [1, 2, 0]
    """
    return (experts.reshape(-1, 1) == jnp.arange(num_experts)[None, :]).sum(axis=0, dtype=jnp.int32)


def balance_loss(routes: Routes, *, valid: Bool[Array, "tokens"] | None = None) -> Float[Array, ""]:
    r"""Load-balancing loss: one where tokens spread evenly, the number of experts where all go to one.

    .. math:: L = E \sum_e f_e P_e

    over the :math:`E` experts, with :math:`f_e` the share of choices that fell on an expert and :math:`P_e` its mean
    probability. The gradient goes through :math:`P_e` alone.

    Args:
      routes: Of all tokens.
      valid: Which tokens count; ``None`` = all.

    Returns:
      The loss, float32; zero if no token counts.

    Example:
      >>> even = route_to_top(jnp.log(jnp.array([[0.7, 0.3], [0.3, 0.7]])), 1)
      >>> round(float(balance_loss(even)), 4)
      1.0

    Source: Fedus et al. 2022, https://arxiv.org/abs/2101.03961, equations 4 to 6.
    """
    num_experts = routes.probabilities.shape[-1]
    load = expert_load(routes.experts, num_experts)
    share = load / jnp.maximum(load.sum(), 1)
    return num_experts * (jax.lax.stop_gradient(share) * _mean(routes.probabilities, valid)).sum()


def router_z_loss(
    logits: Float[Array, "tokens experts"], *, valid: Bool[Array, "tokens"] | None = None
) -> Float[Array, ""]:
    r"""Loss that keeps a router's logits small.

    .. math:: L = \frac{1}{n} \sum_i \Big( \log \sum_e e^{z_{ie}} \Big)^2

    Args:
      logits: Of the router.
      valid: Which tokens count; ``None`` = all.

    Returns:
      The loss, float32; zero if no token counts.

    Example:
      >>> round(float(router_z_loss(jnp.zeros((3, 1)))), 4)
      0.0

    Source: Zoph et al. 2022, https://arxiv.org/abs/2202.08906, equation 5.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return _mean(jnp.square(jax.nn.logsumexp(logits, axis=-1))[:, None], valid)[0]


def expert_capacity(num_tokens: int, num_experts: int, top_k: int, factor: float) -> int:
    r"""Tokens that an expert takes of a batch, :math:`\lceil k n f / E \rceil`, and no more than there are.

    Args:
      num_tokens: Of the batch, padding included.
      num_experts: How many there are.
      top_k: Experts of each token.
      factor: One leaves room for tokens that spread evenly, and for no others.

    Raises:
      ConfigError: If the factor is not above zero.

    Example:
      >>> expert_capacity(64, 8, 2, 1.25)
      20

    Source: Fedus et al. 2022, https://arxiv.org/abs/2101.03961, equation 3.
    """
    if not 0.0 < factor < math.inf:
        raise ConfigError(
            f"capacity_factor must be a number above 0, got {factor}: an expert would take no token"
        )
    return max(1, min(num_tokens, math.ceil(top_k * num_tokens * factor / num_experts)))


def places_in_experts(experts: Int[Array, "tokens chosen"], num_experts: int) -> Int[Array, "tokens chosen"]:
    """The place of each choice in the queue of its expert, from zero: first choices of all tokens, then second ones.

    Args:
      experts: From `route_to_top`.
      num_experts: How many there are; choices of no expert have any place.

    Example:
      >>> places_in_experts(jnp.array([[1, 0], [1, 2], [0, 1]]), 3).tolist()
      [[0, 1], [1, 0], [0, 2]]

    Source: Lepikhin et al. 2021, https://arxiv.org/abs/2006.16668, algorithm 1.
    """
    if experts.ndim != 2:
        raise ShapeError(f"experts must be [tokens, chosen], got shape {experts.shape}")
    chosen = experts.T.reshape(-1, 1) == jnp.arange(num_experts)[None, :]
    places = jnp.where(chosen, jnp.cumsum(chosen, axis=0, dtype=jnp.int32) - 1, 0).sum(
        axis=1, dtype=jnp.int32
    )
    return places.reshape(experts.shape[::-1]).T


def _mean(
    rows: Float[Array, "tokens features"], valid: Bool[Array, "tokens"] | None
) -> Float[Array, "features"]:
    if valid is None:
        return rows.mean(axis=0) if rows.shape[0] else jnp.zeros(rows.shape[1:], rows.dtype)
    total = jnp.where(valid[:, None], rows, 0.0).sum(axis=0)
    return total / jnp.maximum(valid.sum(), 1)
