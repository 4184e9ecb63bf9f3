"""Attention: time and memory of every implementation over length, beside PyTorch and JAX's own, in one run.

    python benchmarks/attention.py                                   all of it (half an hour on two cores)
    python benchmarks/attention.py --lengths 512 --seconds 5         a look
    python benchmarks/attention.py --parts shapes                    the shapes of translation, BERT, GPT and the like
    python benchmarks/attention.py --parts memory --json benchmarks/results/attention-memory-cpu.json \
        --figures docs/images                                        what is compiled, not timed

Contestants of a case take turns in one process. ``None`` is what the library chooses. The shapes of work are short and
padded: key lengths are drawn between a half and all of ``kv_len``; PyTorch gets them as a mask. Forward, and forward
with gradients in query, key and value. On a CPU float32, 8 heads of 64; on a GPU bfloat16, heads of 64 and 128. Memory
is what the compiled program says it needs beside arguments and results, and for one length what a process of its own
was seen to take. The floor is the multiplications that cannot be left out, over the matmul speed measured in the run.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers.torch_attention import TorchAttention, TorchAttentionElsewhere
from transformer_jax import functional as F
from transformer_jax.allocator import keep_freed_memory
from transformer_jax.environment import environment
from transformer_jax.functional.attention import IMPLEMENTATIONS
from transformer_jax.race.timing import (
    Record,
    compile_ahead,
    interleave,
    matmul_peak,
    paired_ratio,
    quartiles,
    write_json,
)

HEADS = 8
CPU_LENGTHS, GPU_LENGTHS = (128, 256, 512, 1024, 2048, 4096), (1024, 2048, 4096, 8192, 16384)
MEMORY_LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
MODES = ("forward", "forward and backward")
PARTS = ("shapes", "time", "memory")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One problem; ``batch`` fills the machine at short lengths.

    Attributes:
      length: Of the queries.
      mask: ``full``, ``causal``, ``padded`` or ``window N``.
      kv_length: Of the keys; None = as many.
      kv_heads: Of keys and values; None = as many as of the queries.
      dropout: Rate of dropped weights.
    """

    length: int
    mask: str = "full"
    kv_length: int | None = None
    kv_heads: int | None = None
    dropout: float = 0.0
    mode: str = "forward"
    rule: str = "scaled dot"
    batch: int = 1
    heads: int = HEADS
    head_dim: int = 64
    dtype: str = "float32"

    @property
    def name(self) -> str:
        rule = "" if self.rule == "scaled dot" else f"{self.rule}, "
        length = f"{self.length}" if self.kv_length is None else f"({self.length}, {self.kv_length})"
        heads = f"{self.heads}" if self.kv_heads is None else f"({self.heads}, {self.kv_heads})"
        drops = f", dropout {self.dropout:g}" if self.dropout else ""
        return f"{rule}{self.batch} x {length} x {heads} x {self.head_dim}, {self.mask}{drops}, {self.mode}"

    @property
    def num_keys(self) -> int:
        return self.length if self.kv_length is None else self.kv_length

    @property
    def pairs(self) -> float:
        """Pairs of a query and a key that see each other, of one head of one sequence."""
        if self.mask == "causal":
            return self.length * (self.length + 1) / 2
        if self.mask.startswith("window"):
            return self.length * min(self.length, int(self.mask.split()[1]) + 1)
        if self.mask == "padded":
            return self.length * float(self.key_lengths().mean())
        return self.length * self.num_keys

    @property
    def flops(self) -> float:
        """Two products forward, four backward; what is computed again is not counted."""
        products = 2 if self.mode == "forward" else 6
        return products * 2.0 * self.batch * self.heads * self.head_dim * self.pairs

    def shape(self) -> tuple[int, int, int, int]:
        return self.batch, self.length, self.heads, self.head_dim

    def key_shape(self) -> tuple[int, int, int, int]:
        return self.batch, self.num_keys, self.kv_heads or self.heads, self.head_dim

    def key_lengths(self) -> np.ndarray:
        """Between a half of the keys and all of them; the first sequence is full."""
        drawn = np.random.default_rng(1).integers(self.num_keys // 2, self.num_keys + 1, self.batch)
        return np.concatenate([[self.num_keys], drawn[1:]]).astype(np.int32)

    def attention_mask(self) -> F.AttentionMask | None:
        if self.mask == "causal":
            return F.AttentionMask.causal()
        if self.mask == "padded":
            return F.AttentionMask.from_lengths(jnp.asarray(self.key_lengths()), self.num_keys)
        if self.mask.startswith("window"):
            return F.AttentionMask.window(int(self.mask.split()[1]), 0)
        return None


def our_function(case: Case, implementation: str | None) -> Callable[..., Any]:
    """The forward pass, or the gradients, of one of our implementations; rule parameters come after the arrays."""

    def attend(query: Any, key: Any, value: Any, *parameters: Any) -> Any:
        score = F.Additive(*parameters) if case.rule == "additive" else F.ScaledDot()
        dropout = F.AttentionDropout(case.dropout, jax.random.key(0)) if case.dropout else None
        mask = case.attention_mask()
        return F.attention(
            query, key, value, score=score, mask=mask, dropout=dropout, implementation=implementation
        )

    if case.mode == "forward":
        return attend

    def gradients(query: Any, key: Any, value: Any, *rest: Any) -> Any:
        *parameters, cotangent = rest
        output, pull_back = jax.vjp(attend, query, key, value, *parameters)
        return output, pull_back(cotangent)

    return gradients


def our_arrays(case: Case) -> list[Any]:
    draw = np.random.default_rng(0).normal
    shapes = case.shape(), case.key_shape(), case.key_shape()
    arrays = [jnp.asarray(draw(size=shape), case.dtype) for shape in shapes]
    if case.rule == "additive":
        width = case.head_dim
        arrays += [
            jnp.asarray(0.1 * draw(size=size), case.dtype) for size in [(width, width)] * 2 + [(width,)]
        ]
    if case.mode != "forward":
        arrays.append(jnp.asarray(draw(size=case.shape()), case.dtype))
    return arrays


class OurSide:
    """One implementation, compiled; a call runs to its end."""

    def __init__(self, case: Case, implementation: str | None) -> None:
        self.arrays = our_arrays(case)
        self.run, self.compile_s, self.peak_bytes = compile_ahead(
            our_function(case, implementation), *self.arrays
        )

    def __call__(self) -> Any:
        return jax.block_until_ready(self.run(*self.arrays))

    def output(self) -> np.ndarray:
        return np.asarray(jax.tree.leaves(self())[0], np.float32)


def torch_side(case: Case, python: Path | None) -> TorchAttention | TorchAttentionElsewhere:
    """PyTorch on the same numbers, in this process or in one of another Python."""
    arrays = [np.asarray(array, np.float32) for array in our_arrays(case)]
    mask = None if case.mask == "causal" else case.attention_mask()
    told: dict[str, Any] = {
        "is_causal": case.mask == "causal",
        "mask": None if mask is None else np.array(mask.compact(case.length, case.num_keys)),
        "dtype": case.dtype,
        "dropout": case.dropout,
    }
    return TorchAttentionElsewhere(python, arrays, **told) if python else TorchAttention(arrays, **told)


def contestants(case: Case, *, with_torch: bool, torch_python: Path | None) -> dict[str, Any]:
    """Everything that can do the case here and is not out of all proportion."""
    names = [name for name in IMPLEMENTATIONS if name != "tokamax"]
    found: dict[str, Any] = {"None": OurSide(case, None)}
    shapes = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in our_arrays(case)]
    for name in names:
        if name in ("reference", "xla") and case.batch * case.heads * case.length**2 * 4 > 6e9:
            continue  # more than the machine's memory, or minutes
        try:
            jax.eval_shape(our_function(case, name), *shapes)
        except NotImplementedError:
            continue
        found[name] = OurSide(case, name)
    if with_torch and case.rule == "scaled dot":
        found["torch"] = torch_side(case, torch_python)
    return found


