r"""Recurrences that are linear in the state: one after the other, or all steps at once by an associative scan.

.. math:: h_t = a_t \odot h_{t-1} + b_t

Two such steps make one of the same form, :math:`(a_2 a_1, a_2 b_1 + b_2)`, so that a scan over time can be a tree of
depth :math:`\log_2 T`. With :math:`0 \le a \le 1` no product grows, whatever the length; the form in logarithms is for
decays so small that their products vanish in float32 and that something must still divide by them.
"""

from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax

from transformer_jax.errors import ConfigError, nearest_hint
from transformer_jax.functional.dtypes import as_array, wide
from transformer_jax.functional.recurrent.cells import Carry, Cell
from transformer_jax.functional.recurrent.scan import moved
from transformer_jax.typing import Array, Bool, Float

Method = Literal["sequential", "associative"]
METHODS: tuple[Method, ...] = ("sequential", "associative")


@runtime_checkable
class LinearCell(Protocol):
    """A cell whose step is linear in its one carry."""

    def coefficients(
        self, projected: Float[Array, "*positions gates"]
    ) -> tuple[Float[Array, "*positions hidden"], Float[Array, "*positions hidden"]]:
        """Decay and addend of every position, from the inputs alone."""


def linear_recurrence(
    decay: Float[Array, "time batch hidden"],
    addend: Float[Array, "time batch hidden"],
    initial: Float[Array, "batch hidden"],
    *,
    method: Method = "sequential",
    reverse: bool = False,
    unroll: int = 1,
) -> Float[Array, "time batch hidden"]:
    r"""All states of a recurrence that is linear in its state.

    .. math:: h_t = a_t \odot h_{t-1} + b_t

    The gradient is a recurrence of the same form in the other direction, :math:`g_t = \bar h_t + a_{t+1} g_{t+1}`, with
    :math:`\bar b_t = g_t` and :math:`\bar a_t = g_t \odot h_{t-1}`; states and decays are all that is kept.

    Args:
      decay: :math:`a`, time first.
      addend: :math:`b`.
      initial: :math:`h_0`.
      method: ``"sequential"``, one step after the other, or ``"associative"``, a tree over time.
      reverse: From the last step to the first.
      unroll: Steps an iteration of the sequential loop.

    Returns:
      The states, float32 (float64 where an argument is).

    Raises:
      ConfigError: If the method is unknown.

    Example:
      >>> ones = jnp.ones((4, 1, 1))
      >>> linear_recurrence(0.5 * ones, ones, jnp.zeros((1, 1)), method="associative")[:, 0, 0].tolist()
      [1.0, 1.5, 1.75, 1.875]

    Source: Blelloch 1990, "Prefix sums and their applications", section 1.4; Martin and Cundy 2018,
    https://arxiv.org/abs/1709.04057.
    """
    if method not in METHODS:
        raise ConfigError(f"method must be one of {METHODS}; got '{method}'{nearest_hint(method, METHODS)}")
    decay, addend, initial = (
        as_array(name, array) for name, array in (("decay", decay), ("addend", addend), ("initial", initial))
    )
    dtype = wide(decay, addend, initial)
    return _linear(method, reverse, unroll, *(array.astype(dtype) for array in (decay, addend, initial)))


