"""Weights of BERT from and to Hugging Face's names: arrays in, arrays out.

Hugging Face keeps matrices ``[output, input]`` and the projections of queries, keys and values apart. The vector of the
first segment, which BERT adds to each token of a text of one segment, is added to the positions here; the second
segment's has no place. A state is taken whole or refused: an array without a place is an error that names it.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.models.encoder_only import EncoderOnlyConfig
from transformer_jax.models.text_encoders import TransformerTextEncoder
from transformer_jax.nn.feed_forward import Activation
from transformer_jax.nn.position_encodings import Learned

__all__ = ["bert_config", "bert_from_hugging_face", "bert_to_hugging_face"]

_LAYER = "bert.encoder.layer."
_STACK = "encoder.stack.layers."
_LINEAR = {
    "attention.output.dense": "self_attention.output",
    "intermediate.dense": "feed_forward.inner",
    "output.dense": "feed_forward.outer",
}
_NORM = {
    "attention.output.LayerNorm": "self_attention_residual.norm",
    "output.LayerNorm": "feed_forward_residual.norm",
}
_PROJECTIONS = ("query", "key", "value")
_FUSED = "self_attention.query_key_value"
_OUTSIDE_LINEAR = {
    "cls.predictions.transform.dense": "head",
    "bert.pooler.dense": "pooler",
    "cls.seq_relationship": "order",
}
_OUTSIDE_NORM = {
    "bert.embeddings.LayerNorm": "encoder.stack.embedding_norm",
    "cls.predictions.transform.LayerNorm": "head_norm",
}
_WORDS, _POSITIONS = "bert.embeddings.word_embeddings.weight", "bert.embeddings.position_embeddings.weight"
_SEGMENTS = "bert.embeddings.token_type_embeddings.weight"
_BIAS, _TIED_BIAS, _TIED = (
    "cls.predictions.bias",
    "cls.predictions.decoder.bias",
    "cls.predictions.decoder.weight",
)
_BUFFERS = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")
_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "tanh": "tanh",
}


def bert_config(document: Mapping[str, Any], *, order_head: bool = False) -> EncoderOnlyConfig:
    """The config of a model whose ``config.json`` says ``"model_type": "bert"``.

    Args:
      document: The parsed JSON; what it leaves out has Hugging Face's default.
      order_head: Whether the weights are those of ``BertForPreTraining``, which has a head for two sentences.

    Returns:
      The config; the vocabulary's size is ``document["vocab_size"]``.

    Raises:
      ConfigError: If the document is of another kind of model, or asks for what this one does not do.

    Example:
      >>> bert_config({"model_type": "bert", "hidden_size": 64, "num_attention_heads": 4}).encoder.num_layers
      12
    """
    kind = document.get("model_type", "bert")
    if kind != "bert":
        raise ConfigError(f"model_type must be 'bert', got {kind!r}")
    plain = {
        "is_decoder": False,
        "add_cross_attention": False,
        "tie_word_embeddings": True,
        "position_embedding_type": "absolute",
    }
    for name, wanted in plain.items():
        if document.get(name, wanted) != wanted:
            raise ConfigError(f"{name} must be {wanted}, got {document[name]!r}")
    activation = document.get("hidden_act", "gelu")
    if activation not in _ACTIVATIONS:
        raise ConfigError(f"hidden_act must be one of {sorted(_ACTIVATIONS)}, got {activation!r}")
    num_heads, epsilon = document.get("num_attention_heads", 12), document.get("layer_norm_eps", 1e-12)
    return EncoderOnlyConfig(
        encoder=TransformerTextEncoder(
            model_dim=document.get("hidden_size", 768),
            num_heads=num_heads,
            num_kv_heads=num_heads,
            feed_forward_dim=document.get("intermediate_size", 3072),
            num_layers=document.get("num_hidden_layers", 12),
            positions=Learned(max_len=document.get("max_position_embeddings", 512)),
            dropout_rate=document.get("hidden_dropout_prob", 0.1),
            attention_dropout_rate=document.get("attention_probs_dropout_prob", 0.1),
            norm_epsilon=epsilon,
            activation=_ACTIVATIONS[activation],
            weight_deviation=document.get("initializer_range", 0.02),
        ),
        activation=_ACTIVATIONS[activation],
        norm_epsilon=epsilon,
        order_head=order_head,
    )


def bert_from_hugging_face(state: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Parameters of an `EncoderOnly` from a state dict of ``BertForMaskedLM`` or ``BertForPreTraining``.

    Args:
      state: Name to array, anything that NumPy reads, such as ``bert.encoder.layer.0.output.dense.weight``.

    Returns:
      Name to array, for `nn.load_parameters` into ``bert_config(...).build(...)``. The order head's class 0 is, as
      theirs is, two sentences that belong together.

    Raises:
      ShapeError: If an array is missing or has no place, or the output projection is not the token embedding.

    Example:
      >>> from transformer_jax.models import Sizes
      >>> from transformer_jax.nn import named_parameters
      >>> config = bert_config({"hidden_size": 4, "num_attention_heads": 2, "num_hidden_layers": 1,
      ...                       "intermediate_size": 8, "max_position_embeddings": 6})
      >>> own = named_parameters(config.build(Sizes(vocab_size=5), rngs=nnx.Rngs(0)))
      >>> again = bert_from_hugging_face(bert_to_hugging_face(own))
      >>> again.keys() == own.keys(), all((again[name] == own[name]).all() for name in own)
      (True, True)
    """
    given = {name: np.asarray(value) for name, value in state.items() if name not in _BUFFERS}
    arrays: dict[str, np.ndarray] = {}
    numbers = [int(found[1]) for name in given if (found := re.match(rf"{re.escape(_LAYER)}(\d+)\.", name))]

    def take(name: str) -> np.ndarray:
        if name not in given:
            raise ShapeError(
                f"{name} is missing: wanted the state of a BertForMaskedLM or BertForPreTraining"
            )
        return given.pop(name)

    def take_linear(theirs: str, ours: str) -> None:
        arrays[f"{ours}.kernel"], arrays[f"{ours}.bias"] = take(f"{theirs}.weight").T, take(f"{theirs}.bias")

    def take_norm(theirs: str, ours: str) -> None:
        arrays[f"{ours}.scale"], arrays[f"{ours}.bias"] = take(f"{theirs}.weight"), take(f"{theirs}.bias")

    arrays["encoder.embedding.embedding"] = take(_WORDS)
    arrays["encoder.stack.positions.table"] = take(_POSITIONS) + take(_SEGMENTS)[0]
    for number in range(1 + max(numbers, default=-1)):
        theirs, ours = f"{_LAYER}{number}.", f"{_STACK}{number}."
        for part, axis in (("weight", "kernel"), ("bias", "bias")):
            fused = [take(f"{theirs}attention.self.{name}.{part}").T for name in _PROJECTIONS]
            arrays[f"{ours}{_FUSED}.{axis}"] = np.concatenate(fused, axis=-1)
        for name, own in _LINEAR.items():
            take_linear(theirs + name, ours + own)
        for name, own in _NORM.items():
            take_norm(theirs + name, ours + own)
    for name, own in _OUTSIDE_NORM.items():
        take_norm(name, own)
    for name, own in _OUTSIDE_LINEAR.items():
        if own == "head" or "cls.seq_relationship.weight" in given or f"{name}.weight" in given:
            take_linear(name, own)
    arrays["output_bias"] = take(_BIAS)
    for name, own in ((_TIED, "encoder.embedding.embedding"), (_TIED_BIAS, "output_bias")):
        if name in given and not np.array_equal(given.pop(name), arrays[own]):
            raise ShapeError(f"{name} is not {own}: BERT ties the two")
    if given:
        raise ShapeError(
            f"{min(given)} has no place in a BERT: wanted names such as {_LAYER}0.output.dense.weight"
        )
    return arrays


