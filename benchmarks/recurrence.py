"""Recurrences: cells over time beside Flax and PyTorch, and in their forms that are parallel in time, in one run.

    python benchmarks/recurrence.py                                  all of it
    python benchmarks/recurrence.py --longest 64 --seconds 2         a look
    python benchmarks/recurrence.py --parts peers --json benchmarks/results/recurrence-cpu.json --figures docs/images

Three parts. ``peers``: LSTM and GRU by ``scan`` and ``reference``, the LSTM
by the native kernel where it is built, by ``flax.nnx.RNN``, by PyTorch, on a GPU also by
cuDNN. ``linear``: the cells whose carry is linear, by ``scan`` and ``associative``. ``newton``: LSTM and GRU as
initialised, by ``scan`` and by ``parallel_recurrence``. Forward, and forward with the gradients in inputs and all
parameters of the sum of the outputs times a fixed array. Contestants of a case have the same weights, are held to
the plain loop's outputs and gradients first, and take turns in one process. All are float32; on a GPU they multiply
in TF32 where that is their default, and the tolerance is wider. FLOPs are the multiplications of a step by step run,
whatever a contestant does. On a CPU PyTorch's threads spin while they wait, at every step: beside other jobs its times
say nothing, unless OMP_WAIT_POLICY=passive is set.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import jax
import numpy as np
from flax import nnx
from rich.console import Console
from rich.table import Table

from benchmarks.device.watch import is_device_lost
from benchmarks.peers.torch_recurrence import TorchRecurrence, TorchRecurrenceElsewhere
from transformer_jax import native
from transformer_jax.allocator import keep_freed_memory
from transformer_jax.functional.recurrent import CELLS, Cell, cell_class, parallel_recurrence, recurrence
from transformer_jax.nn.recurrent import RecurrentCell
from transformer_jax.race.timing import (
    Record,
    compile_ahead,
    interleave,
    matmul_peak,
    out_of_memory,
    paired_ratio,
    quartiles,
    write_json,
)

PARTS = ("peers", "linear", "newton")
MODES = ("forward", "forward and backward")
CLASSIC_KINDS = ("lstm", "gru")
PEER_SIZES = (  # batch, time, hidden
    (64, 48, 512), (128, 20, 128), (32, 32, 256), (64, 64, 512), (16, 512, 256), (1, 128, 256),
)  # fmt: skip
_LINEAR = tuple(cell.kind for cell in CELLS if cell.is_linear)
LINEAR_TOKENS, LINEAR_TIMES, LINEAR_HIDDEN = 16384, (64, 512, 4096), 256
NEWTON_TIMES, NEWTON_WIDTHS, FULL_JACOBIAN_WIDTH = (64, 512, 2048), (32, 256), 32

CPU_TOLERANCES, GPU_TOLERANCES = (1e-5, 1e-4), (5e-3, 2e-2)
"""Of outputs, relative where they are larger than 1; of gradients, relative to the largest of an array."""

NEWTON_TOLERANCES = (1e-4, 1e-3)
TOLERANCES = {
    "torch": (1e-4, 1e-4),
    "associative": (1e-4, 1e-4),  # adds thousands of steps in another order
    "parallel diagonal": NEWTON_TOLERANCES,
    "parallel full": NEWTON_TOLERANCES,
}
"""Of those that have their own on a CPU."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One problem; the inputs are as wide as the carry."""

    part: str
    cell: str
    batch: int
    time: int
    hidden: int
    mode: str = "forward"

    @property
    def size(self) -> str:
        return f"{self.batch} x {self.time} x {self.hidden}"

    @property
    def name(self) -> str:
        return f"{self.part}: {self.cell}, {self.size}, {self.mode}"

    def extra(self) -> dict[str, Any]:
        """What every record of the case has."""
        return {**dataclasses.asdict(self), "features": self.hidden, "dtype": "float32"}

    @property
    def has_gradients(self) -> bool:
        return self.mode == "forward and backward"

    @property
    def flops(self) -> float:
        """One product of inputs and one of the state with their weights, a step; twice as much backward."""
        rows = self.hidden if cell_class(self.cell).is_linear else 2 * self.hidden
        forward = 2.0 * self.batch * self.time * rows * cell_class(self.cell).num_gates * self.hidden
        return forward * (3 if self.has_gradients else 1)


