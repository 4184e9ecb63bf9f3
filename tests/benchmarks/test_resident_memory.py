"""The measure of a process's resident memory: what lies there, and what comes and goes meanwhile."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import resident

MB = 10**6
WEIGHTS, SCRATCH, COMPILING = 60 * MB, 90 * MB, 200 * MB

pytestmark = pytest.mark.skipif(
    not os.access(resident.CLEAR, os.W_OK), reason="only Linux tells how much was resident at most"
)


def test_first_pass_what_stays_and_what_a_pass_takes_are_told_apart() -> None:
    def make():
        weights = np.ones(WEIGHTS, np.uint8)
        np.ones(COMPILING, np.uint8)  # gone before the first pass

        def one_pass() -> int:
            return int(np.ones(SCRATCH, np.uint8)[-1]) + int(weights[-1])

        return one_pass

    found = resident.measure(make)
    near = 15 * MB  # what the process itself takes and gives back meanwhile
    assert found["ready"] == pytest.approx(WEIGHTS, abs=near)
    assert found["pass"] == pytest.approx(WEIGHTS + SCRATCH, abs=near)
    assert found["first"] == pytest.approx(WEIGHTS + COMPILING, abs=near)
    assert found["imported"] > 20 * MB


def test_a_contestant_that_cannot_be_measured_is_an_error_with_its_reason(tmp_path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)resident memory of nobody: .*invalid choice"):
        resident.in_a_child("nobody", tmp_path / "weights.npz", {"beams": 1})
