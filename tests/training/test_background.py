"""Checkpoints written by another thread: training goes on meanwhile, and no failure is lost."""

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from transformer_jax.errors import RunError
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.testing.tiny_training import SequenceTask, TinySeq2Seq
from transformer_jax.training import CheckpointStore, TrainConfig, Trainer, read_rows
from transformer_jax.training.orbax_items import read_item
from transformer_jax.training.run_saver import RunSaver
from transformer_jax.training.tensorboard_log import read_scalars


@pytest.fixture
def fit(
    tmp_path: Path,
    make_model: Callable[..., TinySeq2Seq],
    make_config: Callable[..., TrainConfig],
    task: SequenceTask,
) -> Callable[..., Path]:
    """Trains the tiny model in ``tmp_path / name``; every update is logged, every second saved."""

    def run(name: str = "run", **changes: Any) -> Path:
        fields = {"log_every": 1, "checkpoint_every": 2, "keep_last": 9, "metric": "loss"}
        Trainer(
            make_model(), PairCrossEntropy(), make_config(**(fields | changes)), quiet=True,
            run_dir=tmp_path / name, batches=task,
        ).fit()  # fmt: skip
        return tmp_path / name

    return run


def fails_at(*updates: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disks that are full when these updates are saved."""
    write = CheckpointStore._write_as

    def full(self: CheckpointStore, new: Path, info: Any, items: Any) -> None:
        if info.update in updates:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, new, info, items)

    monkeypatch.setattr(CheckpointStore, "_write_as", full)


def test_training_goes_on_while_a_checkpoint_is_written(
    fit: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, seen = CheckpointStore.save, []

    def slow(self: CheckpointStore, state: Any, info: Any) -> None:
        if info.update == 2:  # until update 3, which is done beside it, has been logged
            while max((row["update"] for row in read_rows(tmp_path / "run")), default=0) < 3:
                threading.Event().wait(0.01)
        seen.append((info.update, threading.current_thread() is threading.main_thread()))
        save(self, state, info)

    monkeypatch.setattr(CheckpointStore, "save", slow)
    run_dir = fit()
    assert seen == [(2, False), (4, False), (6, False)]
    monkeypatch.undo()
    same = fit("same")
    for update in (2, 4, 6):
        for item in ("model", "training"):
            found, wanted = (
                read_item(CheckpointStore(one).path(update), item)  # type: ignore[arg-type]  # a text, not a literal
                for one in (run_dir, same)
            )
            jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_a_failed_save_stops_the_run_or_is_tried_again(
    fit: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_at(4, monkeypatch=monkeypatch)
    with pytest.raises(RunError, match=r"checkpoint of update 4 cannot be written \(No space left"):
        fit("stops")
    assert CheckpointStore(tmp_path / "stops").updates() == [2]
    assert CheckpointStore(fit("goes-on", on_failed_save="go_on")).updates() == [2, 6]


def test_the_last_save_must_not_fail(
    fit: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_at(6, monkeypatch=monkeypatch)
    with pytest.raises(RunError, match="checkpoint of update 6 cannot be written"):
        fit(on_failed_save="go_on")
    assert CheckpointStore(tmp_path / "run").updates() == [2, 4]


def test_parameters_that_are_no_numbers_are_not_saved(
    fit: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformer_jax.training import checkpoint

    of = checkpoint.Snapshot.of

    def damaged(state: Any, carried: Any = ()) -> checkpoint.Snapshot:
        snapshot = of(state, carried)
        if int(state.update) == 4:
            snapshot.model["embedding"][0, 0] = np.inf  # type: ignore[index]  # read-only by its type
        return snapshot

    monkeypatch.setattr(checkpoint.Snapshot, "of", staticmethod(damaged))
    with pytest.raises(RunError, match="embedding is no number after update 4, which is not saved"):
        fit()
    assert CheckpointStore(tmp_path / "run").updates() == [2]


def test_what_somebody_removes_of_a_run_is_restored_and_told(
    fit: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, told, removed = RunSaver.save, [], []
    run_dir = tmp_path / "run"

    def removing(self: RunSaver, state: Any, info: Any) -> None:
        save(self, state, info)
        self.wait()  # here, not in the thread that saves: the log is restored in this one
        if info.update in (2, 6) and info.update not in removed:
            removed.append(info.update)
            shutil.rmtree(run_dir / "checkpoints")
            shutil.rmtree(run_dir / "tensorboard")
            (run_dir / "metrics.jsonl").unlink()
            (run_dir / "trainer.lock").unlink()

    monkeypatch.setattr(RunSaver, "save", removing)
    monkeypatch.setattr(Trainer, "_tell", lambda self, text: told.append(text))
    fit()
    assert removed == [2, 6]
    assert [row["update"] for row in read_rows(run_dir)] == [1, 2, 3, 4, 5, 6]
    assert {update for _, update in read_scalars(run_dir)} == {1, 2, 3, 4, 5, 6}
    assert CheckpointStore(run_dir).updates() == [6], "what the run ended with is written again"
    assert not (run_dir / "trainer.lock").exists()
    for words in (
        "metrics.jsonl was removed",
        "tfevents",
        "lock was removed",
        "of update 2",
        "of update 4, 6",
    ):
        assert any(words in text for text in told), (words, told)


def test_a_folder_that_vanished_is_told(
    fit: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = CheckpointStore.save

    def vanishing(self: CheckpointStore, state: Any, info: Any) -> None:
        save(self, state, info)
        shutil.rmtree(tmp_path / "run")

    monkeypatch.setattr(CheckpointStore, "save", vanishing)
    with pytest.raises(RunError, match="run has vanished: the checkpoint of update 4 cannot be written"):
        fit()
