"""PyTorch's part of stage 2: ``scaled_dot_product_attention`` by each of its backends, in a process without JAX."""

import json
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.device.attention_cases import MODES, Case, groups, measured, record
from benchmarks.device.watch import Event, emit, serve

BACKENDS = {
    "torch flash": "FLASH_ATTENTION", "torch cudnn": "CUDNN_ATTENTION", "torch efficient": "EFFICIENT_ATTENTION",
    "torch math": "MATH",
}  # fmt: skip
LARGEST_SCORES = 12e9


def tensors_of(case: Case, device: str) -> list[Any]:
    """Query, key, value and cotangent, ``[batch, heads, length, head_dim]``."""
    import torch

    torch.manual_seed(0)
    heads = [case.heads, case.kv_heads, case.kv_heads, case.heads]
    return [
        torch.randn(case.batch, count, case.length, case.head_dim, device=device).to(torch.bfloat16)
        for count in heads
    ]


def mask_of(case: Case, device: str) -> tuple[Any, bool]:
    """``(attn_mask, is_causal)``; PyTorch has no flag for windows and padding."""
    import torch

    if case.mask in ("causal", "full"):
        return None, case.mask == "causal"
    places = torch.arange(case.length, device=device)
    if case.mask == "padded":
        lengths = torch.tensor(case.lengths(), device=device)
        return (places[None] < lengths[:, None])[:, None, None, :], False
    distance = places[:, None] - places[None]
    return ((distance >= 0) & (distance <= case.window))[None, None], False


class Side:
    """One backend in one case and mode."""

    def __init__(
        self, case: Case, mode: str, backend: str, tensors: list[Any], mask: Any, is_causal: bool
    ) -> None:
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        self.torch, self.choose, self.backend = torch, sdpa_kernel, getattr(SDPBackend, backend)
        self.gradients = mode == MODES[1]
        *inputs, self.cotangent = tensors
        self.inputs = [one.detach().requires_grad_(self.gradients) for one in inputs]
        self.options = {"attn_mask": mask, "is_causal": is_causal, "enable_gqa": case.grouped}

    def __call__(self) -> list[Any]:
        """Launch once; nothing is waited for."""
        with self.choose([self.backend]), self.torch.set_grad_enabled(self.gradients):
            output = self.torch.nn.functional.scaled_dot_product_attention(*self.inputs, **self.options)
        if not self.gradients:
            return [output]
        return [output.detach(), *self.torch.autograd.grad(output, self.inputs, self.cotangent)]


def wanted_of(case: Case, tensors: list[Any], mask: Any, is_causal: bool) -> list[Any]:
    """Output and gradients of the first row's first group of heads, in float32 by the plain formula."""
    import torch

    query, key, value, cotangent = (one.float() for one in first_heads(case, tensors))
    query, key, value = (one.detach().requires_grad_() for one in (query, key, value))
    scores = query @ key.transpose(-1, -2) / case.head_dim**0.5
    if is_causal:
        mask = torch.ones(case.length, case.length, dtype=torch.bool, device=query.device).tril()[None, None]
    if mask is not None:
        scores = scores.masked_fill(~mask[:1], float("-inf"))
    output = scores.softmax(-1) @ value
    return [output.detach(), *torch.autograd.grad(output, [query, key, value], cotangent)]


def first_heads(case: Case, tensors: list[Any]) -> list[Any]:
    """Of the first row what belongs to its first head of keys."""
    group = case.heads // case.kv_heads
    return [one[:1, : group if one.shape[1] == case.heads else 1] for one in tensors]


def run_group(name: str, *, dry: bool) -> Iterator[Event]:
    """Compare, then time each case of a group."""
    import torch

    from benchmarks.device.timing import Queued, in_turns

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def wait(_: Any) -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    for case in groups(dry=dry)[name]:
        tensors = tensors_of(case, device)
        mask, is_causal = mask_of(case, device)
        wanted = wanted_of(case, tensors, mask, is_causal)
        for mode in MODES:
            sides, differences = {}, {}
            for one, backend in BACKENDS.items():
                scores = 4.0 * case.batch * case.heads * case.length**2
                if one == "torch math" and scores > LARGEST_SCORES:
                    yield record(case, one, mode, note=f"left out: it holds scores of {scores / 1e9:.0f} GB")
                    continue
                emit({"side": one})
                try:
                    side = Side(case, mode, backend, tensors, mask, is_causal)
                    got = side()
                    wait(got)
                except (RuntimeError, NotImplementedError) as error:
                    if "CUDA error" in str(error):
                        raise
                    yield record(case, one, mode, note="refused: " + " ".join(str(error).split())[:200])
                    continue
                pairs = zip(first_heads(case, got), wanted)
                differences[one] = max(float((a.float() - b).abs().max() / b.abs().max()) for a, b in pairs)
                sides[one] = Queued(side, wait)
            for one, milliseconds in in_turns(sides, samples=3 if dry else 7, seconds=1.0).items():
                found = measured(milliseconds, case.flops(mode))
                yield record(case, one, mode, **found, difference=differences[one])
            del sides
        del tensors, wanted
        if device == "cuda":
            torch.cuda.empty_cache()


def main() -> None:
    """The child: the items are the last argument."""
    import warnings

    warnings.filterwarnings("ignore")  # a refused backend says why by a warning for each reason
    dry = "--dry-run" in sys.argv
    items = json.loads(sys.argv[-1])

    def run(item: str) -> Iterator[Event]:
        if item == items[0]:
            import torch

            yield {"header": {"torch": torch.__version__}}
        yield from run_group(item, dry=dry)

    serve(run, items)


if __name__ == "__main__":
    main()