def bert_to_hugging_face(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The state dict of a ``BertForMaskedLM``, or with an order head of a ``BertForPreTraining``, from our parameters.

    Args:
      arrays: Parameters of an `EncoderOnly` with BERT's choices, under the names of `nn.named_parameters`.

    Returns:
      Hugging Face's names to arrays, the tied output projection too; the vectors of both segments are zeros.

    Raises:
      ShapeError: If a parameter is missing or has no place in a BERT: the model is another value of its config.
    """
    own = {name: np.asarray(value) for name, value in arrays.items()}
    state: dict[str, np.ndarray] = {}
    numbers = [int(found[1]) for name in own if (found := re.match(rf"{re.escape(_STACK)}(\d+)\.", name))]

    def take(name: str) -> np.ndarray:
        if name not in own:
            raise ShapeError(f"parameter {name} is missing: the model is no BERT")
        return own.pop(name)

    def give(theirs: str, ours: str, matrix: str) -> None:
        weight = take(f"{ours}.{matrix}")
        state[f"{theirs}.weight"] = weight.T if matrix == "kernel" else weight
        state[f"{theirs}.bias"] = take(f"{ours}.bias")

    words = take("encoder.embedding.embedding")
    state[_WORDS], state[_POSITIONS] = words, take("encoder.stack.positions.table")
    state[_SEGMENTS] = np.zeros((2, words.shape[1]), words.dtype)
    for number in range(1 + max(numbers, default=-1)):
        theirs, ours = f"{_LAYER}{number}.", f"{_STACK}{number}."
        kernel, bias = take(f"{ours}{_FUSED}.kernel"), take(f"{ours}{_FUSED}.bias")
        if kernel.shape[1] != 3 * kernel.shape[0]:
            raise ShapeError(f"parameter {ours}{_FUSED}.kernel is {kernel.shape}: BERT has no grouped heads")
        for name, matrix, shift in zip(
            _PROJECTIONS, np.split(kernel, 3, axis=1), np.split(bias, 3), strict=True
        ):
            state[f"{theirs}attention.self.{name}.weight"] = matrix.T
            state[f"{theirs}attention.self.{name}.bias"] = shift
        for name, inner in _LINEAR.items():
            give(theirs + name, ours + inner, "kernel")
        for name, inner in _NORM.items():
            give(theirs + name, ours + inner, "scale")
    for name, outer in _OUTSIDE_NORM.items():
        give(name, outer, "scale")
    for name, outer in _OUTSIDE_LINEAR.items():
        if outer == "head" or "order.kernel" in own or f"{outer}.kernel" in own:
            give(name, outer, "kernel")
    state[_BIAS] = state[_TIED_BIAS] = take("output_bias")
    state[_TIED] = words
    if own:
        raise ShapeError(f"parameter {min(own)} has no place in Hugging Face's BERT")
    return state