def run_case(
    case: Case, *, calls: int, seconds: float, with_torch: bool, torch_python: Path | None
) -> list[Record]:
    """Compare outputs, then time all sides in turns."""
    sides = contestants(case, with_torch=with_torch, torch_python=torch_python)
    reference = sides.get("reference", sides["blockwise"]).output()
    # What PyTorch drops it draws by itself: where weights are dropped it is not compared.
    compared = {name: side for name, side in sides.items() if not (case.dropout and name == "torch")}
    errors = {name: float(np.abs(side.output() - reference).max()) for name, side in compared.items()}
    tolerance = 1e-3 if case.dtype == "float32" else 5e-2
    wrong = {name: error for name, error in errors.items() if not error < tolerance}
    if wrong:
        raise SystemExit(
            f"error: {case.name}: these differ from the reference by more than {tolerance}: {wrong}"
        )
    times = interleave(sides, calls=calls, max_seconds=seconds)
    peer = sides.get("torch")
    if isinstance(peer, TorchAttentionElsewhere):
        peer.close()
    records = []
    for name, milliseconds in times.items():
        lower, middle, upper = quartiles(milliseconds)
        extra: dict[str, Any] = {**dataclasses.asdict(case), "calls": len(milliseconds)}
        ratio, low, high = paired_ratio(milliseconds, times["blockwise"])
        extra["time_over_blockwise"] = {"median": ratio, "low": low, "high": high}
        if "torch" in times and name != "torch":
            ratio, low, high = paired_ratio(times["torch"], milliseconds)
            extra["torch_time_over_this"] = {"median": ratio, "low": low, "high": high}
        if name == "torch":
            extra["version"], extra["process"] = (
                sides[name].version,
                "another" if torch_python else "the same",
            )
        records.append(
            Record(
                case=case.name,
                implementation=name,
                compile_s=sides[name].compile_s,
                median_ms=middle,
                q25_ms=lower,
                q75_ms=upper,
                peak_bytes=sides[name].peak_bytes,
                tokens_per_s=case.batch * case.length / middle * 1e3,
                flops=case.flops,
                max_abs_err=errors.get(name),
                extra=extra,
            )
        )
    line = ", ".join(f"{record.implementation} {record.median_ms:.1f} ms" for record in records)
    print(f"{case.name}: {line}", flush=True)
    return records


