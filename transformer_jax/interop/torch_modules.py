"""Parameters of attention, layers and stacks from weights in PyTorch's layout.

Arrays in, arrays out, under the names of :func:`~transformer_jax.nn.named_parameters`; PyTorch itself is not
needed. PyTorch keeps matrices ``[output, input]`` and the three projections of attention as one
``in_proj_weight [3 * model, model]``. A state is taken whole or refused: an array without a place here is an error that
names it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from transformer_jax.errors import ShapeError

__all__ = [
    "cross_attention_from_torch",
    "decoder_layer_from_torch",
    "decoder_stack_from_torch",
    "encoder_layer_from_torch",
    "encoder_stack_from_torch",
    "self_attention_from_torch",
]

_Arrays = dict[str, np.ndarray]


def _both(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}.{part}" for name in names for part in ("weight", "bias"))


_ATTENTION = ("in_proj_weight", "in_proj_bias", *_both("out_proj"))
_SEPARATE = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
_LAYER = _both("linear1", "linear2", "norm1", "norm2")


def self_attention_from_torch(state: Mapping[str, Any]) -> _Arrays:
    """Parameters of a self-attention ``MultiHeadAttention`` from ``torch.nn.MultiheadAttention``.

    Args:
      state: Its ``state_dict``, values anything that NumPy reads.

    Returns:
      Name to array.

    Raises:
      ShapeError: If a weight is missing, or the state holds one that has no place here.

    Example:
      >>> state = {"in_proj_weight": np.zeros((12, 4)), "out_proj.weight": np.zeros((4, 4))}
      >>> self_attention_from_torch(state)["query_key_value.kernel"].shape
      (4, 12)
    """
    _check_whole(state, _ATTENTION)
    arrays = {"query_key_value.kernel": _get(state, "in_proj_weight").T}
    if "in_proj_bias" in state:
        arrays["query_key_value.bias"] = _get(state, "in_proj_bias")
    return arrays | _linear(state, "out_proj", "output")


def cross_attention_from_torch(state: Mapping[str, Any]) -> _Arrays:
    """As :func:`self_attention_from_torch` for a layer made with ``key_value_dim``.

    Args:
      state: The ``state_dict``, of a layer with or without ``kdim`` and ``vdim`` (equal to one another).

    Returns:
      Name to array.

    Raises:
      ShapeError: If a weight is missing, or the state holds one that has no place here.

    Example:
      >>> state = {"in_proj_weight": np.zeros((12, 4)), "out_proj.weight": np.zeros((4, 4))}
      >>> cross_attention_from_torch(state)["key_value.kernel"].shape
      (4, 8)
    """
    model_dim = _get(state, "out_proj.weight").shape[0]
    is_fused = "in_proj_weight" in state
    _check_whole(state, _ATTENTION if is_fused else (*_ATTENTION[1:], *_SEPARATE))
    if is_fused:
        fused = _get(state, "in_proj_weight")
        query, key_value = fused[:model_dim], fused[model_dim:]
    else:
        query = _get(state, "q_proj_weight")
        key_value = np.concatenate([_get(state, "k_proj_weight"), _get(state, "v_proj_weight")])
    arrays = {"query.kernel": query.T, "key_value.kernel": key_value.T}
    if "in_proj_bias" in state:
        bias = _get(state, "in_proj_bias")
        arrays |= {"query.bias": bias[:model_dim], "key_value.bias": bias[model_dim:]}
    return arrays | _linear(state, "out_proj", "output")


def encoder_layer_from_torch(state: Mapping[str, Any]) -> _Arrays:
    """Parameters of an ``EncoderLayer`` from ``torch.nn.TransformerEncoderLayer``.

    Args:
      state: Its ``state_dict``.

    Returns:
      Name to array.

    Raises:
      ShapeError: If a weight is missing, or the state holds one that has no place here.
    """
    _check_whole(state, _LAYER, within=("self_attn",))
    return {
        **_prefixed("self_attention", self_attention_from_torch(_under(state, "self_attn"))),
        **_feed_forward(state),
        **_norm(state, "norm1", "self_attention_residual.norm"),
        **_norm(state, "norm2", "feed_forward_residual.norm"),
    }


def decoder_layer_from_torch(state: Mapping[str, Any]) -> _Arrays:
    """Parameters of a ``DecoderLayer`` from ``torch.nn.TransformerDecoderLayer``.

    Args:
      state: Its ``state_dict``.

    Returns:
      Name to array.

    Raises:
      ShapeError: If a weight is missing, or the state holds one that has no place here.
    """
    _check_whole(state, (*_LAYER, *_both("norm3")), within=("self_attn", "multihead_attn"))
    return {
        **_prefixed("self_attention", self_attention_from_torch(_under(state, "self_attn"))),
        **_prefixed("cross_attention", cross_attention_from_torch(_under(state, "multihead_attn"))),
        **_feed_forward(state),
        **_norm(state, "norm1", "self_attention_residual.norm"),
        **_norm(state, "norm2", "cross_attention_residual.norm"),
        **_norm(state, "norm3", "feed_forward_residual.norm"),
    }


def encoder_stack_from_torch(state: Mapping[str, Any]) -> _Arrays:
    """Parameters of an ``EncoderStack`` without learned positions from ``torch.nn.TransformerEncoder``.

    Args:
      state: Its ``state_dict`` (in ``torch.nn.Transformer``: what is under ``encoder.``).

    Returns:
      Name to array.

    Raises:
      ShapeError: If a weight is missing, or the state holds one that has no place here.
    """
    return _stack(state, encoder_layer_from_torch)


def decoder_stack_from_torch(state: Mapping[str, Any]) -> _Arrays:
    """Parameters of a ``DecoderStack`` without learned positions from ``torch.nn.TransformerDecoder``.

    Args:
      state: Its ``state_dict`` (in ``torch.nn.Transformer``: what is under ``decoder.``).

    Returns:
      Name to array.

    Raises:
      ShapeError: If a weight is missing, or the state holds one that has no place here.
    """
    return _stack(state, decoder_layer_from_torch)


def _stack(state: Mapping[str, Any], layer_from_torch: Any) -> _Arrays:
    if "layers.0" not in {".".join(name.split(".")[:2]) for name in state}:
        parts = sorted({name.split(".")[0] for name in state})
        raise ShapeError(
            f"state must hold a stack, 'layers.0. ...'; it holds {parts}. Of a whole torch.nn.Transformer give what is "
            "under 'encoder.' or 'decoder.', without that prefix"
        )
    arrays: _Arrays = {}
    index = 0
    while layer := _under(state, f"layers.{index}"):
        arrays |= _prefixed(f"layers.{index}", layer_from_torch(layer))
        index += 1
    _check_whole(state, _both("norm"), within=[f"layers.{place}" for place in range(index)])
    return arrays | (_norm(state, "norm", "final_norm") if "norm.weight" in state else {})


def _check_whole(state: Mapping[str, Any], known: Iterable[str], within: Iterable[str] = ()) -> None:
    """Raise ``ShapeError`` for arrays other than the known ones and those below a prefix, which others check."""
    prefixes = tuple(f"{prefix}." for prefix in within)
    unknown = sorted(name for name in set(state) - set(known) if not name.startswith(prefixes))
    if unknown:
        hint = " (a layer made with add_bias_kv=True has no counterpart here)" if "bias_k" in unknown else ""
        raise ShapeError(f"weights {unknown} of the state have no place here{hint}; nothing was converted")


def _feed_forward(state: Mapping[str, Any]) -> _Arrays:
    return _linear(state, "linear1", "feed_forward.inner") | _linear(state, "linear2", "feed_forward.outer")


def _linear(state: Mapping[str, Any], theirs: str, ours: str) -> _Arrays:
    arrays = {f"{ours}.kernel": _get(state, f"{theirs}.weight").T}
    if f"{theirs}.bias" in state:
        arrays[f"{ours}.bias"] = _get(state, f"{theirs}.bias")
    return arrays


def _norm(state: Mapping[str, Any], theirs: str, ours: str) -> _Arrays:
    arrays = {f"{ours}.scale": _get(state, f"{theirs}.weight")}
    if f"{theirs}.bias" in state:  # absent from torch.nn.RMSNorm
        arrays[f"{ours}.bias"] = _get(state, f"{theirs}.bias")
    return arrays


def _under(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    start = prefix + "."
    return {name.removeprefix(start): array for name, array in state.items() if name.startswith(start)}


def _prefixed(prefix: str, arrays: _Arrays) -> _Arrays:
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def _get(state: Mapping[str, Any], name: str) -> np.ndarray:
    if name not in state:
        raise ShapeError(f"weight {name!r} is missing; the state has {sorted(state)}")
    return np.asarray(state[name])
