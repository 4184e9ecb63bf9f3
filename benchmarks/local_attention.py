"""Local attention over length: time and memory of a window beside all earlier tokens, and of a step of decoding.

    python benchmarks/local_attention.py                              1,024 to 65,536 tokens, windows of 256 and 1,024
    python benchmarks/local_attention.py --lengths 256 512 --windows 64 --seconds 2      a look
    python benchmarks/local_attention.py --json benchmarks/results/local-attention-cpu.json --figures docs/images

Part one is attention with gradients in query, key and value, one sequence, float32. What is taken at most in memory is
what the compiled program says it needs beside arguments and results. Causal attention without a window is left out
above ``--full-up-to`` tokens, where a call takes minutes. Part two is one token of a language model after a text of
the length: with the cache of the whole text and with the rolling one of a window. Contestants of a length take turns.
"""

import argparse
import dataclasses
import functools
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import jax
import jax.numpy as jnp

from benchmarks.attention import MODES, Case, OurSide, our_arrays, our_function
from transformer_jax import models, nn
from transformer_jax.allocator import keep_freed_memory
from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.race.timing import Record, compile_ahead, interleave, quartiles, write_json

LENGTHS = (1024, 2048, 4096, 8192, 16384, 32768, 65536)
WINDOWS = (256, 1024)
IMPLEMENTATIONS = ("blockwise", "native_cpu")
VOCABULARY = 256


def attention_sides(
    length: int, windows: list[int], *, full_up_to: int, heads: int, head_dim: int
) -> dict[str, tuple[Case, OurSide]]:
    """Each mask by each implementation that can do it here."""
    masks = [f"window {window - 1}" for window in windows if window < length]  # so many before the query
    masks += ["causal"] if length <= full_up_to else []
    sides = {}
    for mask in masks:
        case = Case(length=length, mask=mask, mode=MODES[1], heads=heads, head_dim=head_dim)
        shapes = [
            jax.ShapeDtypeStruct(array.shape, array.dtype)
            for array in jax.eval_shape(functools.partial(our_arrays, case))
        ]
        for name in IMPLEMENTATIONS:
            try:
                jax.eval_shape(our_function(case, name), *shapes)
            except NotImplementedError:
                continue
            label = "all before" if mask == "causal" else f"window {int(mask.split()[1]) + 1}"
            sides[f"{label}, {name}"] = case, OurSide(case, name)
    return sides


