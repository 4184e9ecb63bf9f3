"""PyTorch's ``nn.LSTM`` and ``nn.GRU`` as contestants, in this process or in one of another Python.

PyTorch has wheels for some Python versions only, JAX's newest release needs a newer one: as a script this file serves
a parent over its standard streams, one JSON line a request.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np


class TorchRecurrence:
    """One layer and direction over ``[batch, time, features]``, from a carry of zeros.

    Args:
      kind: ``"lstm"`` or ``"gru"``.
      arrays: ``inputs``, our cell's arrays by name, and where gradients are wanted ``cotangent``, which the outputs
        are multiplied by.
    """

    compile_s: float | None = None
    peak_bytes: int | None = None

    def __init__(self, kind: str, arrays: dict[str, np.ndarray]) -> None:
        import torch

        self.torch = torch
        self.version: str = torch.__version__
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        device = "cuda" if torch.cuda.is_available() else "cpu"

        def tensor(array: np.ndarray) -> Any:
            return torch.from_numpy(np.array(array, np.float32)).to(device)

        layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind]
        features, hidden = arrays["inputs"].shape[-1], arrays["recurrent_weight"].shape[0]
        self.layer = layer(features, hidden, batch_first=True).to(device)
        self.layer.load_state_dict({name: tensor(array) for name, array in to_torch(arrays).items()})
        self.layer.flatten_parameters()
        self.inputs = tensor(arrays["inputs"])
        self.cotangent = tensor(arrays["cotangent"]) if "cotangent" in arrays else None
        self.wanted: dict[str, Any] = {}
        if self.cotangent is not None:
            self.wanted = {"inputs": self.inputs.requires_grad_(), **dict(self.layer.named_parameters())}

    def _run(self) -> tuple[Any, tuple[Any, ...]]:
        with self.torch.set_grad_enabled(self.cotangent is not None):
            output = self.layer(self.inputs)[0]
        gradients = ()
        if self.cotangent is not None:
            gradients = self.torch.autograd.grad(output, list(self.wanted.values()), self.cotangent)
        if output.is_cuda:
            self.torch.cuda.synchronize()
        return output, gradients

    def __call__(self) -> None:
        self._run()

    def results(self) -> dict[str, np.ndarray]:
        """``output``, and the gradients under our names."""
        output, gradients = self._run()
        named = {"output": output, **dict(zip(self.wanted, gradients, strict=True))}
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in named.items()}
        return from_torch(arrays) if gradients else arrays

    def extra(self) -> dict[str, Any]:
        """Which PyTorch, and where."""
        return {"version": self.version, "process": "the same"}

    def close(self) -> None:
        """Nothing to end."""


def to_torch(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A cell's arrays in PyTorch's layout; the second bias holds what the GRU's reset gate multiplies, or zeros."""
    second = np.zeros_like(arrays["bias"])
    if "recurrent_bias" in arrays:
        second[-len(arrays["recurrent_bias"]) :] = arrays["recurrent_bias"]
    return {
        "weight_ih_l0": arrays["input_weight"].T,
        "weight_hh_l0": arrays["recurrent_weight"].T,
        "bias_ih_l0": arrays["bias"],
        "bias_hh_l0": second,
    }


def from_torch(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Gradients in our layout; the second bias counts for the GRU's inner one alone, which an LSTM does not have."""
    gates, hidden = arrays["weight_hh_l0"].shape
    found = {
        "output": arrays["output"],
        "inputs": arrays["inputs"],
        "input_weight": arrays["weight_ih_l0"].T,
        "recurrent_weight": arrays["weight_hh_l0"].T,
        "bias": arrays["bias_ih_l0"],
    }
    if gates == 3 * hidden:
        found["recurrent_bias"] = arrays["bias_hh_l0"][2 * hidden :]
    return found


class TorchRecurrenceElsewhere:
    """The same in a process of another Python; a call is one line there and one back."""

    compile_s: float | None = None
    peak_bytes: int | None = None

    def __init__(self, python: Path, kind: str, arrays: dict[str, np.ndarray]) -> None:
        self.python = python
        self.folder = tempfile.TemporaryDirectory()
        np.savez(Path(self.folder.name) / "arrays.npz", **arrays)
        self.process = subprocess.Popen(
            [python, __file__, self.folder.name, kind],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            self.version: str = self._answer()["version"]
        except BaseException:
            self.close()
            raise

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("error: the process of --torch-python ended; its message stands above")
        answer: dict[str, Any] = json.loads(line)
        if "memory" in answer:
            raise MemoryError(answer["memory"])
        if "error" in answer:
            raise SystemExit(f"error: PyTorch of {self.python}: {answer['error']}")
        return answer

    def _ask(self, request: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(request + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer, which is none, tells
        self._answer()

    def __call__(self) -> None:
        self._ask("call")

    def results(self) -> dict[str, np.ndarray]:
        """As of :class:`TorchRecurrence`."""
        self._ask("results")
        with np.load(Path(self.folder.name) / "results.npz", allow_pickle=False) as stored:
            return dict(stored)

    def extra(self) -> dict[str, Any]:
        """Which PyTorch, and where."""
        return {"version": self.version, "process": "another"}

    def close(self) -> None:
        """End the process."""
        self.process.communicate()
        self.folder.cleanup()


def serve(folder: Path, kind: str) -> None:
    """Answer requests until the input ends; what goes wrong is an answer too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, who then ends the input
    with np.load(folder / "arrays.npz", allow_pickle=False) as stored:
        arrays = dict(stored)
    try:
        side = TorchRecurrence(kind, arrays)
        print(json.dumps({"version": side.version}), flush=True)
        for request in sys.stdin:
            if request.strip() == "results":
                np.savez(folder / "results.npz", **side.results())
            else:
                side()
            print("{}", flush=True)
    except Exception as error:
        line = (str(error) or type(error).__name__).splitlines()[0]
        print(json.dumps({"memory" if "memory" in line else "error": line}), flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2])
