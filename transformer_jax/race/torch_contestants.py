"""PyTorch's own LSTM, GRU and Transformer as contestants, with the weights of ours.

The one module of the library that imports PyTorch, and only when one of them is asked for.
"""

import itertools
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from transformer_jax.allocator import num_cores
from transformer_jax.data.token_batches import TokenBatch
from transformer_jax.functional.positions import sinusoidal_table
from transformer_jax.interop.to_torch import cells_to_torch, encoder_stack_to_torch
from transformer_jax.models.recurrent_lm import RecurrentLMConfig
from transformer_jax.nn.parameters import named_parameters


def is_installed() -> bool:
    """Whether PyTorch can be imported."""
    return find_spec("torch") is not None


class TorchContestant:
    """A model of PyTorch with our parameters, its loss and its training step with Adam.

    Args:
      model: Ours, a recurrent language model or a decoder-only Transformer.
      longest: The longest sequence.
    """

    def __init__(self, model: Any, longest: int) -> None:
        os.environ.setdefault(
            "KINETO_LOG_LEVEL", "99"
        )  # read at the import: the profiler's lines are for its authors
        import torch

        self.torch = torch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.set_num_threads(num_cores())
        self.model = _language_model(torch, model, longest).to(self.device)
        self.parameters = sum(parameter.numel() for parameter in self.model.parameters())
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def tokens(self, batch: TokenBatch) -> tuple[Any, Any]:
        """Inputs and targets of a batch on the device."""
        inputs, targets = (
            self.torch.from_numpy(np.array(array, np.int64)).to(self.device)
            for array in (batch.inputs, batch.targets)
        )
        return inputs, targets

    def loss(self, tokens: tuple[Any, Any]) -> Any:
        """Mean cross-entropy of each token given those before it."""
        inputs, targets = tokens
        return self.torch.nn.functional.cross_entropy(self.model(inputs).flatten(0, 1), targets.flatten())

    def forward(self, tokens: tuple[Any, Any]) -> float:
        """The loss without gradients."""
        with self.torch.no_grad():
            return float(self.loss(tokens))

    def training_step(self, tokens: tuple[Any, Any]) -> float:
        """Loss, gradients and one update."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(tokens)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def peak_bytes(self, run: Callable[[Any], Any], tokens: tuple[Any, Any]) -> int:
        """The most memory that PyTorch's allocator has given out at a time during a call.

        On a GPU its own account; on a CPU the profiler's list of what was taken and given back, on top of what
        lived before the call. As XLA's figure it holds parameters, optimiser state, tokens and whatever the call
        makes of them.

        Args:
          run: :meth:`forward` or :meth:`training_step`, called once.
          tokens: As :meth:`tokens` gives them.
        """
        torch = self.torch
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            run(tokens)
            return int(torch.cuda.max_memory_allocated())
        state = [value for values in self.optimizer.state.values() for value in values.values()]
        parameters = list(self.model.parameters())
        gradients = [one.grad for one in parameters if one.grad is not None]
        before = sum(one.nbytes for one in (*parameters, *self.model.buffers(), *gradients, *state, *tokens))
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profile:
            run(tokens)
        events = [one for one in profile.profiler.kineto_results.events() if one.name() == "[memory]"]
        changes = [one.nbytes() for one in sorted(events, key=lambda one: one.start_ns())]
        return before + max(0, *itertools.accumulate(changes))


def _language_model(torch: Any, model: Any, longest: int) -> Any:
    """A language model of PyTorch's parts with the weights of ours."""
    table, bias = model.output_projection()
    width = table.shape[1]
    is_recurrent = isinstance(model.config, RecurrentLMConfig)
    body = _recurrent(torch, model) if is_recurrent else _transformer(torch, model)

    class LanguageModel(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            weights = torch.from_numpy(np.array(table, np.float32))
            self.embedding = torch.nn.Embedding.from_pretrained(weights, freeze=False)
            self.body = body
            self.bias = None
            if bias is not None:
                self.bias = torch.nn.Parameter(torch.from_numpy(np.array(bias, np.float32)))
            if not is_recurrent:
                self.register_buffer(
                    "positions", torch.from_numpy(np.array(sinusoidal_table(longest, width)))
                )

        def forward(self, tokens: Any) -> Any:
            x = self.embedding(tokens) * width**0.5
            hidden = self.body(x)[0] if is_recurrent else self.body(x + self.positions[: tokens.shape[1]])
            return torch.nn.functional.linear(hidden, self.embedding.weight, self.bias)

    return LanguageModel()


def _recurrent(torch: Any, model: Any) -> Any:
    cells = [layer.forward_cell.cell() for layer in model.stack.layers]
    width = cells[0].hidden_dim
    layers = getattr(torch.nn, str(cells[0].torch_layer))(width, width, len(cells), batch_first=True)
    layers.load_state_dict(_tensors(torch, cells_to_torch(cells)))
    return layers


def _transformer(torch: Any, model: Any) -> Any:
    config = model.config
    functional = torch.nn.functional

    class CausalLayer(torch.nn.TransformerEncoderLayer):
        """PyTorch's parameters; its own forward pass wants the causal mask as an array, which costs time and memory."""

        def forward(self, x: Any, **_: Any) -> Any:
            batch, length, width = x.shape
            attention = self.self_attn
            fused = functional.linear(self.norm1(x), attention.in_proj_weight, attention.in_proj_bias)
            fused = fused.view(batch, length, 3, config.num_heads, -1)
            query, key, value = fused.permute(2, 0, 3, 1, 4)
            context = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            x = x + attention.out_proj(context.transpose(1, 2).reshape(batch, length, width))
            return x + self.linear2(functional.relu(self.linear1(self.norm2(x))))

    layer = CausalLayer(
        config.model_dim, config.num_heads, config.feed_forward_dim, dropout=0.0, norm_first=True,
        layer_norm_eps=config.norm_epsilon, batch_first=True,
    )  # fmt: skip
    norm = torch.nn.LayerNorm(config.model_dim, eps=config.norm_epsilon)
    stack = torch.nn.TransformerEncoder(layer, config.num_layers, norm=norm, enable_nested_tensor=False)
    stack.load_state_dict(_tensors(torch, encoder_stack_to_torch(named_parameters(model.stack))))
    return torch.nn.Sequential(*stack.layers, stack.norm)


def _tensors(torch: Any, arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name: torch.from_numpy(np.array(array, np.float32)) for name, array in arrays.items()}