class DecodingStep:
    """One token after a text of ``length`` tokens; the state is made, not read, since time does not depend on it."""

    def __init__(self, length: int, window: int | None, width: int) -> None:
        config = models.DecoderOnlyConfig(
            model_dim=width,
            num_heads=max(1, width // 32),
            num_kv_heads=max(1, width // 32),
            feed_forward_dim=4 * width,
            num_layers=2,
            positions=nn.Rotary(),
            window_len=window,
        )
        model = models.build_model(config, models.Sizes(vocab_size=VOCABULARY), seed=0)
        empty = TokenInputs(jnp.zeros((1, 0), jnp.int32), jnp.zeros(1, jnp.int32))
        state = model.start(empty, max_len=length)
        caches = tuple(
            dataclasses.replace(cache, length=jnp.full_like(cache.length, length - 1))
            for cache in state.caches
        )
        self.state = dataclasses.replace(state, caches=caches)
        self.state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(self.state))
        self.token = jnp.zeros(1, jnp.int32)
        self.run, self.compile_s, self.peak_bytes = compile_ahead(model.step, self.state, self.token)

    def __call__(self) -> Any:
        return jax.block_until_ready(self.run(self.state, self.token))


def timed(
    case_name: str, sides: dict[str, Any], extras: dict[str, dict[str, Any]], *, calls: int, seconds: float
) -> list[Record]:
    """All sides in turns, one record each."""
    records = []
    for name, milliseconds in interleave(sides, calls=calls, max_seconds=seconds).items():
        lower, middle, upper = quartiles(milliseconds)
        records.append(
            Record(
                case=case_name, implementation=name, compile_s=sides[name].compile_s, median_ms=middle,
                q25_ms=lower, q75_ms=upper, peak_bytes=sides[name].peak_bytes, tokens_per_s=None,
                flops=None, max_abs_err=None, extra={**extras[name], "calls": len(milliseconds)},
            )
        )  # fmt: skip
    line = ", ".join(f"{record.implementation} {record.median_ms:.2f} ms" for record in records)
    print(f"{case_name}: {line}", flush=True)
    return records


def measure(
    lengths: list[int],
    windows: list[int],
    *,
    full_up_to: int,
    calls: int,
    seconds: float,
    heads: int = 4,
    head_dim: int = 64,
    width: int = 256,
) -> list[Record]:
    """Both parts at every length."""
    records = []
    for length in lengths:
        found = attention_sides(length, windows, full_up_to=full_up_to, heads=heads, head_dim=head_dim)
        extras = {
            name: {"part": "attention", **dataclasses.asdict(case)} for name, (case, _) in found.items()
        }
        sides: dict[str, Any] = {name: side for name, (_, side) in found.items()}
        if sides:
            records += timed(f"attention: {length}", sides, extras, calls=calls, seconds=seconds)
        chosen = [None, *(window for window in windows if window < length)]
        steps = {
            "all before" if window is None else f"window {window}": DecodingStep(length, window, width)
            for window in chosen
        }
        extras = {
            name: {"part": "decoding", "length": length, "state_bytes": step.state_bytes}
            for name, step in steps.items()
        }
        records += timed(f"decoding: {length}", steps, extras, calls=calls, seconds=seconds)
    return records


def figure(records: list[Record], path: Path) -> None:
    """Time and memory of both parts over length, log-log."""
    from transformer_jax.plot.throughput import throughput_over_length

    panels: dict[str, dict[str, dict[str, list[float]]]] = {}

    def add(panel: str, record: Record, middle: float, **spread: float) -> None:
        line = panels.setdefault(panel, {}).setdefault(record.implementation, {"length": [], "median": []})
        for name, value in {"length": record.extra["length"], "median": middle, **spread}.items():
            line.setdefault(name, []).append(value)

    for record in records:
        part, memory = record.extra["part"], record.peak_bytes
        assert record.median_ms is not None
        assert record.q25_ms is not None
        assert record.q75_ms is not None
        add(f"{part}, milliseconds", record, record.median_ms, low=record.q25_ms, high=record.q75_ms)
        memory = record.extra["state_bytes"] if part == "decoding" else memory
        if memory:
            add(f"{part}, megabytes", record, memory / 1e6)
    path.parent.mkdir(parents=True, exist_ok=True)
    throughput_over_length(
        panels,
        y_label="milliseconds or megabytes",
        x_label="length (tokens)",
        title="Windows beside all earlier tokens",
        path=path,
    )


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=_count, nargs="+", default=list(LENGTHS), help="tokens of a text")
    parser.add_argument("--windows", type=_count, nargs="+", default=list(WINDOWS), help="tokens of a window")
    parser.add_argument(
        "--full-up-to", type=int, default=8192, help="longest text for attention without a window"
    )
    parser.add_argument("--calls", type=_count, default=20, help="timed calls of each contestant at most")
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds a case at most")
    parser.add_argument("--json", type=Path, help="write the records here")
    parser.add_argument("--figures", type=Path, help="write local-attention-PLATFORM.png into this folder")
    arguments = parser.parse_args()
    keep_freed_memory()
    records = measure(
        arguments.lengths,
        arguments.windows,
        full_up_to=arguments.full_up_to,
        calls=arguments.calls,
        seconds=arguments.seconds,
    )
    if arguments.json:
        write_json(arguments.json, records)
    if arguments.figures:
        figure(records, arguments.figures / f"local-attention-{jax.default_backend()}.png")


if __name__ == "__main__":
    main()
