"""Resident memory of a contestant in a process of its own, by the kernel's count: fair to whatever it is written in.

    python benchmarks/resident.py transformer_jax --sizes base --beams 4 --sentences 64

What a process holds when its libraries are loaded (``imported``) is taken before the weights are there; then come the
weights and a first pass over the set, which compiles where there is something to compile (``first``); then glibc gives
back what is free (``ready`` is what stays), and a second pass is made (``pass``). All are above ``imported``, ``first``
and ``pass`` the most that was resident meanwhile. So ``first`` is what a machine must have for a program to begin, with
its conversions and its compiler, and ``pass`` what translating takes, weights included.

Linux alone tells (``/proc/self/status``, ``/proc/self/clear_refs``); elsewhere nothing is measured.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np

from transformer_jax.allocator import give_back

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): the peak resident set size becomes the current one


def resident_bytes(field: str = "VmRSS") -> int:
    """What the kernel counts for this process: ``VmRSS`` now, ``VmHWM`` the most since the last reset."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{STATUS} has no {field}")


def collect_and_give_back() -> None:
    """Leave to the kernel what this process does not need."""
    gc.collect()
    give_back()


def peak_during(work: Callable[[], Any]) -> int:
    """The most bytes that were resident while ``work`` ran."""
    collect_and_give_back()
    CLEAR.write_text(RESET_PEAK)
    work()
    return resident_bytes("VmHWM")


def measure(make: Callable[[], Callable[[], Any]]) -> dict[str, int]:
    """Bytes above those of now: see the head of this file.

    Args:
      make: Builds the contestant, and gives what makes one pass over the set.
    """
    collect_and_give_back()
    imported = resident_bytes()
    passes: list[Callable[[], Any]] = []

    def first() -> None:
        passes.append(make())
        passes[0]()

    peaks = {"first": peak_during(first)}
    collect_and_give_back()
    ready = resident_bytes()
    peaks["pass"] = peak_during(passes[0])
    found = {"ready": ready, **peaks}
    return {"imported": imported, **{name: value - imported for name, value in found.items()}}


def in_a_child(name: str, weights: Path, options: dict[str, Any]) -> dict[str, int] | None:
    """The measurement of one contestant of `benchmarks/decoding.py` in a fresh process; ``None`` where nobody tells.

    Args:
      name: Which.
      weights: File of our parameters, for a peer.
      options: ``sizes``, ``beams`` and ``sentences``.

    Raises:
      RuntimeError: If the child fails; holds the end of what it said.
    """
    if not os.access(STATUS, os.R_OK) or not os.access(CLEAR, os.W_OK):
        return None
    words = [word for option, value in options.items() for word in (f"--{option}", str(value))]
    command = [sys.executable, os.path.abspath(__file__), name, "--weights", str(weights), *words]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"resident memory of {name}: {ran.stderr.strip()[-2000:]}")
    return json.loads(ran.stdout.splitlines()[-1])


def all_in_children(
    names: list[str], arrays: dict[str, np.ndarray], options: dict[str, Any]
) -> dict[str, dict[str, int] | None]:
    """`in_a_child` of each, one after the other; the arrays go by a file."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.npz"
        np.savez(weights, **arrays)  # type: ignore[arg-type]  # NumPy reads a name as its own option
        return {name: in_a_child(name, weights, options) for name in names}


def main() -> None:
    """The child: measure one contestant and print it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=["transformer_jax", "transformers", "ctranslate2"])
    parser.add_argument("--weights", type=Path, help="our parameters by name (.npz); a peer needs them")
    parser.add_argument("--sizes", default="base")
    parser.add_argument("--beams", type=int, default=1)
    parser.add_argument("--sentences", type=int, default=64)
    options = parser.parse_args()
    # Loaded before the measurement: libraries are not what a search takes.
    from benchmarks import decoding
    from benchmarks.peers import marian
    from transformer_jax.allocator import keep_freed_memory

    sizes = decoding.SIZES[options.sizes]
    sources = decoding.make_sources(sizes, options.sentences)

    def ours() -> Callable[[], Any]:
        search = decoding.Ours(decoding.make_model(sizes), options.beams)
        return lambda: search(sources)

    def peer(kind: Any) -> Callable[[], Any]:
        with np.load(options.weights) as arrays:
            made = kind(dict(arrays), sizes, decoding.IDS)
        return lambda: decoding.over_batches(made, sources, options.beams)

    if options.name == "transformer_jax":
        keep_freed_memory()
        decoding.make_model(decoding.SIZES["tiny"])  # starts the backend
        found = measure(ours)
    elif options.name == "transformers":
        import torch  # noqa: F401 - loaded before it is measured
        import transformers  # noqa: F401 - likewise

        found = measure(lambda: peer(marian.Marian))
    else:
        import ctranslate2  # noqa: F401 - likewise

        found = measure(lambda: peer(marian.CTranslate))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
