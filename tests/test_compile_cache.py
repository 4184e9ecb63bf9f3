"""Compiled programs outlive a command, in a folder that can be chosen or refused."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from transformer_jax.compile_cache import VARIABLE, keep_compiled_programs, remove_broken_entries
from transformer_jax.notes import listening, print_note

pytestmark = pytest.mark.usefixtures("compilation_cache")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("JAX_COMPILATION_CACHE", "JAX_PERSISTENT_CACHE")):
            monkeypatch.delenv(name)
    for name in ("DIR", "MAX_SIZE"):  # undone after the test
        monkeypatch.setenv(f"JAX_COMPILATION_CACHE_{name}", "")
        monkeypatch.delenv(f"JAX_COMPILATION_CACHE_{name}")
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


def test_the_folder_is_chosen_by_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    folder = keep_compiled_programs()
    assert folder is not None
    assert folder.parent == tmp_path
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(folder)


def test_the_users_cache_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = keep_compiled_programs()
    assert folder is not None
    assert folder.parts[-3:-1] == ("transformer_jax", "compiled")


@pytest.mark.parametrize(("name", "value"), [(VARIABLE, ""), ("JAX_COMPILATION_CACHE_DIR", "/of/jax")])
def test_it_can_be_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(VARIABLE, "/of/ours")
    monkeypatch.setenv(name, value)
    assert keep_compiled_programs() is None
    assert os.environ.get("JAX_COMPILATION_CACHE_DIR") in (None, "/of/jax")


def test_a_second_command_finds_the_firsts_programs(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.txt").write_text("cat\n")
    words = [
        sys.executable,
        "-m",
        "transformer_jax.cli.main",
        "translate",
        tiny_run,
        "--input",
        tmp_path / "in.txt",
    ]
    env = {**os.environ, "JAX_PLATFORMS": "cpu", VARIABLE: str(tmp_path / "kept")}
    env["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    monkeypatch.setenv(VARIABLE, str(tmp_path / "kept"))
    folder = keep_compiled_programs()
    assert folder is not None
    orphan = folder / "jit__search-0-cache"  # JAX alone would keep nothing in a folder that holds such a file
    orphan.write_bytes(b"what a killed process left")

    def kept() -> dict[str, int]:
        return {str(path): path.stat().st_size for path in (tmp_path / "kept").glob("*/jit__search*-cache")}

    said = []
    for _ in range(2):
        ran = subprocess.run(list(map(str, words)), env=env, capture_output=True, text=True, timeout=300)
        assert ran.returncode == 0, ran.stderr
        assert ran.stderr == ""
        said.append((ran.stdout, kept()))
    assert said[0] == said[1]
    assert len(said[0][1]) == 1
    assert not orphan.exists()


def test_broken_entries_go_and_whole_ones_stay(tmp_path: Path) -> None:
    for name, size in (
        ("a-1-cache", 5), ("a-1-atime", 8), ("b-2-cache", 5), ("c-3-atime", 8), ("d-4-cache", 0), ("d-4-atime", 8),
        ("e-5-cache", 5), ("e-5-atime", 0), ("note.txt", 0),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(b"x" * size)
    removed = remove_broken_entries(tmp_path)
    assert removed == ["b-2-cache", "c-3-atime", "d-4-atime", "d-4-cache", "e-5-atime", "e-5-cache"]
    assert {path.name for path in tmp_path.iterdir()} == {"a-1-cache", "a-1-atime", "note.txt", ".lockfile"}


def test_a_cache_without_a_limit_has_one_file_an_entry(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    folder = keep_compiled_programs()
    assert folder is not None
    (folder / "a-1-cache").write_bytes(b"whole")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_MAX_SIZE", "-1")
    assert keep_compiled_programs() == folder
    assert (folder / "a-1-cache").exists()


def test_a_folder_that_cannot_be_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file"))
    with listening(print_note):
        assert keep_compiled_programs() is None
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
    said = capsys.readouterr().err
    assert said.startswith("note: compiled programs are not kept: ")
    assert said.count("\n") == 1


def test_a_file_system_without_locks_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_lock(*words: Any) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", no_lock)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with listening(print_note):
        assert keep_compiled_programs() is None
    assert "does not appear to support flock" in capsys.readouterr().err


@pytest.fixture
def compiled_here(tmp_path: Path) -> Iterator[Path]:
    """A new folder of compiled programs for this process."""
    changes = {
        "jax_compilation_cache_dir": str(tmp_path / "compiled"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in changes}
    for settings in (changes, before):
        for name, value in settings.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()  # JAX opens its folder once
        if settings is changes:
            yield tmp_path / "compiled"


def test_a_run_that_goes_on_compiles_nothing_anew(
    tiny_experiment: Path, tmp_path: Path, compiled_here: Path, run_command: Callable[..., Any]
) -> None:
    """Also where it is made longer, with a schedule that depends on the length: that is an input of its programs."""
    kept = compiled_here
    schedule = '{"kind": "cosine", "peak_learning_rate": 0.01, "warmup_updates": 1}'
    changes = ("--set", f"train.schedule={schedule}", "train.updates=2", "train.average_decay=0.9")
    words = ("train", "--run-dir", tmp_path / "run", "--resume", "--set")
    assert run_command("train", tiny_experiment, "--run-dir", tmp_path / "run", *changes).status == 0
    trained = set(kept.glob("*-cache"))
    assert any(path.name.startswith("jit_step-") for path in trained)
    assert run_command(*words, "train.updates=4").status == 0
    resumed = set(kept.glob("*-cache"))
    large = {path.name.split("-")[0] for path in resumed - trained}
    assert not large & {"jit_step", "jit__search", "jit_digest_arrays"}, large
    assert run_command(*words, "train.updates=6").status == 0
    assert set(kept.glob("*-cache")) == resumed
