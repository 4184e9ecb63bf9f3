"""A few of the faults of ``make chaos``, and that its counting of them is not empty."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize(("points", "updates"), [(2, 6), pytest.param(8, 16, marks=pytest.mark.full)])
def test_runs_that_were_broken_off_end_with_the_same_bits(tmp_path: Path, points: int, updates: int) -> None:
    path = tmp_path / "found.json"
    words = [
        sys.executable,
        HERE / "chaos.py",
        "--points",
        str(points),
        "--updates",
        str(updates),
        "--seed",
        "1",
        "--json",
        path,
    ]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=1200)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    found = json.loads(path.read_text())
    assert found["points"] == sum(found["faults"].values()) == sum(found["outcomes"].values()) == points
    assert found["identical"] == found["runs"] >= 1
    assert found["outcomes"].get("killed", 0) > points // 4


def test_the_log_of_all_points_is_committed() -> None:
    found = json.loads((HERE.parents[1] / "benchmarks" / "results" / "chaos-cpu.json").read_text())
    assert found["points"] >= 100
    assert found["identical"] == found["runs"] > 0
    assert found["wrong"] == []
    assert len(found["faults"]) == 5
