"""What GPT-2's equations give in PyTorch, with gradients: ``python tests/parity/make_golden_gpt.py``.

Weights and inputs are float32 numbers; PyTorch computes in float64, so that the difference measured is ours alone.
"""

import numpy as np
import torch
from golden_store import remove_family, save_case
from torch.nn import functional

FAMILY = "gpt"
VOCAB, CONTEXT, WIDTH, HEADS, LAYERS = 13, 7, 8, 2, 2
BATCH, LENGTH = 2, 6


def hugging_face_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of a ``GPT2LMHeadModel``'s state, but for the tied ``lm_head.weight``."""
    shapes = {"wte.weight": (VOCAB, WIDTH), "wpe.weight": (CONTEXT, WIDTH)}
    for layer in range(LAYERS):
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"h.{layer}.{norm}.weight": (WIDTH,), f"h.{layer}.{norm}.bias": (WIDTH,)}
        for name, inner, outer in (
            ("attn.c_attn", WIDTH, 3 * WIDTH),
            ("attn.c_proj", WIDTH, WIDTH),
            ("mlp.c_fc", WIDTH, 4 * WIDTH),
            ("mlp.c_proj", 4 * WIDTH, WIDTH),
        ):
            shapes |= {f"h.{layer}.{name}.weight": (inner, outer), f"h.{layer}.{name}.bias": (outer,)}
    shapes |= {"ln_f.weight": (WIDTH,), "ln_f.bias": (WIDTH,)}
    return {f"transformer.{name}": shape for name, shape in shapes.items()}


def forward(state: dict[str, torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    """GPT-2 by its equations (Radford et al. 2019, section 2.3): logits ``[batch, length, vocab]``."""
    batch, length = tokens.shape
    own = {name.removeprefix("transformer."): value for name, value in state.items()}

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(x, (WIDTH,), own[f"{name}.weight"], own[f"{name}.bias"], 1e-5)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ own[f"{name}.weight"] + own[f"{name}.bias"]

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.view(batch, length, HEADS, WIDTH // HEADS).transpose(1, 2)

    hidden = own["wte.weight"][tokens] + own["wpe.weight"][:length]
    ahead = torch.ones(length, length, dtype=torch.bool).triu(1)
    for layer in range(LAYERS):
        query, key, value = linear(norm(hidden, f"h.{layer}.ln_1"), f"h.{layer}.attn.c_attn").split(WIDTH, -1)
        scores = heads(query) @ heads(key).transpose(2, 3) / (WIDTH // HEADS) ** 0.5
        weights = scores.masked_fill(ahead, float("-inf")).softmax(-1)
        mixed = (weights @ heads(value)).transpose(1, 2).reshape(batch, length, WIDTH)
        hidden = hidden + linear(mixed, f"h.{layer}.attn.c_proj")
        inner = functional.gelu(
            linear(norm(hidden, f"h.{layer}.ln_2"), f"h.{layer}.mlp.c_fc"), approximate="tanh"
        )
        hidden = hidden + linear(inner, f"h.{layer}.mlp.c_proj")
    return norm(hidden, "ln_f") @ own["wte.weight"].T


def compute(case: str, seed: int = 5) -> dict[str, np.ndarray]:
    """Weights, inputs, logits, loss and gradients of a case."""
    assert case == "gpt2"
    generator = np.random.default_rng(seed)
    state = {}
    for name, shape in hugging_face_shapes().items():
        near_one = 1.0 if ".ln_" in name and name.endswith("weight") else 0.0
        array = (near_one + 0.3 * generator.normal(size=shape)).astype(np.float32)
        state[name] = torch.tensor(array, dtype=torch.float64, requires_grad=True)
    tokens = torch.tensor(generator.integers(0, VOCAB, (BATCH, LENGTH)))
    logits = forward(state, tokens)
    loss = functional.cross_entropy(logits[:, :-1].reshape(-1, VOCAB), tokens[:, 1:].reshape(-1))
    loss.backward()
    arrays = {
        "tokens": tokens.numpy().astype(np.int32),
        "logits": logits.detach().numpy(),
        "loss": loss.detach(),
    }
    for name, value in state.items():
        assert value.grad is not None
        arrays |= {f"weight/{name}": value.detach().numpy(), f"gradient/{name}": value.grad.numpy()}
    return {name: np.asarray(array) for name, array in arrays.items()}


if __name__ == "__main__":
    remove_family(FAMILY)
    save_case(FAMILY, "gpt2", compute("gpt2"), torch.__version__)
