"""The recurrent cells as NumPy loops in float64, a row and a step at a time, from the papers' equations."""

from collections.abc import Callable, Mapping

import numpy as np

Parameters = Mapping[str, np.ndarray]
LINEAR_KINDS = ("min_gru", "min_lstm", "diagonal")
CELL_KINDS = ("rnn_tanh", "rnn_relu", "lstm", "gru", *LINEAR_KINDS)
_NUM_GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3, "min_gru": 2, "min_lstm": 3, "diagonal": 1}
CARRY_SIZE = {kind: 2 if kind == "lstm" else 1 for kind in CELL_KINDS}


def random_parameters(
    kind: str, generator: np.random.Generator, *, features: int, hidden_dim: int
) -> dict[str, np.ndarray]:
    """Parameters of one cell under the names of its fields, float64, of a size that keeps gates open."""
    gates = _NUM_GATES[kind] * hidden_dim
    shapes: dict[str, tuple[int, ...]] = {"input_weight": (features, gates), "bias": (gates,)}
    if kind not in LINEAR_KINDS:
        shapes["recurrent_weight"] = (hidden_dim, gates)
    if kind == "diagonal":
        shapes["decay"] = (hidden_dim,)
    if kind == "gru":
        shapes["recurrent_bias"] = (hidden_dim,)
    return {name: 0.6 * generator.normal(size=shape) for name, shape in shapes.items()}


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + np.exp(-x))


def step(
    kind: str, parameters: Parameters, carry: tuple[np.ndarray, ...], x: np.ndarray
) -> tuple[np.ndarray, ...]:
    """One row's carry after the input ``x``; its first part is the output."""
    weight, bias, state = parameters["input_weight"], parameters["bias"], carry[0]
    size = state.shape[0]
    if kind in LINEAR_KINDS:
        return (_linear_step(kind, parameters, state, x @ weight + bias),)
    recurrent_weight = parameters["recurrent_weight"]
    if kind in ("rnn_tanh", "rnn_relu"):
        total = x @ weight + state @ recurrent_weight + bias
        return (np.tanh(total) if kind == "rnn_tanh" else np.maximum(total, 0.0),)
    if kind == "lstm":
        i, f, g, o = (
            x @ weight[:, part] + state @ recurrent_weight[:, part] + bias[part]
            for part in (slice(k * size, (k + 1) * size) for k in range(4))
        )
        memory = sigmoid(f) * carry[1] + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(memory), memory
    reset, update, candidate = (slice(k * size, (k + 1) * size) for k in range(3))
    r = sigmoid(x @ weight[:, reset] + state @ recurrent_weight[:, reset] + bias[reset])
    z = sigmoid(x @ weight[:, update] + state @ recurrent_weight[:, update] + bias[update])
    inner = state @ recurrent_weight[:, candidate] + parameters["recurrent_bias"]
    n = np.tanh(x @ weight[:, candidate] + bias[candidate] + r * inner)
    return ((1.0 - z) * n + z * state,)


def _linear_step(kind: str, parameters: Parameters, state: np.ndarray, gates: np.ndarray) -> np.ndarray:
    """The cells whose gates see the input alone."""
    if kind == "diagonal":
        decay = sigmoid(parameters["decay"])
        return decay * state + np.sqrt(1.0 - decay**2) * gates
    *opened, inner = np.split(gates, 2 if kind == "min_gru" else 3)
    candidate = np.where(inner >= 0, inner + 0.5, sigmoid(inner))
    if kind == "min_gru":
        z = sigmoid(opened[0])
        return (1.0 - z) * state + z * candidate
    f, i = sigmoid(opened[0]), sigmoid(opened[1])
    return (f * state + i * candidate) / (f + i)


def run(
    kind: str,
    parameters: Parameters,
    inputs: np.ndarray,
    *,
    lengths: np.ndarray | None = None,
    initial_carry: tuple[np.ndarray, ...] | None = None,
    reverse: bool = False,
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Outputs ``[batch, time, hidden]`` and each row's last carry, by two loops."""
    batch, num_steps, _ = inputs.shape
    hidden_dim = parameters["bias"].shape[0] // _NUM_GATES[kind]
    outputs = np.zeros((batch, num_steps, hidden_dim))
    final = tuple(np.zeros((batch, hidden_dim)) for _ in range(CARRY_SIZE[kind]))
    for row in range(batch):
        carry = tuple(part[row] for part in (final if initial_carry is None else initial_carry))
        order = range(num_steps if lengths is None else int(lengths[row]))
        for at in reversed(order) if reverse else order:
            carry = step(kind, parameters, carry, inputs[row, at])
            outputs[row, at] = carry[0]
        for part, value in zip(final, carry, strict=True):
            part[row] = value
    return outputs, final


def numeric_gradient(
    function: Callable[..., float], arrays: dict[str, np.ndarray], *, step_size: float = 1e-6
) -> dict[str, np.ndarray]:
    """Central differences of a scalar function of named float64 arrays (error about 1e-9)."""
    gradients = {name: np.zeros_like(array) for name, array in arrays.items()}
    for name, array in arrays.items():
        for index in np.ndindex(array.shape):
            value = array[index]
            array[index] = value + step_size
            above = function(arrays)
            array[index] = value - step_size
            below = function(arrays)
            array[index] = value
            gradients[name][index] = (above - below) / (2 * step_size)
    return gradients
