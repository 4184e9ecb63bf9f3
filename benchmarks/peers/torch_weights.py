"""Copies the weights of our encoder-decoder into PyTorch's, so that both sides start from the same numbers."""

from typing import Any

import numpy as np
import torch

from benchmarks.peers.torch_transformer import TorchTransformer
from transformer_jax.interop.to_torch import decoder_stack_to_torch, encoder_stack_to_torch
from transformer_jax.models.encoder_decoder import EncoderDecoder
from transformer_jax.nn.parameters import named_parameters


def load_from_ours(peer: TorchTransformer, model: EncoderDecoder) -> None:
    """Set every parameter of ``peer``; ours must have its norm placement, biases, and all embeddings shared."""
    with torch.no_grad():
        peer.embedding.weight.copy_(torch.tensor(np.asarray(model.target_embedding.embedding[...])))
    peer.encoder.load_state_dict(_tensors(encoder_stack_to_torch(named_parameters(model.encoder))))
    peer.decoder.load_state_dict(_tensors(decoder_stack_to_torch(named_parameters(model.decoder))))


def _tensors(arrays: Any) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(array) for name, array in arrays.items()}
