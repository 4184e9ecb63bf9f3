"""Routing of tokens to experts: who computes what, the losses that balance it, and where each token stands."""

import math

import jax
import jax.numpy as jnp

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.dtypes import wide
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Bool, Float, Int

__all__ = [
    "Routes",
    "balance_loss",
    "expert_capacity",
    "expert_load",
    "places_in_experts",
    "route_by_experts",
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
    probabilities = jax.nn.softmax(logits.astype(wide(logits)), axis=-1)
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
    share = (load / jnp.maximum(load.sum(), 1)).astype(routes.probabilities.dtype)
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
    logits = logits.astype(wide(logits))
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
    _check_factor(factor)
    return max(1, min(num_tokens, math.ceil(top_k * num_tokens * factor / num_experts)))


def places_in_experts(experts: Int[Array, "tokens chosen"], num_experts: int) -> Int[Array, "tokens chosen"]:
    """The place of each choice in the queue of its expert, from zero, in the order of the tokens.

    Unlike algorithm 1 of GShard, which lets all first choices in before any second one: there, what becomes of a
    token's second choice depends on the tokens after it, which a causal model must not see.

    Args:
      experts: From `route_to_top`, tokens of a sequence in their order.
      num_experts: How many there are; choices of no expert have any place.

    Returns:
      A place for each choice.

    Raises:
      ShapeError: If ``experts`` has not two axes.

    Example:
      >>> places_in_experts(jnp.array([[1, 0], [1, 2], [0, 1]]), 3).tolist()
      [[0, 0], [1, 0], [1, 2]]

    Source: Fedus et al. 2022, https://arxiv.org/abs/2101.03961, section 2.2 and figure 15; GShard: Lepikhin et al.
    2021, https://arxiv.org/abs/2006.16668.
    """
    if experts.ndim != 2:
        raise ShapeError(f"experts must be [tokens, chosen], got shape {experts.shape}")
    chosen = experts.reshape(-1, 1) == jnp.arange(num_experts)[None, :]
    places = jnp.where(chosen, jnp.cumsum(chosen, axis=0, dtype=jnp.int32) - 1, 0).sum(
        axis=1, dtype=jnp.int32
    )
    return places.reshape(experts.shape)


def route_by_experts(
    logits: Float[Array, "batch time experts"],
    capacity_factor: float,
    *,
    valid: Bool[Array, "batch time"] | None = None,
) -> Routes:
    r"""Let each expert choose its most probable tokens of each sequence, so that all experts work equally much.

    .. math:: p = \mathrm{softmax}(z), \qquad
       w_{ie} = p_{ie} \;\text{for}\; i \in \mathrm{top}_{\lceil c n / E \rceil}(p_{:e})

    over the :math:`n` real tokens of a sequence and its :math:`E` experts. A token may be computed by several experts
    or by none. Tokens compete inside of their own sequence, so that no other row and no padding changes the result;
    but a token's experts depend on the tokens after it: causal models must not use it, nor can they decode with it.

    Args:
      logits: Of the router, any float dtype; computed in float32.
      capacity_factor: :math:`c`, how many experts compute a token on the average; two in the paper.
      valid: Which tokens count; the others are chosen by no expert. ``None`` = all.

    Returns:
      The routes of all tokens, ``batch * time`` of them, with ``chosen`` = experts: number and weight of each expert
      that chose the token. An expert has at most ``batch * ceil(c * time / E)`` tokens, which is the capacity to run
      them with.

    Raises:
      ConfigError: If the factor is not above zero.

    Example:
      >>> logits = jnp.log(jnp.array([[[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]]]))
      >>> route_by_experts(logits, 1.0).experts.tolist()
      [[0, 2], [0, 2], [2, 1], [2, 1]]

    Source: Zhou et al. 2022, https://arxiv.org/abs/2202.09368, section 3.2.
    """
    num_rows, length, num_experts = logits.shape
    _check_factor(capacity_factor)
    real = jnp.ones((num_rows, length), bool) if valid is None else valid
    probabilities = jax.nn.softmax(logits.astype(wide(logits)), axis=-1)
    shares = [min(n, math.ceil(capacity_factor * n / num_experts)) for n in range(length + 1)]
    taken = jnp.array(shares, jnp.int32)[real.sum(axis=1, dtype=jnp.int32)]
    order = jnp.argsort(jnp.where(real[..., None], -probabilities, jnp.inf), axis=1, stable=True)
    ranks = jnp.argsort(order, axis=1, stable=True)
    chosen = (ranks < taken[:, None, None]) & real[..., None]
    numbers = jnp.arange(num_experts, dtype=jnp.int32)[None, None, :]
    flat = (num_rows * length, num_experts)
    return Routes(
        jnp.where(chosen, numbers, num_experts).reshape(flat),
        jnp.where(chosen, probabilities, 0.0).reshape(flat),
        probabilities.reshape(flat),
    )


def _check_factor(factor: float) -> None:
    if not 0.0 < factor < math.inf:
        raise ConfigError(
            f"capacity_factor must be a number above 0, got {factor}: an expert would take no token"
        )


def _mean(
    rows: Float[Array, "tokens features"], valid: Bool[Array, "tokens"] | None
) -> Float[Array, "features"]:
    if valid is None:
        return rows.mean(axis=0) if rows.shape[0] else jnp.zeros(rows.shape[1:], rows.dtype)
    total = jnp.where(valid[:, None], rows, 0.0).sum(axis=0)
    return total / jnp.maximum(valid.sum(), 1).astype(total.dtype)
