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
from transformer_jax.functional.positions import sinusoidal_table
from transformer_jax.functional.recurrent import cell_class
from transformer_jax.race.contestants import HEAD_DIM, NUM_LAYERS, PEERS

EPSILON = 1e-6


def is_installed() -> bool:
    """Whether PyTorch can be imported."""
    return find_spec("torch") is not None


class TorchContestant:
    """A model of PyTorch with our parameters, its loss and its training step with Adam.

    Args:
      kind: ``"torch_lstm"``, ``"torch_gru"`` or ``"torch_transformer"``.
      arrays: Our model's parameters by name.
      longest: The longest sequence.
    """

    def __init__(self, kind: str, arrays: Mapping[str, Any], longest: int) -> None:
        os.environ.setdefault(
            "KINETO_LOG_LEVEL", "99"
        )  # read at the import: the profiler's lines are for its authors
        import torch

        if kind not in PEERS:
            raise ValueError(f"kind must be one of {PEERS}, got {kind!r}")
        self.torch = torch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.set_num_threads(num_cores())
        embedding = self._tensor(arrays["embedding.embedding"])
        if kind == "torch_transformer":
            self.model = _transformer(torch, arrays, embedding, longest)
        else:
            self.model = _recurrent(torch, kind.removeprefix("torch_"), arrays, embedding)
        self.model = self.model.to(self.device)
        self.parameters = sum(parameter.numel() for parameter in self.model.parameters())
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def _tensor(self, array: Any) -> Any:
        return self.torch.from_numpy(np.array(array, np.float32))

    def tokens(self, tokens: Any) -> Any:
        """Tokens on the device."""
        return self.torch.from_numpy(np.array(tokens, np.int64)).to(self.device)

    def loss(self, tokens: Any) -> Any:
        """Mean cross-entropy of each token given those before it."""
        hidden = self.model(tokens[:, :-1])
        logits = hidden @ self.model.embedding.weight.T
        return self.torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    def forward(self, tokens: Any) -> float:
        """The loss without gradients."""
        with self.torch.no_grad():
            return float(self.loss(tokens))

    def training_step(self, tokens: Any) -> float:
        """Loss, gradients and one update."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(tokens)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def peak_bytes(self, run: Callable[[Any], Any], tokens: Any) -> int:
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
        before = sum(one.nbytes for one in (*parameters, *self.model.buffers(), *gradients, *state, tokens))
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profile:
            run(tokens)
        events = [one for one in profile.profiler.kineto_results.events() if one.name() == "[memory]"]
        changes = [one.nbytes() for one in sorted(events, key=lambda one: one.start_ns())]
        return before + max(0, *itertools.accumulate(changes))


def _recurrent(torch: Any, kind: str, arrays: Mapping[str, Any], embedding: Any) -> Any:
    width = embedding.shape[1]

    class Recurrent(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding.from_pretrained(embedding.clone(), freeze=False)
            layer = getattr(torch.nn, str(cell_class(kind).torch_layer))
            self.layers = layer(width, width, NUM_LAYERS, batch_first=True)
            with torch.no_grad():
                for index in range(NUM_LAYERS):
                    self._fill(index)

        def _fill(self, index: int) -> None:
            def ours(name: str) -> Any:
                return torch.from_numpy(np.array(arrays[f"cells.{index}.{name}"], np.float32))

            getattr(self.layers, f"weight_ih_l{index}").copy_(ours("input_weight").T)
            getattr(self.layers, f"weight_hh_l{index}").copy_(ours("recurrent_weight").T)
            getattr(self.layers, f"bias_ih_l{index}").copy_(ours("bias"))
            second = getattr(self.layers, f"bias_hh_l{index}")
            second.zero_()
            if f"cells.{index}.recurrent_bias" in arrays:
                second[2 * width :] = ours("recurrent_bias")

        def forward(self, tokens: Any) -> Any:
            return self.layers(self.embedding(tokens))[0]

    return Recurrent()


def _transformer(torch: Any, arrays: Mapping[str, Any], embedding: Any, longest: int) -> Any:
    width = embedding.shape[1]
    heads = max(1, width // HEAD_DIM)
    functional = torch.nn.functional

    def linear(name: str) -> Any:
        kernel = torch.from_numpy(np.array(arrays[f"{name}.kernel"], np.float32))
        bias = arrays.get(f"{name}.bias")
        layer = torch.nn.Linear(kernel.shape[0], kernel.shape[1], bias=bias is not None)
        with torch.no_grad():
            layer.weight.copy_(kernel.T)
            if bias is not None:
                layer.bias.copy_(torch.from_numpy(np.array(bias, np.float32)))
        return layer

    class Layer(torch.nn.Module):
        def __init__(self, index: int) -> None:
            super().__init__()
            name = f"layers.{index}."
            self.attention_norm = torch.nn.LayerNorm(width, eps=EPSILON)
            self.feed_forward_norm = torch.nn.LayerNorm(width, eps=EPSILON)
            self.query_key_value = linear(name + "self_attention.query_key_value")
            self.output = linear(name + "self_attention.output")
            self.inner = linear(name + "feed_forward.inner")
            self.outer = linear(name + "feed_forward.outer")

        def forward(self, x: Any) -> Any:
            batch, length, _ = x.shape
            fused = self.query_key_value(self.attention_norm(x)).view(batch, length, 3, heads, -1)
            query, key, value = fused.permute(2, 0, 3, 1, 4)
            context = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            x = x + self.output(context.transpose(1, 2).reshape(batch, length, width))
            return x + self.outer(functional.relu(self.inner(self.feed_forward_norm(x))))

    class Transformer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding.from_pretrained(embedding.clone(), freeze=False)
            positions = torch.from_numpy(np.array(sinusoidal_table(longest, width)))
            self.register_buffer("positions", positions)
            self.layers = torch.nn.ModuleList([Layer(index) for index in range(NUM_LAYERS)])
            self.final_norm = torch.nn.LayerNorm(width, eps=EPSILON)

        def forward(self, tokens: Any) -> Any:
            x = self.embedding(tokens) * width**0.5 + self.positions[: tokens.shape[1]]
            for layer in self.layers:
                x = layer(x)
            return self.final_norm(x)

    return Transformer()
