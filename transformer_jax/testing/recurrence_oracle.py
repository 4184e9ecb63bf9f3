"""The recurrent cells as NumPy loops in float64, a step at a time, from the papers' equations.

Arrays may have further axes before their own, the same in all: a run for each entry, as central differences want.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from transformer_jax.functional.recurrent import (
    DiagonalCell,
    GatedCell,
    GRUCell,
    LSTMCell,
    MinGRUCell,
    MinLSTMCell,
    RNNCell,
)

Parameters = Mapping[str, np.ndarray]
Parts = tuple[np.ndarray, ...]  # of a carry, ``[..., rows, hidden]``, the output first
Step = Callable[[Parameters, Parts, np.ndarray], Parts]


@dataclasses.dataclass(frozen=True, eq=False)
class CellCase:
    """A row of the contract's suite: a cell, and its equations once more.

    Attributes:
      name: Of the row.
      cell: The cell's class.
      step: The carry of rows after the inputs ``[..., rows, features]``, in NumPy.
      statics: Static fields of the cell.
    """

    name: str
    cell: type[GatedCell]
    step: Step
    statics: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + np.exp(-x))


def _of_inputs(parameters: Parameters, x: np.ndarray) -> np.ndarray:
    return x @ parameters["input_weight"] + parameters["bias"][..., None, :]


def _total(parameters: Parameters, carry: Parts, x: np.ndarray) -> np.ndarray:
    return _of_inputs(parameters, x) + carry[0] @ parameters["recurrent_weight"]


def _rnn_tanh(parameters: Parameters, carry: Parts, x: np.ndarray) -> Parts:
    return (np.tanh(_total(parameters, carry, x)),)


def _rnn_relu(parameters: Parameters, carry: Parts, x: np.ndarray) -> Parts:
    return (np.maximum(_total(parameters, carry, x), 0.0),)


def _lstm(parameters: Parameters, carry: Parts, x: np.ndarray) -> Parts:
    i, f, g, o = np.split(_total(parameters, carry, x), 4, axis=-1)
    memory = sigmoid(f) * carry[1] + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(memory), memory


def _gru(parameters: Parameters, carry: Parts, x: np.ndarray) -> Parts:
    of_inputs, of_state = _of_inputs(parameters, x), carry[0] @ parameters["recurrent_weight"]
    (input_r, input_z, input_n), (state_r, state_z, state_n) = (
        np.split(shares, 3, axis=-1) for shares in (of_inputs, of_state)
    )
    r, z = sigmoid(input_r + state_r), sigmoid(input_z + state_z)
    n = np.tanh(input_n + r * (state_n + parameters["recurrent_bias"][..., None, :]))
    return ((1.0 - z) * n + z * carry[0],)


def _candidate(x: np.ndarray) -> np.ndarray:
    return np.where(x >= 0, x + 0.5, sigmoid(x))


def _min_gru(parameters: Parameters, carry: Parts, x: np.ndarray) -> Parts:
    update, inner = np.split(_of_inputs(parameters, x), 2, axis=-1)
    z = sigmoid(update)
    return ((1.0 - z) * carry[0] + z * _candidate(inner),)


def _min_lstm(parameters: Parameters, carry: Parts, x: np.ndarray) -> Parts:
    forget, write, inner = np.split(_of_inputs(parameters, x), 3, axis=-1)
    f, i = sigmoid(forget), sigmoid(write)
    return ((f * carry[0] + i * _candidate(inner)) / (f + i),)


def _diagonal(parameters: Parameters, carry: Parts, x: np.ndarray) -> Parts:
    decay = sigmoid(parameters["decay"])[..., None, :]
    return (decay * carry[0] + np.sqrt(1.0 - decay**2) * _of_inputs(parameters, x),)


CELL_CASES: tuple[CellCase, ...] = (
    CellCase("rnn_tanh", RNNCell, _rnn_tanh, {"activation": "tanh"}),
    CellCase("rnn_relu", RNNCell, _rnn_relu, {"activation": "relu"}),
    CellCase("lstm", LSTMCell, _lstm),
    CellCase("gru", GRUCell, _gru),
    CellCase("min_gru", MinGRUCell, _min_gru),
    CellCase("min_lstm", MinLSTMCell, _min_lstm),
    CellCase("diagonal", DiagonalCell, _diagonal),
)
"""One row a cell."""

_BY_NAME = {case.name: case for case in CELL_CASES}
CELL_KINDS = tuple(_BY_NAME)


def cell_case(kind: str | CellCase) -> CellCase:
    """A row by its name; a row of one's own is returned as it is."""
    return kind if isinstance(kind, CellCase) else _BY_NAME[kind]


def random_parameters(
    kind: str | CellCase, generator: np.random.Generator, *, features: int, hidden_dim: int
) -> dict[str, np.ndarray]:
    """Parameters of one cell under the names of its fields, float64, of a size that keeps gates open."""
    shapes = cell_case(kind).cell.parameter_shapes(features, hidden_dim)
    return {name: 0.6 * generator.normal(size=shape) for name, shape in shapes.items()}


def run(
    kind: str | CellCase,
    parameters: Parameters,
    inputs: np.ndarray,
    *,
    lengths: np.ndarray | None = None,
    initial_carry: Parts | None = None,
    reverse: bool = False,
) -> tuple[np.ndarray, Parts]:
    """Outputs ``[..., batch, time, hidden]`` and each row's last carry, by a loop over the steps."""
    case = cell_case(kind)
    *leading, batch, num_steps, _ = inputs.shape
    hidden_dim = parameters["bias"].shape[-1] // case.cell.num_gates
    outputs = np.zeros((*leading, batch, num_steps, hidden_dim))
    carry = tuple(np.zeros((*leading, batch, hidden_dim)) for _ in case.cell.carry_names)
    if initial_carry is not None:
        carry = tuple(part + given for part, given in zip(carry, initial_carry, strict=True))
    lengths = np.full(batch, num_steps) if lengths is None else lengths
    for at in reversed(range(num_steps)) if reverse else range(num_steps):
        rows = np.flatnonzero(at < lengths)
        if not rows.size:
            continue
        before = tuple(part[..., rows, :] for part in carry)
        after = case.step(parameters, before, inputs[..., rows, at, :])
        outputs[..., rows, at, :] = after[0]
        for part, value in zip(carry, after, strict=True):
            part[..., rows, :] = value
    return outputs, carry


def numeric_gradient(
    function: Callable[[dict[str, np.ndarray]], np.ndarray],
    arrays: Mapping[str, np.ndarray],
    *,
    step_size: float = 1e-6,
) -> dict[str, np.ndarray]:
    """Central differences of a scalar function of named float64 arrays (error about 1e-9).

    ``function`` gets every array with one more axis in front, and gives a number for each entry of it.
    """
    gradients = {}
    for name, array in arrays.items():
        steps = step_size * np.eye(array.size).reshape(array.size, *array.shape)
        moved = {
            other: np.broadcast_to(given, (2 * array.size, *given.shape)) for other, given in arrays.items()
        }
        moved[name] = np.concatenate([array + steps, array - steps])
        above, below = np.split(function(moved), 2)
        gradients[name] = ((above - below) / (2 * step_size)).reshape(array.shape)
    return gradients
