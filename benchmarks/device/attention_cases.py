"""The cases of attention that are timed on a GPU, for JAX and for PyTorch alike; this file imports neither.

A batch holds 16,384 tokens whatever the length, and heads are 2,048 wide together, as in the papers of FlashAttention.
"""

import dataclasses
import statistics
from typing import Any

TOKENS, WIDTH = 16384, 2048
LENGTHS = (1024, 2048, 4096, 8192, 16384)
SHORT_LENGTHS = (128, 512)
WINDOW = 1024
GROUP = 4
"""Query heads that share a head of keys in grouped cases."""

MODES = ("forward", "forward and backward")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One problem; both modes of it are timed.

    Attributes:
      length: Of queries and of keys.
      head_dim: Width of a head.
      mask: ``"full"``, ``"causal"``, ``"window"`` (causal, and not further back than :data:`WINDOW`), or ``"padded"``
        (rows of half to all of the length).
      grouped: Whether heads of keys are shared by :data:`GROUP` query heads.
      tokens: Of the batch.
      width: Of all heads together.
    """

    length: int
    head_dim: int
    mask: str = "causal"
    grouped: bool = False
    tokens: int = TOKENS
    width: int = WIDTH

    @property
    def batch(self) -> int:
        """Sequences."""
        return max(1, self.tokens // self.length)

    @property
    def heads(self) -> int:
        """Query heads."""
        return self.width // self.head_dim

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.heads // GROUP if self.grouped else self.heads

    @property
    def window(self) -> int:
        """How far back a query sees in a window case."""
        return min(WINDOW, self.length // 2)

    def lengths(self) -> list[int]:
        """Keys of each row that are no padding, in a padded case: from half of the length to all of it."""
        half, rows = self.length // 2, self.batch
        return [self.length - half + half * row // max(1, rows - 1) for row in range(rows)]

    @property
    def name(self) -> str:
        """For tables."""
        heads = f"{self.heads}/{self.kv_heads}" if self.grouped else f"{self.heads}"
        return f"{self.batch} x {self.length} x {heads} x {self.head_dim}, {self.mask}"

    @property
    def pairs(self) -> float:
        """Pairs of a query and a key that see each other, of one head, summed over the batch."""
        length = self.length
        if self.mask == "padded":
            return float(sum(length * keys for keys in self.lengths()))
        if self.mask == "full":
            return float(self.batch * length**2)
        hidden = 0.0 if self.mask == "causal" else (length - self.window - 1) * (length - self.window) / 2
        return self.batch * (length * (length + 1) / 2 - hidden)

    def flops(self, mode: str) -> float:
        """Two products forward, five more backward (one of them made again), as FlashAttention's papers count."""
        return (4.0 if mode == MODES[0] else 14.0) * self.heads * self.head_dim * self.pairs


def groups(*, dry: bool) -> dict[str, list[Case]]:
    """Cases that are compiled together and then timed, the most telling group first."""
    if dry:
        tiny = {"tokens": 64, "width": 32}
        return {
            "tiny": [
                Case(length=32, head_dim=16, mask="padded", grouped=False, **tiny),
                Case(length=16, head_dim=8, mask="window", grouped=True, **tiny),
            ]
        }
    both = (64, 128)
    return {
        "causal 4k": [Case(length=4096, head_dim=width) for width in both],
        "short, padded": [
            Case(length=length, head_dim=64, mask=mask) for length in SHORT_LENGTHS for mask in ("padded", "causal")
        ],
        "masks 4k": [
            *(Case(length=4096, head_dim=width, mask="full") for width in both),
            Case(length=4096, head_dim=64, mask="padded"),
            Case(length=4096, head_dim=128, mask="window"),
            Case(length=4096, head_dim=128, grouped=True),
        ],
        "causal 16k": [Case(length=16384, head_dim=width) for width in both],
        "1k": [
            *(Case(length=1024, head_dim=width) for width in both),
            *(Case(length=1024, head_dim=64, mask=mask) for mask in ("full", "padded")),
        ],
        "full, window 16k": [
            Case(length=16384, head_dim=128, mask="full"),
            Case(length=16384, head_dim=128, mask="window"),
        ],
        "8k and 2k": [
            *(Case(length=8192, head_dim=width) for width in both),
            *(Case(length=2048, head_dim=width) for width in both),
            Case(length=2048, head_dim=64, mask="padded"),
        ],
    }  # fmt: skip


def record(case: Case, name: str, mode: str, **found: Any) -> dict[str, Any]:
    """One implementation in one case."""
    shape = {
        "length": case.length, "head_dim": case.head_dim, "mask": case.mask, "grouped": case.grouped,
        "batch": case.batch, "heads": case.heads, "dtype": "bfloat16",
    }  # fmt: skip
    blank = dict.fromkeys(("median_ms", "q25_ms", "q75_ms", "samples", "difference", "tflops"))
    return {"case": case.name, "implementation": name, "mode": mode, **shape, **blank, "note": "", **found}


def measured(milliseconds: list[float], flops: float) -> dict[str, Any]:
    """Quartiles and speed of the samples."""
    lower, middle, upper = statistics.quantiles(milliseconds, n=4, method="inclusive")
    return {
        "median_ms": middle, "q25_ms": lower, "q75_ms": upper, "samples": len(milliseconds),
        "tflops": flops / middle / 1e9,
    }  # fmt: skip
