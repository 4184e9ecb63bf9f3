"""Weights in PyTorch's layout, to load with ``load_state_dict``: the reverse of ``torch_cells`` and ``torch_modules``.

Cells and arrays in, arrays out; PyTorch itself is not needed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.recurrent import CELLS, GatedCell

__all__ = ["cells_to_torch", "decoder_stack_to_torch", "encoder_stack_to_torch"]

_Arrays = dict[str, np.ndarray]


def cells_to_torch(cells: Sequence[GatedCell]) -> _Arrays:
    """The state dict of an ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU`` of one direction.

    Args:
      cells: One a layer.

    Returns:
      ``weight_ih_l0``, ``weight_hh_l0``, ``bias_ih_l0``, ``bias_hh_l0`` and so on. All biases are in ``bias_ih``, but
      for the GRU's inner one.

    Raises:
      ConfigError: If PyTorch has no such cell.

    Example:
      >>> from transformer_jax.interop.torch_cells import cell_from_torch
      >>> cell = cell_from_torch("lstm", np.ones((8, 3), "f"), np.ones((8, 2), "f"))
      >>> {name: array.shape for name, array in cells_to_torch([cell]).items()}
      {'weight_ih_l0': (8, 3), 'weight_hh_l0': (8, 2), 'bias_ih_l0': (8,), 'bias_hh_l0': (8,)}
    """
    state: _Arrays = {}
    for place, cell in enumerate(cells):
        if cell.torch_layer is None:
            known = [one.kind for one in CELLS if one.torch_layer is not None]
            raise ConfigError(f"cells must be of {known}, which PyTorch has; got '{cell.kind}'")
        own: dict[str, Any] = vars(cell)
        bias = np.asarray(own["bias"])
        second = np.zeros_like(bias)
        if "recurrent_bias" in own:
            second[-cell.hidden_dim :] = np.asarray(own["recurrent_bias"])
        parts = (_matrix(own["input_weight"]), _matrix(own["recurrent_weight"]), bias, second)
        for name, array in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), parts):
            state[f"{name}_l{place}"] = array
    return state


def encoder_stack_to_torch(parameters: Mapping[str, Any]) -> _Arrays:
    """The state dict of a ``torch.nn.TransformerEncoder``.

    Args:
      parameters: Of an ``EncoderStack`` or a ``CausalStack`` without learned positions, by name.

    Returns:
      Name to array.

    Raises:
      ShapeError: If a parameter has no place there; nothing is converted then.

    Example:
      >>> found = encoder_stack_to_torch({"layers.0.feed_forward.inner.kernel": np.zeros((4, 8))})
      >>> {name: array.shape for name, array in found.items()}
      {'layers.0.linear1.weight': (8, 4)}
    """
    norms = {"self_attention_residual.norm": "norm1", "feed_forward_residual.norm": "norm2"}
    return _stack(parameters, norms)


def decoder_stack_to_torch(parameters: Mapping[str, Any]) -> _Arrays:
    """The state dict of a ``torch.nn.TransformerDecoder``; arguments and errors as for an encoder.

    Example:
      >>> cross = {"query.kernel": np.zeros((4, 4)), "key_value.kernel": np.zeros((4, 8))}
      >>> found = decoder_stack_to_torch({f"layers.0.cross_attention.{name}": one for name, one in cross.items()})
      >>> {name: array.shape for name, array in found.items()}
      {'layers.0.multihead_attn.in_proj_weight': (12, 4)}
    """
    norms = {
        "self_attention_residual.norm": "norm1",
        "cross_attention_residual.norm": "norm2",
        "feed_forward_residual.norm": "norm3",
    }
    return _stack(parameters, norms)


_LINEAR = {
    "self_attention.query_key_value": "self_attn.in_proj",
    "self_attention.output": "self_attn.out_proj",
    "cross_attention.output": "multihead_attn.out_proj",
    "feed_forward.inner": "linear1",
    "feed_forward.outer": "linear2",
}


def _stack(parameters: Mapping[str, Any], norms: Mapping[str, str]) -> _Arrays:
    state: _Arrays = {}
    fused: dict[str, dict[str, np.ndarray]] = {}
    for name, value in parameters.items():
        array = np.asarray(value)
        *path, kind = name.split(".")
        prefix = ".".join(path[:2]) + "." if path[0] == "layers" else ""
        module = ".".join(path[2:]) if prefix else ".".join(path)
        part = "bias" if kind == "bias" else "weight"
        if module == "final_norm":
            state[f"norm.{part}"] = array
        elif module in norms:
            state[f"{prefix}{norms[module]}.{part}"] = array
        elif module in ("cross_attention.query", "cross_attention.key_value"):
            theirs = f"{prefix}multihead_attn.in_proj_{part}"
            fused.setdefault(theirs, {})[path[-1]] = _matrix(array)
        elif module in _LINEAR:
            joint = "_" if _LINEAR[module].endswith("in_proj") else "."
            state[f"{prefix}{_LINEAR[module]}{joint}{part}"] = _matrix(array)
        else:
            raise ShapeError(f"parameter {name!r} has no place in PyTorch's stack; nothing was converted")
    joined = {name: np.concatenate([both["query"], both["key_value"]]) for name, both in fused.items()}
    return state | joined


def _matrix(array: Any) -> np.ndarray:
    """A matrix transposed, a vector as it is."""
    return np.ascontiguousarray(np.asarray(array).T)
