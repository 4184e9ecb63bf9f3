"""The recurrence benchmark: its contestants agree, a wrong one is refused, its FLOPs are those that XLA counts."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import recurrence as benchmark
from transformer_jax.functional.recurrent import recurrence

TINY = {"batch": 2, "time": 5, "hidden": 4}
BOTH = "forward and backward"


def run(case: benchmark.Case, **options: Any) -> dict[str, Any]:
    """The records of a case by contestant."""
    told = {"calls": 2, "seconds": 1.0, "with_torch": False, "torch_python": None, "peak": 1e9, **options}
    return {record.implementation: record for record in benchmark.run_case(case, **told)}


@pytest.mark.parametrize(("cell", "mode"), [("lstm", BOTH), ("gru", "forward")])
def test_peers_agree_and_are_measured(cell: str, mode: str) -> None:
    records = run(benchmark.Case(part="peers", cell=cell, mode=mode, **TINY))
    assert list(records) == ["reference", "scan", "flax"]
    for record in records.values():
        assert record.extra["calls"] == 2
        assert record.max_abs_err < 1e-5
        assert (record.extra["max_rel_gradient_err"] is None) == (mode == "forward")
        assert record.extra["share_of_matmul_peak"] == pytest.approx(
            record.flops / record.median_ms * 1e3 / 1e9
        )
    assert records["scan"].extra["time_over_scan"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert ("bias" in records["flax"].extra) == (cell == "gru")


@pytest.mark.parity
@pytest.mark.parametrize(
    ("cell", "python", "process"),
    [("lstm", None, "the same"), ("gru", sys.executable, "another")],
    ids=["here", "elsewhere"],
)
def test_pytorch_agrees_here_and_in_another_process(cell: str, python: str | None, process: str) -> None:
    torch = pytest.importorskip("torch")
    case = benchmark.Case(part="peers", cell=cell, mode=BOTH, **TINY)
    wanted = benchmark.our_side(case, "reference").results()
    side = benchmark.torch_side(case, Path(python) if python else None)
    try:
        side()
        got = side.results()
    finally:
        side.close()
    assert set(got) == set(wanted)
    assert benchmark.check(case, "torch", got, wanted)["max_rel_gradient_err"] < 1e-4
    assert side.extra() == {"version": torch.__version__, "process": process}


def test_a_process_without_pytorch_is_told_in_one_line(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho \'{"error": "No module named torch"}\'\n')
    python.chmod(0o755)
    case = benchmark.Case(part="peers", cell="gru", **TINY)
    with pytest.raises(SystemExit, match=r"^error: PyTorch of .*: No module named torch$"):
        benchmark.torch_side(case, python)


def test_wrong_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    right = benchmark.flax_weights

    def wrong(cell: Any) -> Any:
        weights = right(cell)
        kernel = weights["dense_h"]["kernel"]
        weights["dense_h"]["kernel"] = kernel.at[0, 0].add(0.01)
        return weights

    monkeypatch.setattr(benchmark, "flax_weights", wrong)
    with pytest.raises(SystemExit, match=r"^error: peers: lstm, .* flax differs .*'output': "):
        run(benchmark.Case(part="peers", cell="lstm", **TINY))


@pytest.mark.parametrize("key", ["output", "inputs", "input_weight", "recurrent_weight", "bias"])
@pytest.mark.parametrize("change", [1e-3, np.nan])
def test_a_wrong_number_anywhere_is_refused(key: str, change: float) -> None:
    case = benchmark.Case(part="peers", cell="lstm", mode=BOTH, **TINY)
    names = ["output", "inputs", "input_weight", "recurrent_weight", "bias"]
    wanted = {name: np.linspace(-1.0, 1.0, 6, dtype=np.float32) for name in names}
    got = {name: array.copy() for name, array in wanted.items()}
    benchmark.check(case, "torch", got, wanted)
    got[key][2] += change
    with pytest.raises(SystemExit, match=rf"^error: .*torch differs .*'{key}': "):
        benchmark.check(case, "torch", got, wanted)


def test_linear_and_newton_are_measured() -> None:
    linear = run(benchmark.Case(part="linear", cell="min_gru", **TINY))
    assert list(linear) == ["scan", "associative"]
    newton = run(benchmark.Case(part="newton", cell="gru", **TINY))
    assert list(newton) == ["scan", "parallel diagonal", "parallel full"]
    for name in ("parallel diagonal", "parallel full"):
        assert newton[name].extra["converged_rows"] == TINY["batch"]
        assert 1 <= newton[name].extra["iterations"] <= TINY["time"] + 1


class Idle:
    """A contestant that does nothing, and says when it is ended."""

    compile_s, peak_bytes, closed = None, None, 0

    def __call__(self) -> None:
        pass

    def results(self) -> dict[str, np.ndarray]:
        return {"output": np.zeros(1)}

    def extra(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        Idle.closed += 1


class OutOfMemory(Idle):
    """One that is made and cannot run."""

    def results(self) -> dict[str, np.ndarray]:
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.\nmore")


def test_a_contestant_without_memory_has_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"reference": Idle, "scan": Idle, "flax": OutOfMemory}
    monkeypatch.setattr(benchmark, "contestants", lambda case, **options: made)
    monkeypatch.setattr(Idle, "closed", 0)
    records = run(benchmark.Case(part="peers", cell="gru", **TINY))
    flax = records.pop("flax")
    assert flax.note == "out of memory: RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."
    assert flax.median_ms is None
    assert benchmark.cell_text(flax) == "out of memory"
    assert [record.extra["calls"] for record in records.values()] == [2, 2]
    assert Idle.closed == 3


@pytest.mark.parametrize("mode", benchmark.MODES)
def test_flops_are_what_xla_counts(mode: str) -> None:
    """Unrolled, because XLA counts a loop's body once; elementwise work and the first state, zeros, are the rest."""
    case = benchmark.Case(part="peers", cell="lstm", batch=64, time=4, hidden=128, mode=mode)
    inputs, cotangent = benchmark.our_arrays(case)

    def unrolled(cell: Any, inputs: Any) -> Any:
        return recurrence(cell, inputs, implementation="reference", unroll=case.time)[0]

    def gradients(cell: Any, inputs: Any) -> Any:
        return jax.vjp(unrolled, cell, inputs)[1](cotangent)

    function = gradients if case.has_gradients else unrolled
    cell = jax.eval_shape(lambda: benchmark.our_cell(case))
    counted = jax.jit(function).lower(cell, inputs).compile().cost_analysis()["flops"]
    assert counted == pytest.approx(case.flops, rel=0.05)


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = benchmark.Case(part="linear", cell="diagonal", **TINY)
    cases = [case, dataclasses.replace(case, cell="min_gru")]
    measured = benchmark.run_case

    def until_the_second(case: benchmark.Case, **options: Any) -> list[Any]:
        if case is cases[1]:
            raise KeyboardInterrupt
        return measured(case, **options)

    made = {"scan": Idle, "associative": Idle}
    monkeypatch.setattr(benchmark, "contestants", lambda case, **options: made)
    monkeypatch.setattr(benchmark, "all_cases", lambda parts, longest: cases)
    monkeypatch.setattr(benchmark, "run_case", until_the_second)
    monkeypatch.setattr(benchmark, "matmul_peak", lambda size: 1e9)
    monkeypatch.setattr(benchmark, "keep_freed_memory", lambda: False)
    path = tmp_path / "records.json"
    with pytest.raises(SystemExit, match="130"):
        benchmark.main(["--calls", "2", "--no-torch", "--json", str(path), "--figures", str(tmp_path)])
    document = json.loads(path.read_text())
    assert document["interrupted"]
    assert {record["case"] for record in document["records"]} == {case.name}
    assert (tmp_path / "recurrence-linear-cpu.png").stat().st_size > 1000


@pytest.mark.parametrize(
    "words",
    [
        ["--calls", "0"], ["--seconds", "nan"], ["--longest", "1"], ["--parts", "pears"],
        ["--torch-python", "/no/such/python"], ["--no-torch", "--torch-python", sys.executable],
    ],
)  # fmt: skip
def test_wrong_arguments_are_told_in_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        benchmark.parse(words)
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert words[0] in told
    assert told.count("\n") == 1
