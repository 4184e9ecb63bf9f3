"""One trainer a folder: another process is refused by name, a dead one locks nothing."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from transformer_jax.errors import RunError
from transformer_jax.training.folder_lock import LOCK_NAME, _acquire, locked_folder, renew_lock

HOLD = """
import sys, time
from transformer_jax.training.folder_lock import locked_folder
with locked_folder(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds the lock of ``tmp_path / "run"``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_another_process_is_refused_and_the_holder_named(tmp_path: Path, holder) -> None:
    with pytest.raises(RunError, match=f"is being trained by process {holder.pid} on .* since 20"):
        locked_folder(tmp_path / "run").__enter__()
    assert json.loads((tmp_path / "run" / LOCK_NAME).read_text())["pid"] == holder.pid


def test_a_killed_holder_locks_nothing(tmp_path: Path, holder) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / LOCK_NAME).exists()
    with locked_folder(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / LOCK_NAME).read_text())["pid"] == os.getpid()
    assert not (tmp_path / "run" / LOCK_NAME).exists()


def test_inside_of_a_lock_is_no_wait(tmp_path: Path) -> None:
    with locked_folder(tmp_path), locked_folder(tmp_path):
        pass
    with locked_folder(tmp_path):
        assert (tmp_path / LOCK_NAME).exists()


def test_another_thread_is_another_trainer(tmp_path: Path) -> None:
    said = []

    def work() -> None:
        try:
            with locked_folder(tmp_path):
                said.append("in")
        except RunError as error:
            said.append(str(error))

    (tmp_path / "link").symlink_to(tmp_path)
    with locked_folder(tmp_path), locked_folder(tmp_path / "link"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert f"process {os.getpid()}" in said[0]


def test_a_folder_of_which_nothing_came_is_removed(tmp_path: Path) -> None:
    with locked_folder(tmp_path / "empty"):
        assert (tmp_path / "empty").is_dir()
    assert not (tmp_path / "empty").exists()
    with locked_folder(tmp_path / "full"):
        (tmp_path / "full" / "config.json").write_text("{}")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["config.json"]


@pytest.mark.parametrize("content", ["", "{", '{"pid": "x"}', "[]", "\0" * 2000])
def test_a_strange_lock_file_is_no_obstacle(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK_NAME).write_text(content)
    with locked_folder(tmp_path):
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()


def test_a_lock_whose_file_was_removed_is_taken_again_or_another_trainer_named(tmp_path: Path) -> None:
    assert not renew_lock(tmp_path), "not ours"
    path = tmp_path / LOCK_NAME
    with locked_folder(tmp_path):
        assert not renew_lock(tmp_path)
        path.unlink()
        assert renew_lock(tmp_path)
        with pytest.raises(RunError, match=f"is being trained by process {os.getpid()}"):
            _acquire(path)
        path.unlink()
        other = _acquire(path)  # a second trainer, before we saw it
        with pytest.raises(RunError, match="is being trained by process"):
            renew_lock(tmp_path)
    assert path.exists(), "it is the other one's"
    os.close(other)
