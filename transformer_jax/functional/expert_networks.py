"""Feed-forward experts on routed tokens: all on all tokens, in blocks of their own, or with a limit for each."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from transformer_jax.errors import ConfigError
from transformer_jax.functional.routing import Routes, expert_load, places_in_experts
from transformer_jax.typing import Array, Float, Int

__all__ = ["Dispatch", "block_size", "run_choices", "run_experts"]

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
    outputs = run_choices(x[:, None], routes, apply, parameters, dispatch=dispatch, capacity=capacity)
    return (outputs * routes.weights[..., None].astype(outputs.dtype)).sum(axis=1)


def run_choices(
    x: Float[Array, "tokens one_or_chosen model"],
    routes: Routes,
    apply: _Apply,
    parameters: Any,
    *,
    dispatch: Dispatch | None = None,
    capacity: int | None = None,
) -> Float[Array, "tokens chosen output"]:
    r"""The output of each of a token's experts by itself, without weights.

    .. math:: y_{ij} = f_{e_{ij}}(x_{ij})

    Args:
      x: Inputs of each choice, or one input for all choices of a token.
      routes: Of which only the numbers of the experts are read.
      apply: As in :func:`run_experts`.
      parameters: As there.
      dispatch: As there.
      capacity: As there.

    Returns:
      The outputs; zero for choices of no expert, and for those that found theirs full.

    Raises:
      ConfigError: As :func:`run_experts`.

    Example:
      >>> from transformer_jax.functional.routing import route_to_top
      >>> routes = route_to_top(jnp.array([[2.0, 0.0], [0.0, 2.0]]), 2)
      >>> scales = jnp.array([10.0, 100.0])
      >>> run_choices(
      ...   jnp.ones((2, 1, 1)), routes, lambda rows, scale: rows * scale[:, None, None], scales)[..., 0].tolist()
      [[10.0, 100.0], [100.0, 10.0]]
    """
    num_tokens, top_k = routes.experts.shape
    num_experts = routes.probabilities.shape[-1]
    num_inputs = num_tokens * x.shape[1]
    if dispatch is None:
        dispatch = "blocks" if capacity is None else "capacity"
        in_blocks = _num_block_rows(num_tokens * top_k, num_experts)
        if dispatch == "blocks" and in_blocks >= num_experts * num_inputs:
            dispatch = "dense"
    if dispatch not in ("dense", "blocks", "capacity"):
        raise ConfigError(f"dispatch must be 'dense', 'blocks' or 'capacity', got {dispatch!r}")
    if (dispatch == "capacity") != (capacity is not None):
        raise ConfigError(
            f"dispatch {dispatch!r} got capacity {capacity}: 'capacity' needs one, the others take none"
        )
    inputs = x.reshape(num_inputs, x.shape[-1])
    if num_tokens == 0:
        width = apply(inputs[None], jax.tree.map(lambda leaf: leaf[:1], parameters)).shape[-1]
        return jnp.zeros((0, top_k, width), x.dtype)
    choices = jnp.arange(num_tokens * top_k, dtype=jnp.int32).reshape(num_tokens, top_k)
    own_input = choices if x.shape[1] == top_k else choices // top_k
    if dispatch == "dense":
        outputs = apply(jnp.broadcast_to(inputs, (num_experts, *inputs.shape)), parameters)
        slots = routes.experts * num_inputs + own_input
        return _taken(outputs, jnp.where(routes.experts < num_experts, slots, num_experts * num_inputs))
    layout = (
        _in_blocks(routes.experts, num_experts)
        if capacity is None
        else _within_capacity(routes.experts, num_experts, capacity)
    )
    num_slots = layout.num_groups * layout.group_len
    of_slot = jnp.full(num_slots, num_inputs, jnp.int32)
    of_slot = of_slot.at[layout.slots.reshape(-1)].set(own_input.reshape(-1), mode="drop")
    rows = jnp.concatenate([inputs, jnp.zeros((1, inputs.shape[1]), x.dtype)])[of_slot]
    if layout.experts is not None:
        parameters = jax.tree.map(lambda leaf: leaf[layout.experts], parameters)
    outputs = apply(rows.reshape(layout.num_groups, layout.group_len, -1), parameters)
    return _taken(outputs, layout.slots)


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


def _taken(outputs: Array, slots: Array) -> Array:
    """Outputs ``[groups, rows, output]`` of the slots ``[tokens, chosen]``; zero for those past the last one."""
    flat = outputs.reshape(-1, outputs.shape[-1])
    has_slot = (slots < flat.shape[0])[..., None]
    # Chosen twice, so that what stands in other slots reaches neither results nor gradients.
    return jnp.where(has_slot, flat[jnp.minimum(slots, flat.shape[0] - 1)], 0.0)
