"""Weights of GPT-2 from and to Hugging Face's names: arrays in, arrays out.

Hugging Face keeps GPT-2's matrices ``[input, output]`` and the three projections of attention side by side, as this
library does, so only names differ. A state is taken whole or refused: an array without a place is an error that names
it.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.models.decoder_only import DecoderOnlyConfig
from transformer_jax.nn.position_encodings import Learned

__all__ = ["gpt2_config", "gpt2_from_hugging_face", "gpt2_to_hugging_face"]

_PREFIX = "transformer."
_BUFFERS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)$")  # causal masks, which some versions store
_LAYER = {
    "ln_1.weight": "self_attention_residual.norm.scale",
    "ln_1.bias": "self_attention_residual.norm.bias",
    "attn.c_attn.weight": "self_attention.query_key_value.kernel",
    "attn.c_attn.bias": "self_attention.query_key_value.bias",
    "attn.c_proj.weight": "self_attention.output.kernel",
    "attn.c_proj.bias": "self_attention.output.bias",
    "ln_2.weight": "feed_forward_residual.norm.scale",
    "ln_2.bias": "feed_forward_residual.norm.bias",
    "mlp.c_fc.weight": "feed_forward.inner.kernel",
    "mlp.c_fc.bias": "feed_forward.inner.bias",
    "mlp.c_proj.weight": "feed_forward.outer.kernel",
    "mlp.c_proj.bias": "feed_forward.outer.bias",
}
_OUTSIDE = {
    "wte.weight": "embedding.embedding",
    "wpe.weight": "stack.positions.table",
    "ln_f.weight": "stack.final_norm.scale",
    "ln_f.bias": "stack.final_norm.bias",
}
_ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
    "tanh": "tanh",
}


def gpt2_config(document: Mapping[str, Any]) -> DecoderOnlyConfig:
    """The config of a model whose ``config.json`` says ``"model_type": "gpt2"``.

    Args:
      document: The parsed JSON; what it leaves out has Hugging Face's default.

    Returns:
      The config; the vocabulary's size is ``document["vocab_size"]``.

    Raises:
      ConfigError: If the document is of another kind of model, or asks for what this one does not do.

    Example:
      >>> gpt2_config({"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_layer": 2}).feed_forward_dim
      256
    """
    kind = document.get("model_type", "gpt2")
    if kind != "gpt2":
        raise ConfigError(f"model_type must be 'gpt2', got {kind!r}")
    plain = {
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "tie_word_embeddings": True,
        "add_cross_attention": False,
    }
    for name, wanted in plain.items():
        if document.get(name, wanted) != wanted:
            raise ConfigError(f"{name} must be {wanted}, got {document[name]!r}")
    dropout_rate = document.get("resid_pdrop", 0.1)
    if document.get("embd_pdrop", 0.1) != dropout_rate:
        raise ConfigError(
            f"embd_pdrop must be resid_pdrop, which is {dropout_rate}, got {document.get('embd_pdrop', 0.1)}: one rate "
            "serves both here; set one of them to the other in the document"
        )
    activation = document.get("activation_function", "gelu_new")
    if activation not in _ACTIVATIONS:
        raise ConfigError(f"activation_function must be one of {sorted(_ACTIVATIONS)}, got {activation!r}")
    width, num_heads = document.get("n_embd", 768), document.get("n_head", 12)
    return DecoderOnlyConfig(
        model_dim=width,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        feed_forward_dim=document.get("n_inner") or 4 * width,
        num_layers=document.get("n_layer", 12),
        positions=Learned(max_len=document.get("n_positions", 1024)),
        dropout_rate=dropout_rate,
        attention_dropout_rate=document.get("attn_pdrop", 0.1),
        norm_epsilon=document.get("layer_norm_epsilon", 1e-5),
        activation=_ACTIVATIONS[activation],  # type: ignore[arg-type]  # a text, not a literal
    )


def gpt2_from_hugging_face(state: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Parameters of a `DecoderOnly` from a state dict of ``GPT2LMHeadModel`` or ``GPT2Model``.

    Args:
      state: Name to array, anything that NumPy reads, such as ``transformer.h.0.attn.c_attn.weight``.

    Returns:
      Name to array, for `nn.load_parameters` into ``gpt2_config(...).build(...)``.

    Raises:
      ShapeError: If an array has no place, a name is given twice, or ``lm_head.weight`` is not the token embedding.

    Example:
      >>> arrays = gpt2_from_hugging_face({"transformer.wte.weight": np.zeros((5, 4))})
      >>> list(arrays)
      ['embedding.embedding']
    """
    arrays: dict[str, np.ndarray] = {}
    for name, value in state.items():
        bare = name.removeprefix(_PREFIX)
        if _BUFFERS.fullmatch(bare) or name == "lm_head.weight":
            continue
        own = _our_name(bare)
        if own is None:
            raise ShapeError(f"{name} has no place in a GPT-2: wanted names such as {_PREFIX}h.0.ln_1.weight")
        if own in arrays:
            raise ShapeError(f"{name} is given twice, with and without '{_PREFIX}'")
        arrays[own] = np.asarray(value)
    if "lm_head.weight" in state and not np.array_equal(
        np.asarray(state["lm_head.weight"]), arrays.get("embedding.embedding", np.zeros(0))
    ):
        raise ShapeError("lm_head.weight is not the token embedding wte.weight: GPT-2 ties the two")
    return arrays