def temporary_bytes(case: Case, implementation: str) -> int:
    """What the compiled program takes beside arguments and results; nothing is run."""
    shapes = [
        jax.ShapeDtypeStruct(array.shape, array.dtype) for array in jax.eval_shape(lambda: our_arrays(case))
    ]
    compiled = jax.jit(our_function(case, implementation)).lower(*shapes).compile()
    return int(compiled.memory_analysis().temp_size_in_bytes)


def run_memory(lengths: list[int], dtype: str) -> list[Record]:
    """Temporary memory of forward and backward over length, by the compiled program's own analysis."""
    records = []
    rules = [
        ("scaled dot", HEADS, lengths),
        ("additive", 1, [length for length in lengths if length <= 2048]),
    ]
    for rule, heads, own_lengths in rules:
        for length in own_lengths:
            for mask in ("full", "causal") if rule == "scaled dot" else ("full",):
                case = Case(length=length, mask=mask, mode=MODES[1], rule=rule, heads=heads, dtype=dtype)
                taken = {}
                for name in ("reference", "blockwise"):
                    taken[name] = temporary_bytes(case, name)
                    records.append(
                        Record(
                            case=f"memory: {case.name}", implementation=name, compile_s=None, median_ms=None,
                            q25_ms=None, q75_ms=None, peak_bytes=taken[name], tokens_per_s=None,
                            flops=case.flops, max_abs_err=None, extra=dataclasses.asdict(case),
                        )
                    )  # fmt: skip
                megabytes = {name: round(size / 1e6) for name, size in taken.items()}
                print(f"memory: {case.name}: {megabytes} MB", flush=True)
    return records


