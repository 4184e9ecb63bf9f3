"""Check the attention of several libraries against one contract and write docs/attention-conformance.md.

    python benchmarks/attention_conformance.py            # print the table
    python benchmarks/attention_conformance.py --write    # and write the page

A library that is not installed is left out, and said so. About a minute on two cores.
"""

import argparse
import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax import functional as F
from transformer_jax.functional.attention import IMPLEMENTATIONS
from transformer_jax.testing.attention_conformance import (
    ConformanceResult,
    attention_conformance,
    conformance_table,
)

PAGE = Path(__file__).parent.parent / "docs" / "attention-conformance.md"

INTRODUCTION = """# Attention of several libraries under one contract

`transformer_jax.testing.attention_conformance.attention_conformance(attend)` runs the same checks on any attention
function, against a NumPy oracle in float64. *yes* = within 1e-5 of the largest entry (gradients 1e-4, 16 bits 2e-2);
*no* = another result, described below the table; *refuses* = it raises an exception before computing; *not asked* = the
check is about JAX's transforms and the function is not JAX's. A fully masked row should give zeros and no gradient; NaN
or Inf in a masked slot should not affect any output.

Made by `python benchmarks/attention_conformance.py --write` with {versions}.

"""


def ours(name: str) -> Callable[..., Any]:
    def attend(query: Any, key: Any, value: Any, mask: Any) -> Any:
        mask = None if mask is None else F.AttentionMask.dense(mask)
        return F.attention(query, key, value, mask=mask, implementation=name)

    return attend


def jax_nn(query: Any, key: Any, value: Any, mask: Any) -> Any:
    return jax.nn.dot_product_attention(query, key, value, mask=mask)


def flax_nnx(query: Any, key: Any, value: Any, mask: Any) -> Any:
    from flax import nnx

    return nnx.dot_product_attention(query, key, value, mask=mask)


def torch_sdpa(query: Any, key: Any, value: Any, mask: Any) -> Any:
    import torch

    tensors = [_tensor(array).transpose(1, 2) for array in (query, key, value)]
    return _sdpa(tensors, mask, torch).transpose(1, 2)


def torch_gradient(query: Any, key: Any, value: Any, mask: Any, cotangent: Any) -> tuple[Any, Any, Any]:
    import torch

    tensors = [_tensor(array).requires_grad_() for array in (query, key, value)]
    output = _sdpa([tensor.transpose(1, 2) for tensor in tensors], mask, torch).transpose(1, 2)
    found = torch.autograd.grad(output, tensors, _tensor(cotangent))
    return found[0], found[1], found[2]


def _sdpa(tensors: list[Any], mask: Any, torch: Any) -> Any:
    mask = None if mask is None else torch.from_numpy(np.array(mask))
    return torch.nn.functional.scaled_dot_product_attention(*tensors, attn_mask=mask, enable_gqa=True)


def _tensor(array: Any) -> Any:
    import torch

    dtype = getattr(torch, str(array.dtype))
    return torch.from_numpy(np.array(jnp.asarray(array).astype(jnp.float32))).to(dtype)


def functions() -> tuple[dict[str, tuple[Callable[..., Any], Callable[..., Any] | None]], list[str]]:
    """Every function that can be asked here, with its gradient, and what is left out and why."""
    found: dict[str, tuple[Callable[..., Any], Callable[..., Any] | None]] = {}
    left_out = []
    for name, implementation in IMPLEMENTATIONS.items():
        reasons = implementation.device_refusals()
        if reasons:
            left_out.append(f"`{name}`: {reasons[0]}")
        else:
            found[f"ours, `{name}`"] = (ours(name), None)
    found["`jax.nn.dot_product_attention`"] = (jax_nn, None)
    found["`flax.nnx.dot_product_attention`"] = (flax_nnx, None)
    if importlib.util.find_spec("torch") is None:
        left_out.append("PyTorch: not installed")
    else:
        found["PyTorch `scaled_dot_product_attention`"] = (torch_sdpa, torch_gradient)
    return found, left_out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help=f"write the page docs/{PAGE.name}")
    arguments = parser.parse_args()
    found, left_out = functions()
    results: dict[str, list[ConformanceResult]] = {}
    for name, (attend, gradient) in found.items():
        print(f"asking {name}", file=sys.stderr, flush=True)
        results[name] = attention_conformance(attend, gradient=gradient)
    packages = [name for name in ("jax", "flax", "torch", "tokamax") if importlib.util.find_spec(name)]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    versions.append(f"Python {platform.python_version()}, device {jax.devices()[0].device_kind}")
    page = INTRODUCTION.format(versions=", ".join(versions)) + conformance_table(results)
    if left_out:
        page += "\nNot asked here: " + "; ".join(left_out) + ".\n"
    print(page)
    if arguments.write:
        PAGE.write_text(page)
        print(f"wrote {PAGE}", file=sys.stderr)


if __name__ == "__main__":
    main()
