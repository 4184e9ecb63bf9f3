"""Copies the weights of our encoder-decoder into PyTorch's, so that both sides start from the same numbers."""

from typing import Any

import numpy as np
import torch

from benchmarks.peers.torch_transformer import TorchTransformer
from transformer_jax.models.encoder_decoder import EncoderDecoder


def load_from_ours(peer: TorchTransformer, model: EncoderDecoder) -> None:
    """Set every parameter of ``peer``; ours must have its norm placement, biases, and all embeddings shared."""
    with torch.no_grad():
        _set(peer.embedding.weight, model.target_embedding.embedding)
        for theirs, ours in zip(peer.encoder.layers, model.encoder.layers, strict=True):
            _self_attention(theirs.self_attn, ours.self_attention)
            _norm(theirs.norm1, ours.self_attention_residual.norm)
            _feed_forward(theirs, ours)
            _norm(theirs.norm2, ours.feed_forward_residual.norm)
        for theirs, ours in zip(peer.decoder.layers, model.decoder.layers, strict=True):
            _self_attention(theirs.self_attn, ours.self_attention)
            _norm(theirs.norm1, ours.self_attention_residual.norm)
            _cross_attention(theirs.multihead_attn, ours.cross_attention)
            _norm(theirs.norm2, ours.cross_attention_residual.norm)
            _feed_forward(theirs, ours)
            _norm(theirs.norm3, ours.feed_forward_residual.norm)
        for theirs, ours in ((peer.encoder, model.encoder), (peer.decoder, model.decoder)):
            if theirs.norm is not None:
                _norm(theirs.norm, ours.final_norm)


def _set(parameter: torch.nn.Parameter, ours: Any, *, transpose: bool = False) -> None:
    array = np.asarray(ours[...])
    parameter.copy_(torch.tensor(array.T if transpose else array))


def _norm(theirs: Any, ours: Any) -> None:
    _set(theirs.weight, ours.scale)
    _set(theirs.bias, ours.bias)


def _self_attention(theirs: Any, ours: Any) -> None:
    _set(theirs.in_proj_weight, ours.query_key_value.kernel, transpose=True)
    _set(theirs.in_proj_bias, ours.query_key_value.bias)
    _output(theirs, ours)


def _cross_attention(theirs: Any, ours: Any) -> None:
    kernel = np.concatenate([ours.query.kernel[...], ours.key_value.kernel[...]], axis=1)
    bias = np.concatenate([ours.query.bias[...], ours.key_value.bias[...]])
    theirs.in_proj_weight.copy_(torch.tensor(kernel.T))
    theirs.in_proj_bias.copy_(torch.tensor(bias))
    _output(theirs, ours)


def _output(theirs: Any, ours: Any) -> None:
    _set(theirs.out_proj.weight, ours.output.kernel, transpose=True)
    _set(theirs.out_proj.bias, ours.output.bias)


def _feed_forward(theirs: Any, ours: Any) -> None:
    _set(theirs.linear1.weight, ours.feed_forward.inner.kernel, transpose=True)
    _set(theirs.linear1.bias, ours.feed_forward.inner.bias)
    _set(theirs.linear2.weight, ours.feed_forward.outer.kernel, transpose=True)
    _set(theirs.linear2.bias, ours.feed_forward.outer.bias)