def resident_bytes(length: int, implementation: str) -> int:
    """What a process of its own takes at most while it runs forward and backward once."""
    command = [sys.executable, __file__, "--child", implementation, "--lengths", str(length)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(json.loads(told)["bytes"])


def child(implementation: str, length: int) -> None:
    """The process that :func:`resident_bytes` watches: its highest resident memory in a call, beyond that before."""
    run = OurSide(Case(length=length, mode=MODES[1]), implementation)
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest so far, which compiling set
    before = _status_bytes("VmRSS")
    run()
    print(json.dumps({"bytes": _status_bytes("VmHWM") - before}))


def _status_bytes(name: str) -> int:
    """A size in ``/proc/self/status``."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def figures(document: dict[str, Any], folder: Path) -> None:
    """Time and memory over length, log-log, the floor drawn in."""
    from transformer_jax.plot.throughput import throughput_over_length

    place = "gpu" if document["environment"]["platform"] == "gpu" else "cpu"
    folder.mkdir(parents=True, exist_ok=True)
    timed = [
        one for one in document["records"] if one["median_ms"] is not None and not one["extra"]["batch"] > 1
    ]
    timed = [one for one in timed if one["extra"]["head_dim"] == 64 and one["extra"]["heads"] == HEADS]
    timed = [one for one in timed if one["implementation"] != "None"]
    panels: dict[str, dict[str, dict[str, list[float]]]] = {}
    for one in timed:
        extra = one["extra"]
        if extra["mask"] not in ("full", "causal"):
            continue
        lines = panels.setdefault(f"{extra['mask']}, {extra['mode']}", {})
        columns = lines.setdefault(one["implementation"], {"length": [], "median": [], "low": [], "high": []})
        for name, value in (
            ("length", extra["length"]), ("median", one["median_ms"]), ("low", one["q25_ms"]), ("high", one["q75_ms"]),
        ):  # fmt: skip
            columns[name].append(value)
        floor = lines.setdefault("floor", {"length": [], "median": []})
        if extra["length"] not in floor["length"]:
            floor["length"].append(extra["length"])
            floor["median"].append(one["flops"] / document["matmul_peak"] * 1e3)
    if timed:
        throughput_over_length(
            panels, y_label="milliseconds", x_label="length (tokens)",
            title=f"Attention, {HEADS} heads of 64, {timed[0]['extra']['dtype']}",
            path=folder / f"attention-time-{place}.png",
        )  # fmt: skip
    memory: dict[str, dict[str, dict[str, list[float]]]] = {}
    for one in document["records"]:
        if not one["case"].startswith("memory: "):
            continue
        extra = one["extra"]
        title = f"additive rule, {extra['heads']} head" if extra["rule"] == "additive" else extra["mask"]
        columns = memory.setdefault(title, {}).setdefault(one["implementation"], {"length": [], "median": []})
        columns["length"].append(extra["length"])
        columns["median"].append(one["peak_bytes"] / 1e6)
    if memory:
        throughput_over_length(
            memory, y_label="megabytes", x_label="length (tokens)",
            title="Temporary memory of attention and its gradients", path=folder / f"attention-memory-{place}.png",
        )  # fmt: skip


def speed_cases(lengths: list[int], *, on_gpu: bool) -> list[Case]:
    """Masks and modes at every length, a window, and the additive rule."""
    cases = []
    dtype = "bfloat16" if on_gpu else "float32"
    for head_dim in (64, 128) if on_gpu else (64,):
        for length in lengths:
            batch = 32 if length <= 128 else 8 if length <= 256 else 1
            for mask in ("full", "causal"):
                cases += [
                    Case(length=length, mask=mask, mode=mode, batch=batch, head_dim=head_dim, dtype=dtype)
                    for mode in MODES
                ]
    longest = max(lengths)
    cases += [Case(length=longest, mask="window 256", mode=mode, dtype=dtype) for mode in MODES]
    length = min(2048, longest)
    return cases + [Case(length=length, mode=mode, rule="additive", heads=1, dtype=dtype) for mode in MODES]


def shapes_of_work() -> list[Case]:
    """A translation model's encoder, and with dropout; its cross attention; BERT; GPT; grouped heads; long; small."""
    shapes = [
        Case(batch=64, length=40, mask="padded"),
        Case(batch=64, length=40, mask="padded", dropout=0.1),
        Case(batch=32, length=30, kv_length=200, mask="padded"),
        Case(batch=4, length=384, heads=12, mask="padded"),
        Case(batch=2, length=768, heads=12, mask="causal"),
        Case(batch=1, length=1536, kv_heads=2, head_dim=128, mask="causal"),
        Case(batch=1, length=3000, heads=4),
        Case(batch=16, length=96, heads=4, head_dim=32, mask="causal"),
    ]
    return [dataclasses.replace(case, mode=mode) for case in shapes for mode in MODES]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", help="lengths to time (default: by device)")
    parser.add_argument("--calls", type=int, default=20, help="timed calls of each contestant at most")
    parser.add_argument(
        "--seconds", type=float, default=15.0, help="seconds a case at most, beyond five rounds"
    )
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
    parser.add_argument(
        "--torch-python", type=Path, help="take PyTorch from this Python, in a process of its own"
    )
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure (default: all)"
    )
    parser.add_argument("--json", type=Path, help="write the records here")
    parser.add_argument(
        "--figures", type=Path, help="write attention-time and attention-memory pictures here"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.lengths[0])
        return
    keep_freed_memory()
    on_gpu = jax.default_backend() == "gpu"
    lengths = arguments.lengths or list(GPU_LENGTHS if on_gpu else CPU_LENGTHS)
    dtype, size = ("bfloat16", 8192) if on_gpu else ("float32", 1024)
    header: dict[str, Any] = {"shapes_of_work": [case.name for case in shapes_of_work()]}
    is_timed = bool({"shapes", "time"} & set(arguments.parts))
    if is_timed:
        peak = header["matmul_peak"] = matmul_peak(size, dtype=dtype)
        print(f"matmul peak {peak / 1e9:,.0f} GFLOP/s ({dtype}, {size} x {size})", flush=True)
    with_torch = is_timed and not arguments.no_torch
    if with_torch and not arguments.torch_python and find_spec("torch") is None:
        print("PyTorch is not installed here: it is left out; --torch-python PYTHON takes it from another")
        with_torch = False
    records: list[Record] = []
    timed = shapes_of_work() if "shapes" in arguments.parts else []
    timed += speed_cases(lengths, on_gpu=on_gpu) if "time" in arguments.parts else []
    for case in timed:
        records += run_case(
            case,
            calls=arguments.calls,
            seconds=arguments.seconds,
            with_torch=with_torch,
            torch_python=arguments.torch_python,
        )
    if "memory" in arguments.parts:
        records += run_memory(list(MEMORY_LENGTHS), dtype)
        if not on_gpu:
            resident = {name: resident_bytes(4096, name) for name in ("reference", "blockwise")}
            header["resident_bytes_at_4096"] = resident
            print(f"resident memory at 4096: { ({n: round(b / 1e6) for n, b in resident.items()}) } MB")
    if arguments.json:
        write_json(arguments.json, records, **header)
    if arguments.figures:
        document = {
            "environment": environment(),
            **header,
            "records": [dataclasses.asdict(r) for r in records],
        }
        figures(document, arguments.figures)


if __name__ == "__main__":
    main()
