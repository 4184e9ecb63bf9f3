"""Updates of the rows of large tables that a batch reads: their cost is that of the batch, not of the tables."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from transformer_jax.functional.losses import LossSum
from transformer_jax.training.contracts import RowObjective
from transformer_jax.training.state import NamedArrays
from transformer_jax.typing import Array, Float, Int


class RowAdagradState(NamedTuple):
    """State of `row_adagrad`.

    Attributes:
      done: Updates done.
      sums: Running sum of each row, by the parameter's name, ``[rows]``; of each number of a parameter of one axis.
    """

    done: Int[Array, ""]
    sums: NamedArrays


class RowChange(NamedTuple):
    """An update by rows.

    Attributes:
      params: Parameters after it.
      optimizer_state: State of the optimiser after it.
      loss: Summed loss of the batch.
      metrics: Further metrics.
      norm: Norm of the gradient of the summed loss by all uses of rows.
    """

    params: NamedArrays
    optimizer_state: Any
    loss: LossSum
    metrics: dict[str, LossSum]
    norm: Float[Array, ""]


def row_adagrad(schedule: Callable[[Any], Array], *, initial: float) -> optax.GradientTransformation:
    r"""Adagrad with one running sum a row, of whole parameters.

    .. math:: G_r \leftarrow G_r + \lVert g_r \rVert^2 / d, \quad \Delta p_r = - \eta \, g_r / \sqrt{G_r}

    Args:
      schedule: From updates done to the learning rate.
      initial: First value of the sums.

    Returns:
      A transformation whose output is added to the parameters.

    Example:
      >>> optimizer = row_adagrad(lambda updates_done: 0.1, initial=1.0)
      >>> params = {"table": jnp.zeros((2, 2))}
      >>> gradient = {"table": jnp.array([[3.0, 1.0], [0.0, 0.0]])}
      >>> changes, state = optimizer.update(gradient, optimizer.init(params), params)
      >>> [f"{value:.4f}" for value in changes["table"][0]], state.sums["table"].tolist()
      (['-0.1225', '-0.0408'], [6.0, 1.0])

    Source: Duchi et al. 2011, https://jmlr.org/papers/v12/duchi11a.html; by rows: Gupta et al. 2014.
    """

    def init(params: NamedArrays) -> RowAdagradState:
        sums = {name: jnp.full(array.shape[:1], initial, jnp.float32) for name, array in params.items()}
        return RowAdagradState(jnp.int32(0), sums)

    def update(gradient: NamedArrays, state: RowAdagradState, params: Any = None) -> tuple[Any, Any]:
        rate = schedule(state.done)
        sums = {name: state.sums[name] + _mean_squares(array) for name, array in gradient.items()}
        changes = {name: -rate * _over_roots(array, sums[name]) for name, array in gradient.items()}
        return changes, RowAdagradState(state.done + 1, sums)

    return optax.GradientTransformation(init, update)


def change_rows(
    objective: RowObjective,
    params: NamedArrays,
    state: RowAdagradState,
    batch: Any,
    *,
    schedule: Callable[[Any], Array],
) -> RowChange:
    """One update of the rows that a batch reads, each use of a row counting by itself; other parameters as a whole.

    Args:
      objective: Says which rows, and what the loss is of them.
      params: Parameters by their dotted path.
      state: The optimiser's.
      batch: The batch.
      schedule: From updates done to the learning rate.
    """
    rows = objective.rows(batch)

    def summed_loss(tables: NamedArrays) -> tuple[Array, Any]:
        loss, metrics = objective.on_rows(tables, batch)
        return loss.sum, (loss, metrics)

    read = {
        name: array.at[rows[name]].get(mode="promise_in_bounds") if name in rows else array
        for name, array in params.items()
    }
    gradient, (loss, metrics) = jax.grad(summed_loss, has_aux=True)(read)
    rate = schedule(state.done)
    changed, sums = {}, {}
    for name, array in params.items():
        slope, squares = gradient[name], _mean_squares(gradient[name])
        if name not in rows:
            sums[name] = state.sums[name] + squares
            changed[name] = array - rate * _over_roots(slope, sums[name])
            continue
        sums[name] = state.sums[name].at[rows[name]].add(squares, mode="promise_in_bounds")
        used = sums[name].at[rows[name]].get(mode="promise_in_bounds")
        changed[name] = array.at[rows[name]].add(-rate * _over_roots(slope, used), mode="promise_in_bounds")
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in gradient.values()))
    return RowChange(changed, RowAdagradState(state.done + 1, sums), loss, metrics, norm)


def _mean_squares(gradient: Array) -> Array:
    """Mean square of each row."""
    squares = jnp.square(gradient.astype(jnp.float32))
    return squares.reshape(gradient.shape[0], -1).mean(axis=-1) if gradient.ndim > 1 else squares


def _over_roots(gradient: Array, sums: Array) -> Array:
    return gradient * jax.lax.rsqrt(sums).reshape(-1, *(1,) * (gradient.ndim - 1)).astype(gradient.dtype)