def our_cell(case: Case) -> Cell:
    """The cell as initialised; for the peers with biases that are not zero, but for the one that Flax's GRU lacks."""
    cell = RecurrentCell(case.cell, case.hidden, case.hidden, rngs=nnx.Rngs(0)).cell()
    if case.part != "peers":
        return cell
    noise = 0.1 * np.random.default_rng(1).normal(size=cell.bias.shape)
    return dataclasses.replace(cell, bias=cell.bias + noise.astype(np.float32))


def our_arrays(case: Case) -> tuple[np.ndarray, np.ndarray | None]:
    """Inputs, and the array that the outputs are multiplied by where gradients are taken."""
    draw = np.random.default_rng(0).standard_normal
    shape = (case.batch, case.time, case.hidden)
    return draw(shape, np.float32), draw(shape, np.float32) if case.has_gradients else None


def cell_arrays(cell: Any) -> dict[str, Any]:
    """A cell's arrays, or their gradients, by name."""
    return {field.name: getattr(cell, field.name) for field in dataclasses.fields(cell)}


class JaxSide:
    """A function ``(parameters, inputs) -> (outputs, report)``, compiled with its gradients if the case has them.

    Args:
      case: The problem.
      apply: The function.
      parameters: A pytree.
      named: The parameters' gradients under the names of our cell's arrays.
    """

    def __init__(
        self, case: Case, apply: Callable[[Any, Any], tuple[Any, Any]], parameters: Any,
        named: Callable[[Any], dict[str, Any]] = cell_arrays,
    ) -> None:  # fmt: skip
        leaves, structure = jax.tree.flatten(parameters)  # so that a call handles arrays alone
        inputs, cotangent = our_arrays(case)

        def run(leaves: Any, inputs: Any, cotangent: Any) -> Any:
            def from_leaves(leaves: Any, inputs: Any) -> tuple[Any, Any]:
                return apply(structure.unflatten(leaves), inputs)

            if cotangent is None:
                outputs, report = from_leaves(leaves, inputs)
                return outputs, None, report
            outputs, pull_back, report = jax.vjp(from_leaves, leaves, inputs, has_aux=True)
            return outputs, pull_back(cotangent), report

        self.named, self.structure, self.report = named, structure, None
        self.arrays = jax.device_put((leaves, inputs, cotangent))
        self.run, self.compile_s, self.peak_bytes = compile_ahead(run, *self.arrays)

    def __call__(self) -> Any:
        return jax.block_until_ready(self.run(*self.arrays))

    def results(self) -> dict[str, np.ndarray]:
        """``output``, and the gradients by name."""
        outputs, gradients, self.report = self()
        found = {"output": outputs}
        if gradients is not None:
            found |= {"inputs": gradients[1], **self.named(self.structure.unflatten(gradients[0]))}
        return jax.tree.map(np.asarray, found)

    def extra(self) -> dict[str, Any]:
        """What the report says, where there is one."""
        if self.report is None:
            return {}
        return {"iterations": int(self.report.iterations), "converged_rows": int(self.report.converged.sum())}

    def close(self) -> None:
        """Nothing to end."""


def our_side(case: Case, implementation: str) -> JaxSide:
    """One of our implementations, ``"parallel diagonal"`` and ``"parallel full"`` among them."""

    def apply(cell: Cell, inputs: Any) -> tuple[Any, Any]:
        if implementation.startswith("parallel"):
            outputs, _, report = parallel_recurrence(cell, inputs, jacobian=implementation.split()[1])
            return outputs, report
        return recurrence(cell, inputs, implementation=implementation)[0], None

    return JaxSide(case, apply, our_cell(case))


def flax_weights(cell: Any) -> dict[str, dict[str, Any]]:
    """Our arrays as Flax's cells hold them: gates in the same order; the GRU's one bias is the inputs'."""
    inner, outer = {"kernel": cell.input_weight}, {"kernel": cell.recurrent_weight}
    (inner if hasattr(cell, "recurrent_bias") else outer)["bias"] = cell.bias
    return {"dense_i": inner, "dense_h": outer}


