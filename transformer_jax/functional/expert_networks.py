"""Feed-forward experts on routed tokens: all on all tokens, in blocks of their own, or with a limit for each."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from transformer_jax.errors import ConfigError
from transformer_jax.functional.routing import Routes, expert_load, places_in_experts
from transformer_jax.typing import Array, Float, Int

__all__ = ["Dispatch", "block_size", "run_experts"]

Dispatch = Literal["dense", "blocks", "capacity"]

_Apply = Callable[[Float[Array, "groups rows model"], Any], Float[Array, "groups rows output"]]


def run_experts(
    x: Float[Array, "tokens model"],
    routes: Routes,
    apply: _Apply,
    parameters: Any,
    *,
    dispatch: Dispatch | None = None,
    capacity: int | None = None,
) -> Float[Array, "tokens output"]:
    r"""Outputs of each token's experts, summed by their weights.

    .. math:: y_i = \sum_{e \in T_i} w_{ie} \, f_e(x_i)

    The three ways compute the same, up to rounding: ``"dense"`` all experts on all tokens, for few of both and as a
    reference; ``"blocks"`` each expert on blocks of its own tokens, none is dropped; ``"capacity"`` each expert on its
    first ``capacity`` tokens, and the others get nothing from it. What an expert computes, no number or infinity too,
    reaches no tokens but its own.

    Args:
      x: Tokens.
      routes: From :func:`~transformer_jax.functional.routing.route_to_top`.
      apply: From rows ``[groups, rows, model]`` and parameters of an expert for each group to outputs; a function of
        each row alone.
      parameters: Pytree of arrays with an axis of experts in front.
      dispatch: Which way; ``None``: ``"capacity"`` where one is given, else the cheaper of the others.
      capacity: Tokens that each expert takes, see :func:`~transformer_jax.functional.routing.expert_capacity`.

    Returns:
      The outputs; zero for tokens without an expert.

    Raises:
      ConfigError: If the way is unknown, or a capacity is missing or too much.

    Example:
      >>> from transformer_jax.functional.routing import route_to_top
      >>> routes = route_to_top(jnp.array([[2.0, 0.0], [0.0, 2.0]]), 1)
      >>> scales = jnp.array([10.0, 100.0])
      >>> y = run_experts(jnp.ones((2, 1)), routes, lambda rows, scale: rows * scale[:, None, None], scales)
      >>> (y / routes.weights).round().tolist()
      [[10.0], [100.0]]

    Source: Shazeer et al. 2017, https://arxiv.org/abs/1701.06538, equation 1; capacity: Lepikhin et al. 2021,
    https://arxiv.org/abs/2006.16668, section 2.2; blocks: Gale et al. 2022, https://arxiv.org/abs/2211.15841,
    section 5.
    """
    num_tokens, top_k = routes.experts.shape
    num_experts = routes.probabilities.shape[-1]
    if dispatch is None:
        dispatch = "blocks" if capacity is None else "capacity"
        if (
            dispatch == "blocks"
            and _num_block_rows(num_tokens * top_k, num_experts) >= num_experts * num_tokens
        ):
            dispatch = "dense"
    if dispatch not in ("dense", "blocks", "capacity"):
        raise ConfigError(f"dispatch must be 'dense', 'blocks' or 'capacity', got {dispatch!r}")
    if (dispatch == "capacity") != (capacity is not None):
        raise ConfigError(
            f"dispatch {dispatch!r} got capacity {capacity}: 'capacity' needs one, the others take none"
        )
    if num_tokens == 0:
        return jnp.zeros(
            (0, apply(x[None], jax.tree.map(lambda leaf: leaf[:1], parameters)).shape[-1]), x.dtype
        )
    if dispatch == "dense":
        outputs = apply(jnp.broadcast_to(x, (num_experts, *x.shape)), parameters)
        slots = routes.experts * num_tokens + jnp.arange(num_tokens, dtype=jnp.int32)[:, None]
        slots = jnp.where(routes.experts < num_experts, slots, num_experts * num_tokens)
        return _summed(outputs, slots, routes.weights)
    layout = (
        _in_blocks(routes.experts, num_experts)
        if capacity is None
        else _within_capacity(routes.experts, num_experts, capacity)
    )
    num_slots = layout.num_groups * layout.group_len
    choices = jnp.arange(num_tokens * top_k, dtype=jnp.int32)
    tokens = jnp.full(num_slots, num_tokens, jnp.int32)
    tokens = tokens.at[layout.slots.reshape(-1)].set(choices // top_k, mode="drop")
    rows = jnp.concatenate([x, jnp.zeros((1, x.shape[1]), x.dtype)])[tokens]
    if layout.experts is not None:
        parameters = jax.tree.map(lambda leaf: leaf[layout.experts], parameters)
    outputs = apply(rows.reshape(layout.num_groups, layout.group_len, -1), parameters)
    return _summed(outputs, layout.slots, routes.weights)


def block_size(num_choices: int, num_experts: int) -> int:
    """Rows of a block: a power of two from 8 to 128, about half of what an expert gets on the average.

    Example:
      >>> block_size(4096, 8), block_size(10, 8)
      (128, 8)
    """
    half = max(1, num_choices // (2 * num_experts))
    return min(128, max(8, 1 << (half.bit_length() - 1)))


class _Layout(NamedTuple):
    """Where the choices stand: ``slots`` ``[tokens, chosen]``, one past the last for choices that stand nowhere."""

    slots: Int[Array, "tokens chosen"]
    experts: Int[Array, "groups"] | None
    num_groups: int
    group_len: int


def _num_block_rows(num_choices: int, num_experts: int) -> int:
    size = block_size(num_choices, num_experts)
    return (num_choices // size + min(num_experts, num_choices)) * size


def _in_blocks(experts: Array, num_experts: int) -> _Layout:
    # Not `jax.lax.ragged_dot`: on the CPU it multiplies other experts' rows by zero, so that NaN of one reaches all.
    num_choices = experts.size
    size = block_size(num_choices, num_experts)
    num_groups = _num_block_rows(num_choices, num_experts) // size
    blocks = -(-expert_load(experts, num_experts) // size)
    ends = jnp.cumsum(blocks, dtype=jnp.int32)
    own = jnp.minimum(experts, num_experts - 1)
    slots = (ends - blocks)[own] * size + places_in_experts(experts, num_experts)
    slots = jnp.where(experts < num_experts, slots, num_groups * size)
    of_group = jnp.searchsorted(ends, jnp.arange(num_groups, dtype=jnp.int32), side="right")
    return _Layout(slots, jnp.minimum(of_group, num_experts - 1).astype(jnp.int32), num_groups, size)


def _within_capacity(experts: Array, num_experts: int, capacity: int) -> _Layout:
    places = places_in_experts(experts, num_experts)
    is_kept = (experts < num_experts) & (places < capacity)
    slots = jnp.where(is_kept, experts * capacity + places, num_experts * capacity)
    return _Layout(slots, None, num_experts, capacity)


def _summed(outputs: Array, slots: Array, weights: Array) -> Array:
    """Outputs of each token's choices, ``[groups, rows, output]`` by slots, times their weights."""
    flat = outputs.reshape(-1, outputs.shape[-1])
    has_slot = (slots < flat.shape[0])[..., None]
    # Chosen twice, so that what stands in other slots reaches neither results nor gradients.
    taken = jnp.where(has_slot, flat[jnp.minimum(slots, flat.shape[0] - 1)], 0.0)
    return (taken * weights[..., None].astype(taken.dtype)).sum(axis=1)
