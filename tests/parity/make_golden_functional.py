"""What PyTorch's norms and losses compute, with gradients: ``python tests/parity/make_golden_functional.py``.

Inputs are float32 numbers; PyTorch computes in float64, so that the difference measured is ours alone.
"""

import numpy as np
import torch
import torch.nn.functional as F
from golden_store import remove_family, save_case

FAMILY = "functional"
IGNORED = -100
LOSS_CASES = {  # name: (label smoothing, with a bias, with ignored labels)
    "cross_entropy-plain": (0.0, False, False),
    "cross_entropy-smoothed": (0.1, False, False),
    "cross_entropy-masked": (0.0, True, True),
    "cross_entropy-smoothed_masked": (0.1, True, True),
}
NORM_CASES = [
    "layer_norm-affine",
    "layer_norm-plain",
    "rms_norm-affine",
    "batch_norm-train",
    "batch_norm-eval",
]


def _finish(
    arrays: dict[str, torch.Tensor | None], free: list[str], result: torch.Tensor
) -> dict[str, np.ndarray]:
    result.backward()
    present = {name: tensor for name, tensor in arrays.items() if tensor is not None}
    present |= {f"gradient.{name}": present[name].grad for name in free if name in present}
    return {name: tensor.detach().numpy() for name, tensor in present.items()}


def compute(case: str, seed: int) -> dict[str, np.ndarray]:
    """Inputs, results and gradients of one case."""
    generator = np.random.default_rng(seed)

    def draw(*shape: int, scale: float = 1.0) -> torch.Tensor:
        numbers = (scale * generator.normal(size=shape)).astype(np.float32)
        return torch.from_numpy(numbers.astype(np.float64)).requires_grad_()

    if case in LOSS_CASES:
        smoothing, with_bias, with_ignored = LOSS_CASES[case]
        hidden, embedding = draw(3, 4, 5), draw(7, 5)
        bias = draw(7) if with_bias else None
        labels = torch.from_numpy(generator.integers(0, 7, size=(3, 4)).astype(np.int64))
        if with_ignored:
            labels[0, 2:] = IGNORED
            labels[2] = IGNORED
        logits = F.linear(hidden, embedding, bias)
        logits.retain_grad()
        total = F.cross_entropy(logits.movedim(-1, 1), labels, reduction="sum", label_smoothing=smoothing)
        arrays = {
            "hidden": hidden, "embedding": embedding, "bias": bias, "labels": labels.to(torch.int32),
            "logits": logits, "smoothing": torch.tensor(smoothing), "sum": total,
            "count": (labels != IGNORED).sum(),
        }  # fmt: skip
        return _finish(arrays, ["hidden", "embedding", "bias", "logits"], total)

    x = draw(3, 4, 6, scale=2.0)
    affine = not case.endswith("plain")
    scale = draw(6) if affine else None
    bias = draw(6) if affine and not case.startswith("rms") else None
    arrays = {"x": x, "scale": scale, "bias": bias}
    if case.startswith("layer_norm"):
        y = F.layer_norm(x, (6,), scale, bias, eps=1e-5)
    elif case.startswith("rms_norm"):
        y = F.rms_norm(x, (6,), scale, eps=1e-6)
    else:
        arrays["mean"] = draw(6).detach()
        arrays["variance"] = draw(6).detach().square() + 0.5
        running = [arrays["mean"].clone(), arrays["variance"].clone()]
        flat = F.batch_norm(
            x.reshape(12, 6), *running, scale, bias, training=case.endswith("train"), momentum=0.1, eps=1e-5
        )
        y = flat.reshape(3, 4, 6)
        arrays["new_mean"], arrays["new_variance"] = running
    arrays["weights"] = draw(3, 4, 6).detach()
    arrays["y"] = y
    return _finish(arrays, ["x", "scale", "bias"], (y * arrays["weights"]).sum())


def list_cases() -> list[str]:
    """The names of all cases."""
    return [*NORM_CASES, *LOSS_CASES]


def main() -> None:
    """Write all cases anew."""
    remove_family(FAMILY)
    for seed, case in enumerate(list_cases()):
        save_case(FAMILY, case, compute(case, seed), torch.__version__)


if __name__ == "__main__":
    main()
