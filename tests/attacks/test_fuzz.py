"""A few damaged files for every loader, and the counts of all of them."""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_damaged_files_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    words = [sys.executable, HERE / "fuzz.py", "--files", "150", "--seed", "1", "--json", path]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=900)
    assert ran.returncode == 0, ran.stderr[-4000:]
    for name, found in json.loads(path.read_text())["loaders"].items():
        assert (found["wrong"], found["read"] + found["refused"]) == (0, 150), name
        assert found["refused"] > 30, f"{name}: files that are hardly damaged test nothing"


def test_the_counts_of_ten_thousand_are_committed() -> None:
    loaders = json.loads((HERE.parents[1] / "benchmarks" / "results" / "fuzz-cpu.json").read_text())[
        "loaders"
    ]
    assert len(loaders) >= 11
    for found in loaders.values():
        assert (found["files"], found["wrong"]) == (10_000, 0)
        assert found["slowest_s"] < 2.0
        assert found["grown_mb"] < 200
