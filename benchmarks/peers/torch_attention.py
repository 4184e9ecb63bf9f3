"""PyTorch's ``scaled_dot_product_attention`` as a contestant, in this process or in one of another Python.

PyTorch has wheels for some Python versions only, JAX's newest release needs a newer one: as a script this file serves
a parent over its standard streams, one JSON line a request.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np


class TorchAttention:
    """The call on arrays ``[batch, length, heads, head_dim]``, turned to heads before length as PyTorch likes them.

    Args:
      arrays: Query, key, value; a fourth is the cotangent, and gradients are taken then.
      is_causal: Whether a query sees only what came before.
      mask: Broadcastable to ``[batch, heads, q_len, kv_len]``, True = may attend, or None.
      dtype: Name of the dtype.
      dropout: Rate of dropped weights.
    """

    compile_s: float | None = None
    peak_bytes: int | None = None

    def __init__(
        self,
        arrays: list[np.ndarray],
        *,
        is_causal: bool,
        mask: np.ndarray | None,
        dtype: str,
        dropout: float = 0.0,
    ) -> None:
        import torch

        self.torch, self.is_causal, self.dropout = torch, is_causal, dropout
        self.version: str = torch.__version__
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.arrays = [
            torch.from_numpy(np.array(array, np.float32))
            .to(device, getattr(torch, dtype))
            .transpose(1, 2)
            .contiguous()
            for array in arrays
        ]
        self.mask = None if mask is None else torch.from_numpy(np.array(mask)).to(device)
        if len(arrays) > 3:
            for array in self.arrays[:3]:
                array.requires_grad_()

    def __call__(self) -> Any:
        output = self.torch.nn.functional.scaled_dot_product_attention(
            *self.arrays[:3],
            attn_mask=self.mask,
            is_causal=self.is_causal,
            dropout_p=self.dropout,
            enable_gqa=self.arrays[0].shape[1] != self.arrays[1].shape[1],
        )
        if len(self.arrays) > 3:
            self.torch.autograd.grad(output, self.arrays[:3], self.arrays[3])
        if output.is_cuda:
            self.torch.cuda.synchronize()
        return output

    def output(self) -> np.ndarray:
        return self().detach().transpose(1, 2).float().cpu().numpy()


class TorchAttentionElsewhere:
    """The same in a process of another Python; a call is one line there and one back."""

    compile_s: float | None = None
    peak_bytes: int | None = None

    def __init__(
        self,
        python: Path,
        arrays: list[np.ndarray],
        *,
        is_causal: bool,
        mask: np.ndarray | None,
        dtype: str,
        dropout: float = 0.0,
    ) -> None:
        self.folder = tempfile.TemporaryDirectory()
        named = {str(place): np.asarray(array, np.float32) for place, array in enumerate(arrays)}
        np.savez(Path(self.folder.name) / "arrays.npz", **named, **({} if mask is None else {"mask": mask}))
        self.process = subprocess.Popen(
            [python, __file__, self.folder.name, dtype, str(int(is_causal)), str(dropout)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.version: str = self._answer()["version"]

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("error: the process of --torch-python ended; its message stands above")
        return json.loads(line)

    def _ask(self, request: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        self._answer()

    def __call__(self) -> None:
        self._ask("call")

    def output(self) -> np.ndarray:
        self._ask("output")
        return np.load(Path(self.folder.name) / "output.npy", allow_pickle=False)

    def close(self) -> None:
        """End the process."""
        self.process.communicate()
        self.folder.cleanup()


def serve(folder: Path, dtype: str, is_causal: bool, dropout: float) -> None:
    """Answer requests until the input ends."""
    with np.load(folder / "arrays.npz", allow_pickle=False) as stored:
        arrays = [stored[name] for name in sorted(set(stored) - {"mask"})]
        mask = stored.get("mask")
    side = TorchAttention(arrays, is_causal=is_causal, mask=mask, dtype=dtype, dropout=dropout)
    print(json.dumps({"version": side.version}), flush=True)
    for request in sys.stdin:
        if request.strip() == "output":
            np.save(folder / "output.npy", side.output())
        else:
            side()
        print("{}", flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "1", float(sys.argv[4]))