class FlaxSide(JaxSide):
    """``nnx.RNN`` with our weights, split once."""

    def __init__(self, case: Case) -> None:
        kind = {"lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell}[case.cell]
        module = nnx.RNN(kind(case.hidden, case.hidden, rngs=nnx.Rngs(0)))
        for layer, arrays in flax_weights(our_cell(case)).items():
            for name, array in arrays.items():
                getattr(getattr(module.cell, layer), name)[...] = array
        graph, parameters, rest = nnx.split(module, nnx.Param, ...)

        def named(gradients: Any) -> dict[str, Any]:
            dense_i, dense_h = gradients["cell"]["dense_i"], gradients["cell"]["dense_h"]
            found = {
                "input_weight": dense_i["kernel"], "recurrent_weight": dense_h["kernel"],
                "bias": (dense_i if case.cell == "gru" else dense_h)["bias"],
            }  # fmt: skip
            return {name: variable[...] for name, variable in found.items()}

        def apply(parameters: Any, inputs: Any) -> tuple[Any, Any]:
            return nnx.merge(graph, parameters, rest)(inputs, rngs=nnx.Rngs(0)), None

        super().__init__(case, apply, parameters, named)
        self.has_one_bias = case.cell == "gru"

    def extra(self) -> dict[str, Any]:
        """What is unlike ours."""
        note = "the inputs' alone; ours adds one to the state's share of the candidate, which is zero here"
        return {"bias": note} if self.has_one_bias else {}


def torch_side(case: Case, python: Path | None) -> TorchRecurrence | TorchRecurrenceElsewhere:
    """PyTorch on the same numbers, in this process or in one of another Python."""
    inputs, cotangent = our_arrays(case)
    arrays = {"inputs": inputs, **jax.tree.map(np.asarray, cell_arrays(our_cell(case)))}
    if cotangent is not None:
        arrays["cotangent"] = cotangent
    if python:
        return TorchRecurrenceElsewhere(python, case.cell, arrays)
    return TorchRecurrence(case.cell, arrays)


Side = JaxSide | TorchRecurrence | TorchRecurrenceElsewhere


def contestants(case: Case, *, with_torch: bool, torch_python: Path | None) -> dict[str, Callable[[], Side]]:
    """How to make everything that can do the case here; the plain loop, which the others are held to, first."""
    if case.part == "linear":
        names = ["reference", "scan", "associative"]
    elif case.part == "newton":
        names = ["reference", "scan", "parallel diagonal"]
        names += ["parallel full"] if case.hidden <= FULL_JACOBIAN_WIDTH else []
    else:
        names = ["reference", "scan"]
        names += ["cudnn"] if case.cell == "lstm" and jax.default_backend() == "gpu" else []
        names += ["native_cpu"] if case.cell == "lstm" and native.library() is not None else []
    makers: dict[str, Callable[[], Side]] = {name: partial(our_side, case, name) for name in names}
    if case.part == "peers":
        makers["flax"] = partial(FlaxSide, case)
        if with_torch:
            makers["torch"] = partial(torch_side, case, torch_python)
    return makers


def check(case: Case, name: str, got: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> dict[str, Any]:
    """The largest errors of output and gradients.

    Raises:
      SystemExit: If one is larger than the tolerance.
    """
    missing = set(wanted) - set(got) - {"recurrent_bias"}  # which Flax's GRU does not have
    assert not missing, f"{name} gives no {missing}"
    differences = {key: float(np.abs(array - wanted[key]).max()) for key, array in got.items()}
    sizes = {key: float(np.abs(wanted[key]).max()) for key in got}
    errors = {key: differences[key] / max(sizes[key], 1.0 if key == "output" else 1e-30) for key in got}
    output, gradient = (
        GPU_TOLERANCES if jax.default_backend() == "gpu" else TOLERANCES.get(name, CPU_TOLERANCES)
    )
    wrong = {
        key: f"{error:.1e}"
        for key, error in errors.items()
        if not error <= (output if key == "output" else gradient)
    }
    if wrong:
        raise SystemExit(
            f"error: {case.name}: {name} differs from the plain loop by more than {output} in the output or "
            f"{gradient} in a gradient: {wrong}"
        )
    gradients = [error for key, error in errors.items() if key != "output"]
    return {"max_abs_err": differences["output"], "max_rel_gradient_err": max(gradients, default=None)}


def run_case(
    case: Case, *, calls: int, seconds: float, with_torch: bool, torch_python: Path | None, peak: float,
    compilers: int = 1, strict: bool = True,
) -> list[Record]:  # fmt: skip
    """Compare with the plain loop, then time all sides in turns.

    Args:
      case: What to run.
      calls: Timed calls of each.
      seconds: After which no further round begins.
      with_torch: Whether PyTorch takes part.
      torch_python: Its Python, if it is another.
      peak: Operations a second of a matmul.
      compilers: How many of our sides are compiled at a time.
      strict: Stop at a side that fails or differs; else it has a note and no time.
    """
    sides: dict[str, Side] = {}
    errors: dict[str, dict[str, Any]] = {}
    notes: dict[str, str] = {}
    wanted: dict[str, np.ndarray] | None = None
    makers = contestants(case, with_torch=with_torch, torch_python=torch_python)
    made: dict[str, Future[Side]] = {}
    pool = ThreadPoolExecutor(compilers)
    if compilers > 1:
        made = {name: pool.submit(make) for name, make in makers.items() if name != "torch"}
    try:
        for name, make in makers.items():
            try:
                sides[name] = made[name].result() if name in made else make()
                results = sides[name].results()
                errors[name] = check(case, name, results, results if wanted is None else wanted)
            except (Exception, SystemExit) as error:
                note = out_of_memory(error)
                if note is None and not strict and not is_device_lost(error):
                    note = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                if note is None:
                    raise
                notes[name] = note
                if name in sides:
                    sides.pop(name).close()
                continue
            wanted = results if wanted is None else wanted
        if case.part != "peers":
            sides.pop("reference", None)
            notes.pop("reference", None)
        times = interleave(sides, calls=calls, max_seconds=seconds)
        records = [record_of(case, name, side, times, errors[name], peak) for name, side in sides.items()]
    finally:
        pool.shutdown()
        for side in sides.values():
            side.close()
    for name, note in notes.items():
        records.append(
            Record(
                case=case.name, implementation=name, compile_s=None, median_ms=None, q25_ms=None, q75_ms=None,
                peak_bytes=None, tokens_per_s=None, flops=case.flops, max_abs_err=None, note=note, extra=case.extra(),
            )
        )  # fmt: skip
    told = [f"{record.implementation} {record.note or f'{record.median_ms:.2f} ms'}" for record in records]
    print(f"{case.name}: {', '.join(told)}", file=sys.stderr, flush=True)
    return records


def record_of(
    case: Case, name: str, side: Side, times: dict[str, list[float]], errors: dict[str, Any], peak: float,
) -> Record:  # fmt: skip
    """What was measured of one side."""
    lower, middle, upper = quartiles(times[name])
    extra = {
        **case.extra(),
        "calls": len(times[name]),
        "share_of_matmul_peak": case.flops / middle * 1e3 / peak,
        "max_rel_gradient_err": errors["max_rel_gradient_err"],
        **side.extra(),
    }
    for key, (above, below) in {
        "time_over_scan": (name, "scan"), "torch_time_over_this": ("torch", name),
    }.items():  # fmt: skip
        if above in times and below in times:
            ratio, low, high = paired_ratio(times[above], times[below])
            extra[key] = {"median": ratio, "low": low, "high": high}
    return Record(
        case=case.name, implementation=name, compile_s=side.compile_s, median_ms=middle, q25_ms=lower, q75_ms=upper,
        peak_bytes=side.peak_bytes, tokens_per_s=case.batch * case.time / middle * 1e3, flops=case.flops,
        max_abs_err=errors["max_abs_err"], extra=extra,
    )  # fmt: skip


def all_cases(parts: list[str], longest: int | None) -> list[Case]:
    """The cases of the parts, without those of more steps than ``longest``."""
    sizes = {
        "peers": (CLASSIC_KINDS, PEER_SIZES),
        "linear": (_LINEAR, [(LINEAR_TOKENS // time, time, LINEAR_HIDDEN) for time in LINEAR_TIMES]),
        "newton": (CLASSIC_KINDS, [(1, time, hidden) for hidden in NEWTON_WIDTHS for time in NEWTON_TIMES]),
    }
    return [
        Case(part=part, cell=kind, batch=batch, time=time, hidden=hidden, mode=mode)
        for part in PARTS
        if part in parts
        for batch, time, hidden in sizes[part][1]
        if longest is None or time <= longest
        for kind in sizes[part][0]
        for mode in MODES
    ]


def show(records: list[Record]) -> None:
    """One table a part: milliseconds of each contestant, and its time over that of ``scan``."""
    for part in PARTS:
        own = [record for record in records if record.extra["part"] == part]
        names = list(dict.fromkeys(record.implementation for record in own))
        table = Table("case", title=f"{part}: median ms (time over scan's)")
        for name in names:
            table.add_column(name, justify="right")
        for case in dict.fromkeys(record.case for record in own):
            cells = {record.implementation: cell_text(record) for record in own if record.case == case}
            table.add_row(case.removeprefix(f"{part}: "), *(cells.get(name, "") for name in names))
        if own:
            Console().print(table)


def cell_text(record: Record) -> str:
    """A cell of a table on the terminal."""
    if record.median_ms is None:
        return "out of memory" if record.note.startswith("out of memory") else "failed"
    ratio = record.extra.get("time_over_scan")
    told = "" if ratio is None or record.implementation == "scan" else f" ({ratio['median']:.2f})"
    return f"{record.median_ms:.2f}{told}"


def figures(records: list[Record], folder: Path) -> None:
    """A picture a part: each contestant's time over that of ``scan``, its interval as a line."""
    from transformer_jax.plot.ratios import ratio_panels

    place = "gpu" if jax.default_backend() == "gpu" else "cpu"
    for part in PARTS:
        points: dict[tuple[str, str], dict[str, dict[str, dict[str, float]]]] = {}
        for record in records:
            extra = record.extra
            if extra["part"] == part and record.implementation != "scan" and "time_over_scan" in extra:
                size = f"{extra['batch']} x {extra['time']} x {extra['hidden']}"
                panel = points.setdefault((extra["cell"], extra["mode"]), {})
                panel.setdefault(record.implementation, {})[size] = extra["time_over_scan"]
        if points:
            path = folder / f"recurrence-{part}-{place}.png"
            title = f"{part}: batch x time x hidden; right of 1, scan is faster"
            ratio_panels(points, x_label="time over scan's", title=title, path=path)
            print(f"wrote {path}", file=sys.stderr)


class Parser(argparse.ArgumentParser):
    """Errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n")


def parse(words: list[str] | None) -> argparse.Namespace:
    """The command line, checked."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure (default: all)"
    )
    parser.add_argument("--longest", type=int, help="leave out cases of more steps than this")
    parser.add_argument("--calls", type=int, default=20, help="timed calls of each contestant at most (20)")
    parser.add_argument(
        "--seconds", type=float, default=15.0, help="seconds a case at most, beyond five rounds (15)"
    )
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
    parser.add_argument(
        "--torch-python", type=Path, help="take PyTorch from this Python, in a process of its own"
    )
    parser.add_argument("--json", type=Path, help="write the records here")
    parser.add_argument(
        "--figures", type=Path, help="write recurrence-PART-cpu.png or -gpu.png in this folder"
    )
    arguments = parser.parse_args(words)
    if arguments.calls < 1:
        parser.error(f"--calls must be at least 1; got {arguments.calls}")
    if not arguments.seconds > 0:
        parser.error(f"--seconds must be positive; got {arguments.seconds}")
    if not all_cases(arguments.parts, arguments.longest):
        parser.error(f"--longest must leave at least one case; got {arguments.longest}")
    if arguments.no_torch and arguments.torch_python:
        parser.error("--no-torch and --torch-python exclude each other")
    if arguments.torch_python and not os.access(arguments.torch_python, os.X_OK):
        parser.error(f"--torch-python must be a Python program; got {arguments.torch_python}")
    if arguments.json and arguments.json.is_dir():
        parser.error(f"--json must be a file; got the folder {arguments.json}")
    if arguments.figures and arguments.figures.exists() and not arguments.figures.is_dir():
        parser.error(f"--figures must be a folder; got the file {arguments.figures}")
    return arguments


def main(words: list[str] | None = None) -> None:
    """Parse the command line, measure, show the tables, write JSON and figures."""
    arguments = parse(words)
    header: dict[str, Any] = {
        "benchmark": "recurrence",
        "keeps_freed_memory": keep_freed_memory(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", ""),
    }
    with_torch = "peers" in arguments.parts and not arguments.no_torch
    if with_torch and not arguments.torch_python and find_spec("torch") is None:
        print(
            "PyTorch is not installed here: it is left out; --torch-python PYTHON takes it from another",
            file=sys.stderr,
        )
        with_torch = False
    records: list[Record] = []
    interrupted = False
    try:
        size = 8192 if jax.default_backend() == "gpu" else 1024
        peak = header["matmul_peak"] = matmul_peak(size)
        print(
            f"matmul peak {peak / 1e9:,.0f} GFLOP/s (float32, {size} x {size})", file=sys.stderr, flush=True
        )
        for case in all_cases(arguments.parts, arguments.longest):
            records += run_case(
                case,
                calls=arguments.calls,
                seconds=arguments.seconds,
                with_torch=with_torch,
                torch_python=arguments.torch_python,
                peak=peak,
            )
    except KeyboardInterrupt:
        interrupted = header["interrupted"] = True
        print(f"interrupted: {len(records)} records measured, the rest is missing", file=sys.stderr)
    if records:
        show(records)
        if arguments.json:
            write_json(arguments.json, records, **header)
        if arguments.figures:
            figures(records, arguments.figures)
    if interrupted:
        raise SystemExit(130)


if __name__ == "__main__":
    main()
