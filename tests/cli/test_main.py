"""The entry point: help that is quick, usage errors in one line, and exit statuses."""

import importlib
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transformer_jax.cli import main as main_module
from transformer_jax.cli.main import COMMANDS
from transformer_jax.errors import ConfigError


def test_help_names_every_command(run_command: Callable[..., Any]) -> None:
    ran = run_command("--help")
    assert ran.status == 0
    assert all(name in ran.out for name in COMMANDS)
    assert ran.err == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_teaches_by_example(command: str, run_command: Callable[..., Any]) -> None:
    ran = run_command(command, "--help")
    assert ran.status == 0
    assert "Examples:" in ran.out
    assert ran.out.count(f"transformer-jax {command}") >= 2


def test_help_does_not_import_jax() -> None:
    program = (
        "import sys; from transformer_jax.cli.main import main\n"
        f"for name in {list(COMMANDS)!r}: assert main([name, '--help']) == 0\n"
        "print([name for name in ('jax', 'flax', 'matplotlib', 'grain') if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert ran.stdout.splitlines()[-1] == "[]"


def test_version(run_command: Callable[..., Any]) -> None:
    ran = run_command("--version")
    assert ran.status == 0
    assert ran.out.startswith("transformer-jax ")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "which command?"),
        (["trian"], "unknown command 'trian'; did you mean 'train'?"),
        (["--hepl"], "unknown option '--hepl'"),
        (["train", "x.py", "--run-dir", "x", "--rseume"], "did you mean '--resume'?"),
        (["train", "x.py", "extra", "--run-dir", "x"], "extra"),
        (["train", "x.py", "--run-dir"], "--run-dir"),
        (["train", "x.py"], "--run-dir DIR is missing"),
        (["train", "--run-dir", "x"], "CONFIG is missing"),
        (["train", "x.py", "--run-dir", "x", "--too-long", "skipp"], "skipp"),
        (["translate", "x", "--beam", "two"], "--beam"),
        (["translate", "x", "--beam", "1.5"], "wanted a whole number, got '1.5'"),
        (["translate"], "RUN_DIR"),
        (["evaluate", "x", "--source", "a"], "x: no such run folder"),
        (["compare", "--preset", "quik"], "quik"),
    ],
)
def test_usage_errors_are_one_line(words: list[str], part: str, fails: Callable[..., str]) -> None:
    assert part in fails(*words)


def fake_command(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    class Command:
        def run(self) -> int:
            raise error

    module = types.SimpleNamespace(Command=Command, DESCRIPTION="Fails.\n")
    monkeypatch.setattr(main_module.importlib, "import_module", lambda name: module)
    monkeypatch.setattr(main_module, "parse", lambda cls, *args, **kwargs: cls())


@pytest.mark.parametrize(
    ("error", "status", "part"),
    [
        (ConfigError("two\nlines"), 2, "error: two lines"),
        (PermissionError(13, "Permission denied", "/x/y"), 2, "/x/y: Permission denied"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (NotImplementedError("xla cannot do this"), 2, "xla cannot do this"),
        *(
            (
                ModuleNotFoundError(f"No module named '{name}'", name=name),
                2,
                f"the Python package '{name}' is missing: pip install 'transformer-jax[cli]'",
            )
            for name in ("grain", "matplotlib.figure", "tensorboardX")
        ),
        (MemoryError(), 2, "out of memory"),
        (RuntimeError("RESOURCE_EXHAUSTED: 3 GiB"), 2, "out of memory"),
        (
            RuntimeError("Unable to initialize backend 'foo': not known. (set JAX_PLATFORMS='')"),
            2,
            "JAX has no device here: JAX_PLATFORMS is 'cpu'; leave it empty to let JAX choose (Unable to initialize",
        ),
        (UnicodeEncodeError("utf-8", "b\udcff", 1, 2, "surrogates not allowed"), 2, "'b\\udcff': not UTF-8"),
        (KeyError("oops"), 1, "a fault of this program: KeyError: 'oops'"),
    ],
)
def test_what_reaches_the_top(
    error: Exception, status: int, part: str, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., str]
) -> None:
    fake_command(monkeypatch, error)
    assert part in fails("train", status=status)


def test_interrupt_is_130_with_the_note(
    monkeypatch: pytest.MonkeyPatch, run_command: Callable[..., Any]
) -> None:
    fake_command(monkeypatch, KeyboardInterrupt("resume with --resume"))
    ran = run_command("train")
    assert ran.status == 130
    assert ran.err == "interrupted: resume with --resume\n"


def test_debug_variable_shows_the_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_command(monkeypatch, KeyError("oops"))
    monkeypatch.setenv("TRANSFORMER_JAX_DEBUG", "1")
    with pytest.raises(KeyError):
        main_module.main(["train"])


def test_a_closed_pipe_is_quiet() -> None:
    command = f"{sys.executable} -m transformer_jax.cli.main --help | true"
    ran = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, env={**os.environ})
    assert ran.stderr == ""


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="JAX may have CUDA here")
def test_a_platform_that_is_not_here_is_one_line(tmp_path: Path) -> None:
    program = f"{sys.executable} -m transformer_jax.cli.main translate --pretrained g2p-en"
    environment = {**os.environ, "JAX_PLATFORMS": "cuda"}
    ran = subprocess.run(
        program.split(), env=environment, input="", capture_output=True, text=True, timeout=120
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: JAX has no device here: JAX_PLATFORMS is 'cuda'; leave it empty")
    assert ran.stderr.count("\n") == 1


def test_a_file_name_that_is_not_utf8(
    tiny_run: Path, tiny_experiment: Path, tmp_path: Path, run_command: Callable, fails: Callable[..., str]
) -> None:
    odd = tmp_path / os.fsdecode(b"in\xff")
    odd.write_text("cat\n")
    output = tmp_path / os.fsdecode(b"out\xff")
    assert run_command("translate", tiny_run, "--input", odd, "--output", output).status == 0
    assert output.read_text().count("\n") == 1
    words = ("train", tiny_experiment, "--run-dir", tmp_path / "run")
    line = fails(*words, "--source", odd, "--target", odd)
    assert "data.dataset.train_source: " in line
    assert "in\\udcff' is not UTF-8, so config.json cannot hold it: rename the file" in line
    assert "not UTF-8, which checkpoints need" in fails("train", tiny_experiment, "--run-dir", odd / "run")
    copied = tmp_path / os.fsdecode(b"run\xff")
    copied.symlink_to(tiny_run)
    assert "not UTF-8, which checkpoints need" in fails("translate", copied, "--input", odd)


@pytest.mark.parametrize("words", [*((name,) for name in main_module.COMMANDS), *main_module.SUBCOMMANDS])
def test_help_does_without_the_extra(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"transformer_jax.cli.{main_module.SUBCOMMANDS.get(words, words[0])}"
    described = importlib.import_module(name).DESCRIPTION
    monkeypatch.setitem(sys.modules, "tyro", None)
    monkeypatch.delitem(sys.modules, name)
    for other in [one for one in sys.modules if one.startswith("transformer_jax.cli.")]:
        if other != "transformer_jax.cli.main":
            monkeypatch.delitem(sys.modules, other)
    assert main_module.main([*words, "--help"]) == 0
    shown = capsys.readouterr()
    assert (shown.err, described in shown.out) == ("", True)
    assert shown.out.startswith(f"usage: transformer-jax {' '.join(words)} ...\n\n")
    assert main_module.main([*words, "x"]) == 2
    assert "the Python package 'tyro' is missing" in capsys.readouterr().err
