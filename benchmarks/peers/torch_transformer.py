"""PyTorch eager's encoder-decoder Transformer with tied embeddings: the peer of our training step."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class TorchSizes:
    """The sizes that both sides share."""

    vocab_size: int
    model_dim: int
    num_heads: int
    feed_forward_dim: int
    num_layers: int
    dropout_rate: float
    is_pre_norm: bool = False


class TorchTransformer(nn.Module):
    """Vaswani et al. 2017 out of PyTorch's own layers: ReLU, sinusoids, one embedding for all three.

    Post-norm as in the paper, or pre-norm with a last norm behind each stack.
    """

    def __init__(self, sizes: TorchSizes) -> None:
        super().__init__()
        shared = {
            "d_model": sizes.model_dim,
            "nhead": sizes.num_heads,
            "dim_feedforward": sizes.feed_forward_dim,
            "dropout": sizes.dropout_rate,
            "batch_first": True,
            "norm_first": sizes.is_pre_norm,
        }

        def last_norm() -> nn.LayerNorm | None:
            return nn.LayerNorm(sizes.model_dim) if sizes.is_pre_norm else None

        self.embedding = nn.Embedding(sizes.vocab_size, sizes.model_dim)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(**shared),
            sizes.num_layers,
            norm=last_norm(),
            enable_nested_tensor=False,
        )
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(**shared), sizes.num_layers, norm=last_norm()
        )
        self.dropout = nn.Dropout(sizes.dropout_rate)
        self.scale = math.sqrt(sizes.model_dim)
        self.register_buffer("table", torch.zeros(0, sizes.model_dim), persistent=False)

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        length = tokens.shape[1]
        if self.table.shape[0] < length:
            width = self.embedding.embedding_dim
            angles = np.arange(length)[:, None] / 10_000.0 ** (np.arange(0, width, 2) / width)
            table = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, width)
            self.table = torch.tensor(table, dtype=torch.float32, device=self.embedding.weight.device)
        return self.dropout(self.embedding(tokens) * self.scale + self.table[:length])

    def forward(
        self, source: torch.Tensor, source_padding: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        """Logits [batch, target_len, vocab]; ``source_padding`` is True at padding, as PyTorch has it."""
        causal = nn.Transformer.generate_square_subsequent_mask(
            target.shape[1], device=target.device, dtype=torch.bool
        )
        memory = self.encoder(self.embed(source), src_key_padding_mask=source_padding)
        hidden = self.decoder(
            self.embed(target),
            memory,
            tgt_mask=causal,
            tgt_is_causal=True,
            memory_key_padding_mask=source_padding,
        )
        return hidden @ self.embedding.weight.T


def training_step(
    model: TorchTransformer, optimizer: torch.optim.Optimizer, batch: dict[str, torch.Tensor]
) -> float:
    """One update as people write it: zero, forward, loss with label smoothing, backward, Adam; returns the loss."""
    optimizer.zero_grad(set_to_none=True)
    logits = model(batch["source"], batch["source_padding"], batch["target_inputs"])
    loss = nn.functional.cross_entropy(
        logits.flatten(0, 1), batch["target_outputs"].flatten(), label_smoothing=0.1, ignore_index=0
    )
    loss.backward()
    optimizer.step()
    return float(loss.detach())
