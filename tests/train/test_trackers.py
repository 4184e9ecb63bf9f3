"""Logs: cut back on resume, safe against half lines, without numbers JSON cannot hold."""

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from transformer_jax.errors import RunError
from transformer_jax.train.metrics import learning_curve
from transformer_jax.train.trackers import JsonLinesTracker, TensorBoardTracker, read_rows


def row(update: int, **numbers: Any) -> dict[str, Any]:
    return {"kind": "train", "update": update, "seconds": float(update)} | numbers


def test_rows_after_the_checkpoint_are_cut_away(tmp_path: Path) -> None:
    tracker = JsonLinesTracker(tmp_path, from_update=0)
    for update in (1, 2, 3):
        tracker.write(row(update, loss=1.0))
    tracker.close()
    tracker = JsonLinesTracker(tmp_path, from_update=2)
    tracker.write(row(3, loss=9.0))
    tracker.close()
    assert [(one["update"], one["loss"]) for one in read_rows(tmp_path)] == [(1, 1.0), (2, 1.0), (3, 9.0)]


def test_half_a_last_line_is_left_out_but_not_a_bad_line_before(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(row(1)) + "\n" + '{"update": 2, "lo')
    assert [one["update"] for one in read_rows(tmp_path)] == [1]
    path.write_text("nonsense\n" + json.dumps(row(1)) + "\n")
    with pytest.raises(RunError, match="line 1: not a log row"):
        read_rows(tmp_path)
    assert read_rows(tmp_path / "elsewhere") == []


def test_numbers_json_cannot_hold_become_null(tmp_path: Path) -> None:
    tracker = JsonLinesTracker(tmp_path, from_update=0)
    tracker.write(row(1, loss=math.nan, norm=math.inf))
    tracker.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert read_rows(tmp_path)[0]["loss"] is None


def test_tensorboard_writes_an_event_file(tmp_path: Path) -> None:
    tracker = TensorBoardTracker(tmp_path, from_update=0)
    tracker.write(row(1, loss=0.125))
    tracker.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"train/loss" in events.read_bytes()


def test_curve_merges_evaluations_and_keeps_both_losses() -> None:
    rows = [
        row(1, loss=3.0),
        row(2, loss=2.0),
        {"kind": "evaluation", "update": 2, "seconds": 2.0, "loss": 2.5, "per": 40.0},
    ]
    assert learning_curve(rows) == [
        {"update": 1, "seconds": 1.0, "loss": 3.0},
        {"update": 2, "seconds": 2.0, "loss": 2.0, "development_loss": 2.5, "per": 40.0},
    ]


def test_a_full_disk_keeps_rows_until_they_can_be_written(tmp_path: Path) -> None:
    told: list[str] = []
    tracker = JsonLinesTracker(tmp_path, from_update=0, on_failure=told.append)
    file, full = tracker._file, _FullAfter(5)
    tracker.write(row(1, loss=3.0))
    tracker._file = full.over(file)
    tracker.write(row(2, loss=2.0))
    tracker.write(row(3, loss=1.5))
    assert len(told) == 2
    assert "No space left" in told[0]
    assert [one["update"] for one in read_rows(tmp_path)] == [1], "half a row is no row"
    tracker._file = file
    tracker.write(row(4, loss=1.0))
    tracker.close()
    assert [one["update"] for one in read_rows(tmp_path)] == [1, 2, 3, 4]


class _FullAfter:
    """A file that takes some bytes and then no more."""

    def __init__(self, room: int) -> None:
        self.room = room

    def over(self, file: Any) -> Any:
        self.file, self.name = file, file.name
        return self

    def truncate(self, size: int) -> None:
        self.file.truncate(size)

    def write(self, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = self.file.write(data[: self.room])
        self.room -= taken
        return taken
