"""The recurrent cells as NumPy loops in float64, a step at a time, from the papers' equations.

Arrays may have further axes before their own, the same in all: a run for each entry, as central differences want.
"""

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
    """The carry of rows ``[..., rows, hidden]`` after the inputs ``x``; its first part is the output."""
    weight, bias, state = parameters["input_weight"], parameters["bias"][..., None, :], carry[0]
    size = state.shape[-1]
    if kind in LINEAR_KINDS:
        return (_linear_step(kind, parameters, state, x @ weight + bias),)
    recurrent_weight = parameters["recurrent_weight"]
    if kind in ("rnn_tanh", "rnn_relu"):
        total = x @ weight + state @ recurrent_weight + bias
        return (np.tanh(total) if kind == "rnn_tanh" else np.maximum(total, 0.0),)
    if kind == "lstm":
        i, f, g, o = np.split(x @ weight + state @ recurrent_weight + bias, 4, axis=-1)
        memory = sigmoid(f) * carry[1] + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(memory), memory
    of_inputs, of_state = x @ weight + bias, state @ recurrent_weight
    r = sigmoid(of_inputs[..., :size] + of_state[..., :size])
    z = sigmoid(of_inputs[..., size : 2 * size] + of_state[..., size : 2 * size])
    inner = of_state[..., 2 * size :] + parameters["recurrent_bias"][..., None, :]
    n = np.tanh(of_inputs[..., 2 * size :] + r * inner)
    return ((1.0 - z) * n + z * state,)


def _linear_step(kind: str, parameters: Parameters, state: np.ndarray, gates: np.ndarray) -> np.ndarray:
    """The cells whose gates see the input alone."""
    if kind == "diagonal":
        decay = sigmoid(parameters["decay"])[..., None, :]
        return decay * state + np.sqrt(1.0 - decay**2) * gates
    *opened, inner = np.split(gates, 2 if kind == "min_gru" else 3, axis=-1)
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
    """Outputs ``[..., batch, time, hidden]`` and each row's last carry, by a loop over the steps."""
    *leading, batch, num_steps, _ = inputs.shape
    hidden_dim = parameters["bias"].shape[-1] // _NUM_GATES[kind]
    outputs = np.zeros((*leading, batch, num_steps, hidden_dim))
    carry = tuple(np.zeros((*leading, batch, hidden_dim)) for _ in range(CARRY_SIZE[kind]))
    if initial_carry is not None:
        carry = tuple(part + given for part, given in zip(carry, initial_carry, strict=True))
    lengths = np.full(batch, num_steps) if lengths is None else lengths
    for at in reversed(range(num_steps)) if reverse else range(num_steps):
        rows = np.flatnonzero(at < lengths)
        if not rows.size:
            continue
        before = tuple(part[..., rows, :] for part in carry)
        after = step(kind, parameters, before, inputs[..., rows, at, :])
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
