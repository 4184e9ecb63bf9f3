"""Compiled programs outlive a command, in a folder that can be chosen or refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from transformer_jax.cli.compile_cache import VARIABLE, keep_compiled_programs


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


def test_a_second_command_finds_the_firsts_programs(tiny_run: Path, tmp_path: Path) -> None:
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
