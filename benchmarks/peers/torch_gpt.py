"""nanoGPT's model in PyTorch eager with our weights: the peer of our training of language models."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from transformer_jax.models.decoder_only import DecoderOnlyConfig
from transformer_jax.training.config import AdamW

Arrays = Mapping[str, np.ndarray]


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array, np.float32))


def _linear(arrays: Arrays, name: str) -> nn.Linear:
    kernel, bias = arrays[f"{name}.kernel"], arrays.get(f"{name}.bias")
    layer = nn.Linear(kernel.shape[0], kernel.shape[1], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(_tensor(kernel).T)
        if bias is not None:
            layer.bias.copy_(_tensor(bias))
    return layer


def _norm(arrays: Arrays, name: str, epsilon: float) -> nn.LayerNorm:
    scale, bias = arrays[f"{name}.scale"], arrays.get(f"{name}.bias")
    layer = nn.LayerNorm(len(scale), eps=epsilon, bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(_tensor(scale))
        if bias is not None:
            layer.bias.copy_(_tensor(bias))
    return layer


class Layer(nn.Module):
    """A pre-norm layer, its attention by PyTorch's fused function."""

    def __init__(self, config: DecoderOnlyConfig, arrays: Arrays, index: int) -> None:
        super().__init__()
        name = f"stack.layers.{index}."
        self.num_heads, self.is_exact = config.num_heads, config.activation == "gelu"
        self.attention_norm = _norm(arrays, name + "self_attention_residual.norm", config.norm_epsilon)
        self.feed_forward_norm = _norm(arrays, name + "feed_forward_residual.norm", config.norm_epsilon)
        self.query_key_value = _linear(arrays, name + "self_attention.query_key_value")
        self.output = _linear(arrays, name + "self_attention.output")
        self.inner = _linear(arrays, name + "feed_forward.inner")
        self.outer = _linear(arrays, name + "feed_forward.outer")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        query, key, value = (
            one.view(batch, length, self.num_heads, -1).transpose(1, 2)
            for one in self.query_key_value(self.attention_norm(x)).split(width, dim=2)
        )
        context = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.output(context.transpose(1, 2).contiguous().view(batch, length, width))
        inner = self.inner(self.feed_forward_norm(x))
        return x + self.outer(functional.gelu(inner, approximate="none" if self.is_exact else "tanh"))


class TorchGPT(nn.Module):
    """A GPT with learned positions and tied embeddings, without dropout.

    Args:
      config: Ours: pre-norm, layer normalisation, learned positions, softmax attention.
      arrays: Our parameters by name.
    """

    def __init__(self, config: DecoderOnlyConfig, arrays: Arrays) -> None:
        super().__init__()
        self.embedding = nn.Parameter(_tensor(arrays["embedding.embedding"]))
        self.positions = nn.Parameter(_tensor(arrays["stack.positions.table"]))
        self.layers = nn.ModuleList([Layer(config, arrays, index) for index in range(config.num_layers)])
        self.final_norm = _norm(arrays, "stack.final_norm", config.norm_epsilon)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits ``[batch, len, vocab]``."""
        x = functional.embedding(tokens, self.embedding) + self.positions[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return functional.linear(self.final_norm(x), self.embedding)

    def loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy."""
        return functional.cross_entropy(self(inputs).flatten(0, 1), targets.flatten())


def make_optimizer(model: nn.Module, config: AdamW) -> torch.optim.Optimizer:
    """AdamW as nanoGPT sets it up: decay on matrices and tables alone; PyTorch's default implementation."""
    parameters = list(model.parameters())
    groups = [
        {"params": [one for one in parameters if one.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [one for one in parameters if one.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(config.beta1, config.beta2), eps=config.epsilon)


def training_step(
    model: TorchGPT,
    optimizer: torch.optim.Optimizer,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    *,
    learning_rate: float,
    clip_norm: float | None,
) -> torch.Tensor:
    """One update as nanoGPT writes it; returns the loss before it."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    loss = model.loss(inputs, targets)
    loss.backward()
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()
