"""How every benchmark here measures: interleaved calls in one process, medians and quartiles, compile time apart.

A *contestant* is a zero-argument callable that runs one whole call to its end (it blocks until the result is
there). Contestants of one case take turns, in an order shuffled anew each round, so that a noisy neighbour or a
clock change meets all of them alike; compare ratios within one run, never absolute times between runs.
"""

import json
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.environment import environment
from transformer_jax.files import write_whole
from transformer_jax.memory import program_bytes
from transformer_jax.notes import note

Contestant = Callable[[], Any]


@dataclass(kw_only=True)
class Record:
    """One implementation in one case; times in milliseconds, memory in bytes, FLOPs of one call by formula."""

    case: str
    implementation: str
    compile_s: float | None
    median_ms: float | None
    q25_ms: float | None
    q75_ms: float | None
    peak_bytes: int | None
    tokens_per_s: float | None
    flops: float | None
    max_abs_err: float | None
    note: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


def compile_ahead(function: Callable, *arguments: Any, **jit_options: Any) -> tuple[Any, float, int | None]:
    """Compile ``function`` for ``arguments``: the executable, the seconds it took, its peak bytes if XLA tells."""
    begin = time.perf_counter()
    executable = jax.jit(function, **jit_options).lower(*arguments).compile()
    seconds = time.perf_counter() - begin
    return executable, seconds, program_bytes(executable)


def interleave(
    contestants: Mapping[str, Contestant],
    *,
    calls: int = 20,
    warmup: int = 2,
    max_seconds: float | None = None,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Milliseconds of each timed call of each contestant, taking turns in shuffled order.

    Args:
      contestants: Name to a callable that blocks until its result is there.
      calls: Timed calls of each contestant.
      warmup: Untimed calls of each before the first timed one.
      max_seconds: Stop after the round in which this is passed (at least five rounds are always made).
      seed: Of the order in each round.
    """
    for call in contestants.values():
        for _ in range(warmup):
            call()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    shuffler = random.Random(seed)
    started = time.perf_counter()
    for round_index in range(calls):
        shuffler.shuffle(order)
        for name in order:
            begin = time.perf_counter()
            contestants[name]()
            times[name].append((time.perf_counter() - begin) * 1e3)
        if max_seconds is not None and round_index >= 4 and time.perf_counter() - started > max_seconds:
            break
    return times


def quartiles(milliseconds: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(milliseconds) == 1:
        return (milliseconds[0],) * 3
    lower, middle, upper = statistics.quantiles(milliseconds, n=4, method="inclusive")
    return lower, middle, upper


def paired_ratio(
    numerator: list[float], denominator: list[float], *, seed: int = 0
) -> tuple[float, float, float]:
    """Median of the per-round ratios, with the 95 % interval of its bootstrap: (median, low, high)."""
    ratios = np.asarray(numerator) / np.asarray(denominator)
    draws = np.random.default_rng(seed).choice(ratios, size=(2000, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return float(np.median(ratios)), float(low), float(high)


def interval_text(ratio: Mapping[str, float] | None) -> str:
    """A ratio of :func:`paired_ratio`, kept by name, with its interval; nothing where there is none.

    Example:
      >>> interval_text({"median": 1.0, "low": 0.9, "high": 1.25})
      '1.00 [0.90, 1.25]'
    """
    return "" if ratio is None else f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"


def matmul_peak(size: int = 1024, *, calls: int = 9, dtype: str = "float32") -> float:
    """Floating-point operations a second of a square matmul, the best of some calls: the floor's ruler."""
    left = jax.random.normal(jax.random.key(0), (size, size), dtype)
    multiply = jax.jit(jnp.matmul)
    multiply(left, left).block_until_ready()
    best = min(_seconds(lambda: multiply(left, left).block_until_ready()) for _ in range(calls))
    return 2 * size**3 / best


def memory_bandwidth(megabytes: int = 256, *, calls: int = 9) -> float:
    """Bytes a second that ``a + b`` reads and writes, the best of some calls: the other ruler of a roofline."""
    size = megabytes * 2**20 // 4
    left = jnp.ones((size,), jnp.float32)
    add = jax.jit(jnp.add)
    add(left, left).block_until_ready()
    best = min(_seconds(lambda: add(left, left).block_until_ready()) for _ in range(calls))
    return 2 * 4 * size / best  # both operands are one array


def available_bytes() -> int | None:
    """Memory that is free on the device, ``None`` where nobody tells."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        return stats["bytes_limit"] - stats["bytes_in_use"] if "bytes_limit" in stats else None
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def out_of_memory(error: BaseException) -> str | None:
    """What XLA, PyTorch or Python says of memory that ran out, in one line; ``None`` for any other error."""
    said = ("resource_exhausted", "out of memory", "can't allocate memory")
    if not isinstance(error, MemoryError) and not any(words in str(error).lower() for words in said):
        return None
    return f"out of memory: {(str(error) or 'no more is told').splitlines()[0][:120]}"


def _seconds(call: Contestant) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def write_json(path: str | Path, records: list[Record], **header: Any) -> None:
    """Write the records under their environment header, whole or not at all."""
    path = Path(path)
    document = {"environment": environment(), **header, "records": [asdict(record) for record in records]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(document, indent=1) + "\n")
    note(f"wrote {path}")