def linear_recurrence_in_logs(
    log_decay: Float[Array, "time batch hidden"],
    log_addend: Float[Array, "time batch hidden"],
    log_initial: Float[Array, "batch hidden"],
) -> Float[Array, "time batch hidden"]:
    r"""Logarithms of the states of a linear recurrence whose parts are all positive.

    .. math:: \log h_t = A_t + \log \Big( e^{\log h_0} + \sum_{s \le t} e^{\log b_s - A_s} \Big), \quad
       A_t = \sum_{s \le t} \log a_s

    The sum runs in logarithms, float32 (float64 where an argument is), as a maximum and a rest that are scanned
    together: products of decays below :math:`10^{-38}` keep their ratio.

    Args:
      log_decay: :math:`\log a`, time first.
      log_addend: :math:`\log b`; minus infinity for zero.
      log_initial: :math:`\log h_0`; minus infinity for zero.

    Returns:
      The logarithms of the states.

    Example:
      >>> ones = jnp.ones((3, 1, 1))
      >>> logs = linear_recurrence_in_logs(jnp.log(0.5 * ones), 0 * ones, jnp.full((1, 1), -jnp.inf))
      >>> jnp.exp(logs)[:, 0, 0].round(4).tolist()
      [1.0, 1.5, 1.75]

    Source: Heinsen 2023, https://arxiv.org/abs/2311.06281; Feng et al. 2024, https://arxiv.org/abs/2410.01201,
    appendix B.
    """

    def join(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
        return left[0] + right[0], jnp.logaddexp(left[1] + right[0], right[1])

    given = {"log_decay": log_decay, "log_addend": log_addend, "log_initial": log_initial}
    arrays = [as_array(name, array) for name, array in given.items()]
    log_decay, log_addend, log_initial = (array.astype(wide(*arrays)) for array in arrays)
    decays, states = lax.associative_scan(join, (log_decay, log_addend))
    return jnp.logaddexp(decays + log_initial[None], states)


def _sequential(decay: Array, addend: Array, initial: Array, reverse: bool, unroll: int) -> Array:
    def step(state: Array, at_time: tuple[Array, Array]) -> tuple[Array, Array]:
        state = at_time[0] * state + at_time[1]
        return state, state

    return lax.scan(step, initial, (decay, addend), reverse=reverse, unroll=unroll)[1]


def _associative(decay: Array, addend: Array, initial: Array, reverse: bool) -> Array:
    def join(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
        return right[0] * left[0], right[0] * left[1] + right[1]

    decays, states = lax.associative_scan(join, (decay, addend), reverse=reverse)
    return states + decays * initial[None]


def _states(method: Method, reverse: bool, unroll: int, decay: Array, addend: Array, initial: Array) -> Array:
    if decay.shape[0] == 0:
        return addend
    if method == "sequential":
        return _sequential(decay, addend, initial, reverse, unroll)
    return _associative(decay, addend, initial, reverse)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _linear(method: Method, reverse: bool, unroll: int, decay: Array, addend: Array, initial: Array) -> Array:
    return _states(method, reverse, unroll, decay, addend, initial)


def _linear_forward(
    method: Method, reverse: bool, unroll: int, decay: Array, addend: Array, initial: Array
) -> tuple[Array, tuple[Array, Array, Array]]:
    states = _states(method, reverse, unroll, decay, addend, initial)
    return states, (decay, states, initial)


def _linear_backward(
    method: Method, reverse: bool, unroll: int, saved: tuple[Array, Array, Array], cotangent: Array
) -> tuple[Array, Array, Array]:
    decay, states, initial = saved
    if decay.shape[0] == 0:
        return decay, cotangent, jnp.zeros_like(initial)
    # The decay that leads from each step to the one after it; none leads out of the last.
    onward, previous = moved(decay, jnp.zeros_like(initial), not reverse), moved(states, initial, reverse)
    arriving = _linear(method, not reverse, unroll, onward, cotangent, jnp.zeros_like(initial))
    first = -1 if reverse else 0
    return arriving * previous, arriving, decay[first] * arriving[first]


_linear.defvjp(_linear_forward, _linear_backward)


def run_linear(
    cell: Cell,
    inputs: Float[Array, "time batch features"],
    carry: Carry,
    valid: Bool[Array, "time batch"] | None,
    resets: Bool[Array, "time batch"] | None,
    *,
    reverse: bool,
    unroll: int,
    method: Method,
) -> tuple[Float[Array, "time batch hidden"], Carry]:
    """A linear cell over sequences: a step that does not exist decays by 1 and adds nothing, a reset decays by 0.

    Raises:
      NotImplementedError: If the cell is not linear in its carry.
    """
    if not isinstance(cell, LinearCell):
        raise NotImplementedError(f"{type(cell).__name__} is not linear in its carry")
    decay, addend = cell.coefficients(cell.project(inputs))
    if resets is not None:
        decay = jnp.where(resets[..., None], 0.0, decay)
    if valid is not None:
        exists: Any = valid[..., None]
        decay, addend = jnp.where(exists, decay, 1.0), jnp.where(exists, addend, 0.0)
    if decay.shape[0] == 0:
        return addend, carry
    states = linear_recurrence(decay, addend, carry, method=method, reverse=reverse, unroll=unroll)
    final = states[0 if reverse else -1]
    return (states if valid is None else jnp.where(valid[..., None], states, 0.0)), final
