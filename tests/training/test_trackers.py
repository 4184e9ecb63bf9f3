"""Logs: cut back on resume, safe against half lines, without numbers JSON cannot hold."""

import errno
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from transformer_jax.errors import RunError
from transformer_jax.training.metrics import learning_curve
from transformer_jax.training.tensorboard_log import TensorBoardTracker, _event_files, read_scalars
from transformer_jax.training.trackers import JsonLinesTracker, read_rows


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


def shown(run_dir: Path) -> set[tuple[str, int, float]]:
    """What TensorBoard shows."""
    return {(tag, update, value) for (tag, update), (value, _) in read_scalars(run_dir).items()}


def logged(run_dir: Path) -> set[tuple[str, int, float]]:
    """The same of the rows in ``metrics.jsonl``."""
    return {
        (f"{one['kind']}/{name}", one["update"], value)
        for one in read_rows(run_dir)
        for name, value in one.items()
        if isinstance(value, int | float) and name != "update"
    }


@pytest.fixture
def trackers(tmp_path: Path) -> Iterator[Callable[..., list[Any]]]:
    """Begins both logs; what a test leaves open, as a killed process does, gets no last look at its files."""
    begun: list[Any] = []

    def begin(**options: Any) -> list[Any]:
        for_both = {name: value for name, value in options.items() if name in ("from_update", "tell")}
        both = [JsonLinesTracker(tmp_path, **options), TensorBoardTracker(tmp_path, **for_both)]
        begun.extend(both)
        return both

    yield begin
    for tracker in begun:
        tracker._file._file.close()


def write(all_trackers: list[Any], *rows: dict[str, Any]) -> None:
    for one in rows:
        for tracker in all_trackers:
            tracker.write(one)


def test_tensorboard_has_every_row_at_once_and_the_same_rows_after_resuming(
    tmp_path: Path, trackers: Callable[..., list[Any]]
) -> None:
    killed = trackers(from_update=0)  # never closed: as after SIGKILL
    write(killed, *(row(update, loss=update / 4) for update in (1, 2, 3, 4)))
    write(killed, {"kind": "evaluation", "update": 2, "seconds": 2.0, "per": 0.5})
    assert shown(tmp_path) == logged(tmp_path)
    times = {key: time for key, (_, time) in read_scalars(tmp_path).items()}

    resumed = trackers(from_update=2, repeats_evaluation=True)
    assert shown(tmp_path) == logged(tmp_path)
    assert {update for _, update, _ in shown(tmp_path)} == {1, 2}
    assert ("evaluation/per", 2, 0.5) not in shown(tmp_path), "it will come again"
    write(resumed, row(3, loss=7.0))
    assert shown(tmp_path) == logged(tmp_path)
    found = read_scalars(tmp_path)
    assert all(found["train/loss", update][1] == times["train/loss", update] for update in (1, 2))
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2, "a file each, although within a second"

    from_nothing = trackers(from_update=0)
    assert shown(tmp_path) == logged(tmp_path) == set()
    write(from_nothing, row(1, loss=2.0))
    assert shown(tmp_path) == logged(tmp_path)


def test_tensorboard_takes_what_it_lacks_from_the_log(
    tmp_path: Path, trackers: Callable[..., list[Any]]
) -> None:
    write(trackers(from_update=0), *(row(update, loss=1.0) for update in (1, 2, 3)))
    (events,) = (tmp_path / "tensorboard").iterdir()
    events.write_bytes(events.read_bytes()[:-20])  # what an earlier version had not flushed
    assert shown(tmp_path) < logged(tmp_path)
    trackers(from_update=3)
    assert shown(tmp_path) == logged(tmp_path)
    shutil.rmtree(tmp_path / "tensorboard")
    trackers(from_update=3)
    assert shown(tmp_path) == logged(tmp_path)


@pytest.mark.parametrize("name", ["metrics.jsonl", "tensorboard"])
def test_a_log_that_somebody_removes_is_restored_and_told(
    name: str, tmp_path: Path, trackers: Callable[..., list[Any]]
) -> None:
    told: list[str] = []
    both = trackers(from_update=0, tell=told.append)
    write(both, row(1, loss=1.0), row(2, loss=2.0))
    path = tmp_path / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    write(both, row(3, loss=3.0))
    assert [one["update"] for one in read_rows(tmp_path)] == [1, 2, 3]
    assert shown(tmp_path) == logged(tmp_path)
    assert len(told) == 1
    assert f"{name}" in told[0]
    assert told[0].endswith("was removed by somebody else: it is restored")
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    for tracker in both:  # also behind the last row
        tracker.close()
    assert [one["update"] for one in read_rows(tmp_path)] == [1, 2, 3]
    assert shown(tmp_path) == logged(tmp_path)
    assert len(told) == 2


def test_a_log_that_somebody_replaces_or_cuts_goes_on(
    tmp_path: Path, trackers: Callable[..., list[Any]]
) -> None:
    told: list[str] = []
    both = trackers(from_update=0, tell=told.append)
    write(both, row(1, loss=1.0), row(2, loss=2.0))
    path = tmp_path / "metrics.jsonl"
    path.rename(tmp_path / "old")
    path.write_text("somebody's")
    write(both, row(3, loss=3.0))
    assert [one["update"] for one in read_rows(tmp_path)] == [1, 2, 3]
    assert (tmp_path / "metrics.jsonl.other").read_text() == "somebody's"
    assert "was replaced by somebody else" in told[0]
    os.truncate(path, len(path.read_bytes().splitlines(keepends=True)[0]) + 5)
    write(both, row(4, loss=4.0))
    assert [one["update"] for one in read_rows(tmp_path)] == [1, 4]
    (events,) = (tmp_path / "tensorboard").iterdir()
    os.truncate(events, 0)
    write(both, row(5, loss=5.0))
    assert {update for _, update, _ in shown(tmp_path)} == {5}
    assert [text.rpartition(": ")[2] for text in told[1:]] == ["2 rows are lost", "4 rows are lost"]


def test_tensorboard_does_not_show_files_that_are_half_written_or_somebody_elses(
    tmp_path: Path, trackers: Callable[..., list[Any]]
) -> None:
    both = trackers(from_update=0)
    write(both, row(1, loss=1.0))
    folder = tmp_path / "tensorboard"
    (events,) = folder.iterdir()
    (folder / f".{events.name}.tmp").write_bytes(events.read_bytes()[:-5])  # of an earlier version
    (folder / f"{events.name}.other").write_bytes(events.read_bytes())
    events.rename(folder / "old")
    events.write_bytes(b"somebody's")
    write(both, row(2, loss=2.0))
    (other,) = (path for path in folder.glob("events.*.other") if "tfevents" not in path.name)
    assert other.read_bytes() == b"somebody's"
    assert _event_files(folder) == [events]
    assert {update for _, update, _ in shown(tmp_path)} == {1, 2}


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
    file, full = tracker._file._file, _FullAfter(5)
    tracker.write(row(1, loss=3.0))
    tracker._file._file = full.over(file)
    tracker.write(row(2, loss=2.0))
    tracker.write(row(3, loss=1.5))
    assert len(told) == 2
    assert "No space left" in told[0]
    assert [one["update"] for one in read_rows(tmp_path)] == [1], "half a row is no row"
    tracker._file._file = file
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

    def fileno(self) -> int:
        return self.file.fileno()

    def truncate(self, size: int) -> None:
        self.file.truncate(size)

    def write(self, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = self.file.write(data[: self.room])
        self.room -= taken
        return taken
