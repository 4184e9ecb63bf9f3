"""The plan of a step beside the program that XLA makes of it, on eight virtual devices: memory, products, traffic."""

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from transformer_jax.testing.processes import cpu_environment

HERE = Path(__file__).parent
EIGHT = cpu_environment(8)

# Program over plan at most, of products and of bytes sent; measured with JAX 0.10.2, and a little room. XLA has no
# reduce-scatter on a CPU, and moves columns of keys and values over tensor.
AT_MOST = {
    "transformer/data": (1.01, 1.10),
    "transformer/fsdp": (1.05, 1.7),
    "transformer/tensor": (1.01, 1.40),
    "transformer/data-fsdp-tensor": (1.01, 1.6),
    "recurrent/data": (1.01, 1.10),
    "recurrent/fsdp": (1.01, 1.7),
    "recurrent/tensor": (1.01, 1.10),
    "recurrent/data-fsdp-tensor": (1.01, 1.4),
}
# Products with the zeros that a recurrence starts from are no work for XLA, on one device either.
AT_LEAST = {"transformer": 0.99, "recurrent": 0.85}


FIRST = (*(case for case in AT_MOST if case.startswith("transformer")), "recurrent/data")


@functools.cache
def programs(cases: tuple[str, ...], folder: Path) -> dict[str, dict[str, Any]]:
    """What each program does beside its plan; compiled in a process of its own with eight devices."""
    path = folder / f"{len(cases)}.json"
    program = [sys.executable, HERE / "planned_programs.py", path, *cases]
    ran = subprocess.run(program, env=EIGHT, capture_output=True, text=True, timeout=1200)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(path.read_text())


@pytest.fixture(scope="module", params=["first", pytest.param("rest", marks=pytest.mark.full)])
def compared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """The Transformer's programs and one recurrent one in the first tier, all of them in the second."""
    folder = tmp_path_factory.getbasetemp()
    found = programs(FIRST, folder)
    if request.param == "rest":
        found = found | programs(tuple(case for case in AT_MOST if case not in FIRST), folder)
    return found


def test_the_plan_is_what_the_program_needs_at_least(compared: dict[str, dict[str, Any]]) -> None:
    assert set(compared) in (set(FIRST), set(AT_MOST))
    for case, found in compared.items():
        arguments, planned_arguments = found["arguments"]
        assert arguments == pytest.approx(planned_arguments, rel=0.01), case
        assert found["unknown"] == [0, []], case
        at_least = AT_LEAST[case.split("/")[0]], 0.97
        for name, most, least in zip(("flops", "sent"), AT_MOST[case], at_least):
            measured, planned = found[name]
            assert least * planned <= measured <= most * planned, (case, name, measured / planned)
        # The plan holds no copy of gradients for an all-reduce, nor what XLA gathers beyond need.
        measured, planned = found["work space"]
        assert 0.9 * planned <= measured <= 3.5 * planned, (case, measured / planned)


def test_collectives_are_those_of_the_mesh(compared: dict[str, dict[str, Any]]) -> None:
    kinds, planned = compared["transformer/data"]["kinds"]
    assert set(kinds) == set(planned) == {"all-reduce"}
    kinds, planned = compared["transformer/tensor"]["kinds"]
    assert kinds["all-reduce"] == pytest.approx(planned["all-reduce"], rel=0.01)
    kinds, planned = compared["recurrent/data"]["kinds"]
    assert set(kinds) == set(planned) == {"all-reduce"}
    assert not any(found["in loops"] for found in compared.values()), (
        "a step of a recurrence waits for nobody"
    )
    kinds, planned = compared["transformer/fsdp"]["kinds"]
    assert kinds["all-gather"] >= 0.99 * planned["all-gather"]
    assert planned["reduce-scatter"] == pytest.approx(planned["all-gather"])


def test_xla_counts_the_same_products_where_no_loop_hides_them(compared: dict[str, dict[str, Any]]) -> None:
    """Its count has what is no product besides: a tenth to a quarter at this width."""
    for mesh in ("data", "tensor", "data-fsdp-tensor"):
        found = compared[f"transformer/{mesh}"]
        assert 1.0 < found["counted flops"] / found["flops"][0] < 1.25, mesh


@pytest.mark.full
def test_what_is_computed_again_is_planned_as_it_is_compiled(tmp_path: Path) -> None:
    """XLA's programs for a CPU recompute, but take as much memory as before; so memory is the plan's alone."""
    found = programs(("deep/data", "deep, remat/data"), tmp_path)
    plain, again = found["deep/data"], found["deep, remat/data"]
    assert plain["work space"][1] == pytest.approx(plain["work space"][0], rel=0.1)
    assert again["work space"][1] < 0.4 * plain["work space"][1]
    for number in (0, 1):
        assert again["flops"][number] > 1.15 * plain["flops"][number]
    assert 0.9 < again["flops"][0] / again["flops"][1] <= 1.0
