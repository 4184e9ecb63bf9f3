"""The benchmark of local attention at small lengths: its contestants, the states that it measures, its figure."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import local_attention as benchmark


def test_windows_are_measured_beside_all_tokens(tmp_path: Path) -> None:
    records = benchmark.measure(
        [8, 16], [4], full_up_to=8, calls=2, seconds=1.0, heads=1, head_dim=4, width=8
    )
    names = {
        (record.extra["part"], record.extra["length"], record.implementation.split(",")[0])
        for record in records
    }
    assert names == {
        ("attention", 8, "window 4"),
        ("attention", 8, "all before"),
        ("attention", 16, "window 4"),
        *(("decoding", length, name) for length in (8, 16) for name in ("window 4", "all before")),
    }
    states = {
        (record.implementation, record.extra["length"]): record.extra["state_bytes"]
        for record in records
        if record.extra["part"] == "decoding"
    }
    assert states["window 4", 8] == states["window 4", 16]
    assert states["all before", 16] > 3 * states["window 4", 16]
    benchmark.figure(records, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5_000
