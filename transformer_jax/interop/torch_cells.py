"""Cells from weights in PyTorch's layout (arrays in, cells out; PyTorch itself is not needed).

PyTorch keeps ``weight_ih [gates * hidden, features]``, ``weight_hh [gates * hidden, hidden]`` and two biases,
gates in the order i, f, g, o (LSTM) or r, z, n (GRU), which is ours; the matrices are transposed and the
biases added, but for the GRU's inner bias of the candidate, which its reset gate multiplies.
"""

from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.recurrent import CELLS, GatedCell, cell_class


def cell_from_torch(
    kind: str,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any | None = None,
    bias_hh: Any | None = None,
    *,
    activation: Literal["tanh", "relu"] = "tanh",
) -> GatedCell:
    """One cell from the four arrays of one layer and direction.

    Args:
      kind: ``"rnn"``, ``"lstm"`` or ``"gru"``.
      weight_ih: ``[gates * hidden, features]``, anything that NumPy reads.
      weight_hh: ``[gates * hidden, hidden]``.
      bias_ih: ``[gates * hidden]``; zero when ``None``.
      bias_hh: ``[gates * hidden]``; zero when ``None``.
      activation: Of the plain cell.

    Returns:
      The cell, in the dtype of the weights.

    Raises:
      ConfigError: If the kind is unknown.
      ShapeError: If the arrays do not fit one another (LSTMs with a projection are not supported).

    Example:
      >>> cell = cell_from_torch("gru", np.ones((6, 3), "f"), np.ones((6, 2), "f"))
      >>> cell.input_weight.shape, cell.recurrent_bias.shape
      ((3, 6), (2,))
    """
    known = [cell.kind for cell in CELLS if cell.torch_layer is not None]
    if kind not in known:
        raise ConfigError(f"kind must be one of {known}, cells that PyTorch has; got '{kind}'")
    cell = cell_class(kind)
    weight_ih, weight_hh = np.asarray(weight_ih), np.asarray(weight_hh)
    hidden_dim = weight_hh.shape[-1]
    num_rows = cell.num_gates * hidden_dim
    biases = [
        np.zeros(num_rows, weight_hh.dtype) if bias is None else np.asarray(bias)
        for bias in (bias_ih, bias_hh)
    ]
    for name, array, wanted in [
        ("weight_hh", weight_hh, (num_rows, hidden_dim)),
        ("weight_ih", weight_ih, (num_rows, weight_ih.shape[-1])),
        ("bias_ih", biases[0], (num_rows,)),
        ("bias_hh", biases[1], (num_rows,)),
    ]:
        if array.shape != wanted:
            raise ShapeError(f"{name} of kind '{kind}' must have shape {wanted}; got {array.shape}")
    input_weight, recurrent_weight = jnp.asarray(weight_ih.T), jnp.asarray(weight_hh.T)
    statics = {"activation": activation} if kind == "rnn" else {}
    return cell.from_two_biases(input_weight, recurrent_weight, *biases, **statics)


def cells_from_torch(
    kind: str, state: Mapping[str, Any], *, activation: Literal["tanh", "relu"] = "tanh"
) -> list[list[GatedCell]]:
    """All cells of an ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``: ``cells[layer][direction]``, forward first.

    Args:
      kind: ``"rnn"``, ``"lstm"`` or ``"gru"``.
      state: Its state dict as arrays: ``weight_ih_l0``, ``weight_hh_l0_reverse`` and so on.
      activation: Of the plain cell.

    Returns:
      A list of layers, each with one cell, or two if the network is bidirectional.

    Raises:
      ShapeError: If there is no first layer, an LSTM has a projection, or an array has no place.

    Example:
      >>> weights = {"weight_ih_l0": np.ones((8, 3), "f"), "weight_hh_l0": np.ones((8, 2), "f")}
      >>> [[type(cell).__name__ for cell in layer] for layer in cells_from_torch("lstm", weights)]
      [['LSTMCell']]
    """
    if "weight_ih_l0" not in state:
        raise ShapeError(f"state must hold 'weight_ih_l0'; got {sorted(state)}")
    if any(name.startswith("weight_hr") for name in state):
        raise ShapeError("an LSTM with a projection (proj_size) is not supported")
    layers: list[list[GatedCell]] = []
    while f"weight_ih_l{len(layers)}" in state:
        suffixes = [f"_l{len(layers)}", f"_l{len(layers)}_reverse"]
        layers.append(
            [
                cell_from_torch(
                    kind, state["weight_ih" + suffix], state["weight_hh" + suffix],
                    state.get("bias_ih" + suffix), state.get("bias_hh" + suffix), activation=activation,
                )
                for suffix in suffixes if "weight_ih" + suffix in state
            ]
        )  # fmt: skip
    taken = {
        f"{part}_l{place}{direction}"
        for place, cells in enumerate(layers)
        for direction in ("", "_reverse")[: len(cells)]
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    unknown = sorted(set(state) - taken)
    if unknown:
        raise ShapeError(f"weights {unknown} of the state have no place here; nothing was converted")
    return layers
