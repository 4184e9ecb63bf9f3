"""The LSTM of cuDNN through ``jax.experimental.rnn``, and its flat weights from and to ours.

cuDNN holds one direction of one layer as ``W [4 * hidden, features]``, ``U [4 * hidden, hidden]`` and two biases, in
one flat array, gates in the order i, f, g, o, which is ours; ours are the transposed, and the second bias is zero.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import rnn

from transformer_jax.errors import ShapeError
from transformer_jax.functional import device_record
from transformer_jax.functional.derivatives import Rules, with_backward
from transformer_jax.functional.recurrent.cells import Carry, Cell, LSTMCell
from transformer_jax.typing import Array, Bool, Float


def lstm_weights_for_cudnn(cell: LSTMCell) -> Float[Array, "parameters"]:
    """The cell's parameters as cuDNN lays them out, float32.

    Example:
      >>> lstm_weights_for_cudnn(LSTMCell(jnp.ones((3, 8)), jnp.ones((2, 8)), jnp.zeros(8))).shape
      (56,)
    """
    parts = (cell.input_weight.T, cell.recurrent_weight.T, cell.bias, jnp.zeros_like(cell.bias))
    return jnp.concatenate([part.ravel().astype(jnp.float32) for part in parts])


def lstm_cell_from_cudnn(weights: Float[Array, "parameters"], features: int, hidden_dim: int) -> LSTMCell:
    """The cell of cuDNN's flat parameters; the two biases are added.

    Raises:
      ShapeError: If the number of parameters is another.

    Example:
      >>> cell = LSTMCell(jnp.ones((3, 8)), jnp.ones((2, 8)), jnp.arange(8.0))
      >>> lstm_cell_from_cudnn(lstm_weights_for_cudnn(cell), 3, 2).bias.tolist()
      [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    """
    gates = 4 * hidden_dim
    wanted = gates * (features + hidden_dim + 2)
    if weights.shape != (wanted,):
        raise ShapeError(
            f"weights of an LSTM with {features} features and hidden_dim {hidden_dim} must have shape ({wanted},); "
            f"got {weights.shape}"
        )
    ends = (gates * features, gates * (features + hidden_dim), gates * (features + hidden_dim + 1))
    to_gates, to_state, first, second = jnp.split(weights, ends)
    return LSTMCell(
        to_gates.reshape(gates, features).T, to_state.reshape(gates, hidden_dim).T, first + second
    )


def refusals(cell: Cell, inputs: Array, resets: Array | None, carry: Carry | None = None) -> list[str]:
    """Reasons not to do a case; no carry is one of zeros in float32."""
    reasons = []
    if type(cell) is not LSTMCell:
        reasons.append(f"it runs an LSTMCell alone, not {type(cell).__name__}")
    elif inputs.dtype != jnp.float32 or cell.input_weight.dtype != jnp.float32:
        reasons.append(f"it runs in float32 alone, not {inputs.dtype} with {cell.input_weight.dtype} weights")
    others = sorted({str(leaf.dtype) for leaf in jax.tree.leaves(carry)} - {"float32"})
    if others:
        reasons.append(f"it runs in float32 alone, not from a carry in {' and '.join(others)}")
    if resets is not None:
        reasons.append("it has no segments")
    platform = device_record.default_device().platform
    if platform != "gpu":
        reasons.append(f"it needs an NVIDIA GPU, and the default device is a {platform}")
    return reasons


def run_cudnn(
    cell: Cell,
    inputs: Float[Array, "time batch features"],
    carry: Carry,
    valid: Bool[Array, "time batch"] | None,
    resets: Bool[Array, "time batch"] | None,
    *,
    reverse: bool,
    unroll: int,
) -> tuple[Float[Array, "time batch hidden"], Carry]:
    """The recurrence by cuDNN; taken by name alone until ``device_record.json`` has an entry in which it passed.

    Raises:
      NotImplementedError: With every reason not to do the case.
    """
    del unroll
    reasons = refusals(cell, inputs, resets, carry)
    if reasons:
        raise NotImplementedError("cudnn cannot do this recurrence: " + "; ".join(reasons))
    return lstm_by(_lstm, cell, inputs, carry, valid, reverse=reverse)


def _lstm(
    rows: Array, hidden: Array, memory: Array, weights: Array, lengths: Array,
    features: int, hidden_dim: int, layers: int, dropout: float, bidirectional: bool,
) -> Any:  # fmt: skip
    """``rnn.lstm`` with what its primitives lack: ``vmap``, by one call after the other, and every derivative."""
    sizes = (features, hidden_dim, layers, dropout, bidirectional)
    outputs, _ = with_backward(_RULES, sizes, (rows, hidden, memory, weights), lengths)
    return outputs[:3]


def _value(sizes: Any, arrays: Any, lengths: Array) -> tuple[Any, None]:
    """Outputs, both states, and what cuDNN reserves for its backward pass."""
    forward: Any = rnn.lstm_fwd

    @jax.custom_batching.sequential_vmap
    def run(*arrays: Array) -> Any:
        outputs, saved = forward(*arrays, *sizes, None)
        return *outputs, saved[-1]

    return run(*arrays, lengths), None


def _backward(sizes: Any, arrays: Any, lengths: Array, outputs: Any, cotangents: Any) -> Any:
    backward: Any = rnn.lstm_bwd

    @jax.custom_batching.sequential_vmap
    def run(saved: Any, cotangents: Any) -> Any:
        return backward(*sizes, None, saved, cotangents)[:4]

    return run((*arrays, lengths, outputs[0], outputs[3]), tuple(cotangents[:3]))


def _plain(sizes: Any, arrays: Any, lengths: Array) -> Any:
    features, hidden_dim, layers, _, bidirectional = sizes
    *states, weights = arrays
    unpacked = rnn.unpack_lstm_weights(weights, features, hidden_dim, layers, bidirectional)
    outputs = rnn.lstm_ref(*states, *unpacked, lengths, *sizes)
    reserved = jax.eval_shape(lambda: _value(sizes, arrays, lengths)[0][3])
    return *outputs, jnp.zeros(reserved.shape, reserved.dtype)


_RULES = Rules(_value, _backward, _plain)


def lstm_by(
    lstm: Any,
    cell: Any,
    inputs: Float[Array, "time batch features"],
    carry: Carry,
    valid: Bool[Array, "time batch"] | None,
    *,
    reverse: bool,
) -> tuple[Float[Array, "time batch hidden"], Carry]:
    """The recurrence by a function called like ``jax.experimental.rnn.lstm``.

    A row of length 0 is passed with length 1 (cuDNN wants at least one), and corrected afterwards.
    """
    num_steps, batch, features = inputs.shape
    if num_steps == 0:
        return jnp.zeros((0, batch, cell.hidden_dim), jnp.float32), carry
    lengths = jnp.full((batch,), num_steps) if valid is None else valid.sum(axis=0)
    order = _order(lengths, num_steps) if reverse else None
    rows = inputs.swapaxes(0, 1)
    if order is not None:
        rows = jnp.take_along_axis(rows, order[..., None], axis=1)
    outputs, hidden, memory = lstm(
        rows, carry[0][None], carry[1][None], lstm_weights_for_cudnn(cell),
        jnp.maximum(lengths, 1).astype(jnp.int32),
        features, cell.hidden_dim, 1, 0.0, False,
    )  # fmt: skip
    if order is not None:
        outputs = jnp.take_along_axis(outputs, order[..., None], axis=1)
    outputs = outputs.swapaxes(0, 1)
    if valid is None:
        return outputs, (hidden[0], memory[0])
    is_empty = (lengths == 0)[:, None]
    final = tuple(
        jnp.where(is_empty, old, new) for old, new in zip(carry, (hidden[0], memory[0]), strict=True)
    )
    return jnp.where(valid[..., None], outputs, 0.0), final


def _order(lengths: Array, num_steps: int) -> Array:
    """For each row its steps from the last to the first, then the padding: its own inverse."""
    steps = jnp.arange(num_steps)[None, :]
    return jnp.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