def gpt2_to_hugging_face(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The state dict of a ``GPT2LMHeadModel`` from our parameters.

    Args:
      arrays: Parameters of a GPT-2 under the names of `nn.named_parameters`.

    Returns:
      Hugging Face's names to arrays, the tied ``lm_head.weight`` too.

    Raises:
      ShapeError: If the parameters are not those of a GPT-2, all of them and in its shapes: the model is another value
        of `DecoderOnlyConfig`.

    Example:
      >>> from transformer_jax.models import Sizes
      >>> from transformer_jax.nn.parameters import named_parameters
      >>> config = gpt2_config({"n_embd": 4, "n_head": 2, "n_layer": 1, "n_positions": 6})
      >>> arrays = named_parameters(config.build(Sizes(vocab_size=5), rngs=nnx.Rngs(0)))
      >>> state = gpt2_to_hugging_face(arrays)
      >>> len(state), state["lm_head.weight"].shape, state["transformer.h.0.mlp.c_fc.weight"].shape
      (17, (5, 4), (4, 16))
    """
    outside = {own: name for name, own in _OUTSIDE.items()}
    inside = {own: name for name, own in _LAYER.items()}
    state = {}
    for own, value in arrays.items():
        found = re.fullmatch(r"stack\.layers\.(\d+)\.(.+)", own)
        name = outside.get(own) if found is None else inside.get(found[2])
        if name is None:
            raise ShapeError(f"parameter {own} has no place in Hugging Face's GPT-2")
        state[f"{_PREFIX}{name}" if found is None else f"{_PREFIX}h.{found[1]}.{name}"] = np.asarray(value)
    _check_shapes(arrays)
    state["lm_head.weight"] = state[f"{_PREFIX}wte.weight"]
    return state


def _check_shapes(arrays: Mapping[str, Any]) -> None:
    """Raise ``ShapeError`` unless the arrays are all parameters of one GPT-2, whose sizes some of them tell."""
    layers = [found[1] for own in arrays if (found := re.match(r"stack\.layers\.(\d+)\.", own))]
    num_layers = 1 + max(map(int, layers), default=0)
    for own in ("embedding.embedding", "stack.positions.table", "stack.layers.0.feed_forward.inner.kernel"):
        if own not in arrays:
            raise ShapeError(f"parameter {own} is missing: the model is no GPT-2")
        if np.ndim(arrays[own]) != 2:
            raise ShapeError(f"parameter {own} must have two axes, got shape {np.shape(arrays[own])}")
    vocab_size, width = np.shape(arrays["embedding.embedding"])
    inner = np.shape(arrays["stack.layers.0.feed_forward.inner.kernel"])[1]
    wanted: dict[str, tuple[int, ...]] = {
        "embedding.embedding": (vocab_size, width),
        "stack.positions.table": (np.shape(arrays["stack.positions.table"])[0], width),
        "stack.final_norm.scale": (width,),
        "stack.final_norm.bias": (width,),
    }
    shapes = {
        "self_attention.query_key_value": (width, 3 * width),
        "self_attention.output": (width, width),
        "feed_forward.inner": (width, inner),
        "feed_forward.outer": (inner, width),
    }
    for own in _LAYER.values():
        module, _, kind = own.rpartition(".")
        matrix = shapes.get(module, (width, width))
        for layer in range(num_layers):
            wanted[f"stack.layers.{layer}.{own}"] = matrix if kind == "kernel" else matrix[1:]
    for own, shape in wanted.items():
        if own not in arrays:
            raise ShapeError(f"parameter {own} is missing: the model is no GPT-2")
        if np.shape(arrays[own]) != shape:
            raise ShapeError(
                f"parameter {own} must have shape {shape} in a GPT-2, got {np.shape(arrays[own])}"
            )


def _our_name(bare: str) -> str | None:
    found = re.fullmatch(r"h\.(0|[1-9]\d*)\.(.+)", bare)
    if found is None:
        return _OUTSIDE.get(bare)
    own = _LAYER.get(found[2])
    return None if own is None else f"stack.layers.{found[1]}.{own}"
