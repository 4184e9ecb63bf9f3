"""Standard streams that are closed, full, broken or do not block: one line and a status, and nothing lost."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import transformer_jax
from transformer_jax import notes
from transformer_jax.cli import streams
from transformer_jax.cli.main import main
from transformer_jax.testing.processes import cpu_environment
from transformer_jax.training.progress import LineProgress, NoProgress, start_progress

COMMAND = f"{sys.executable} -m transformer_jax.cli.main"


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a bash script; ``$T`` is the command."""
    environment = cpu_environment(fast_compile=True) | {"T": COMMAND}
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def test_commands_without_work(tmp_path: Path) -> None:
    full = "error: standard output: No space left on device"
    ran = shell(
        """
        $T --version >&-; echo closed $?
        $T --version > /dev/full; echo full $?
        $T translate --help > /dev/full; echo help $?
        $T --version | true; echo pipe ${PIPESTATUS[0]}
        $T nonsense 2>&-; echo unsaid $?
        """,
        tmp_path,
    )
    assert ran.stdout.splitlines() == ["closed 0", "full 2", "help 2", "pipe 141", "unsaid 2"], ran
    assert ran.stderr.splitlines() == [full, full], ran


def test_translations_need_no_stream_but_their_own(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("cat\nc7t\n")
    translate = f"$T translate {tiny_run} --input in.txt"
    ran = shell(
        f"""
        {translate} > silent.txt 2>&-; echo $?
        {translate} --output closed.txt >&- 2>&- <&-; echo $?
        """,
        tmp_path,
    )
    assert ran.stdout.split() == ["0", "0"], ran
    silent = (tmp_path / "silent.txt").read_text()
    assert silent.count("\n") == 2
    assert "note" not in silent
    assert (tmp_path / "closed.txt").read_text() == silent
    assert ran.stderr == ""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_descriptor_that_does_not_block_takes_all(unbuffered: str, tmp_path: Path) -> None:
    program = """
import os, sys
from transformer_jax.cli import streams
streams.own_standard_streams()
assert os.get_blocking(1)
os.set_blocking(1, False)  # and again, by whoever shares the pipe
for number in range(300):
    print("y" * 999)
    streams.standard_output().write(b"x" * 999 + b"\\n")
streams.flush_standard_output()
"""
    (tmp_path / "program.py").write_text(program)
    run = f"PYTHONUNBUFFERED={unbuffered} {sys.executable} program.py"
    ran = shell(f"{run} | (sleep 0.3; wc -lc)", tmp_path)
    assert (ran.stdout.split(), ran.stderr) == (["600", "600000"], "")


def test_data_need_a_stream_that_was_open(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., str]
) -> None:
    monkeypatch.setattr(streams, "_closed", {0, 1})
    line = "standard output is closed: open it, or name"
    assert f"{line} --page" in fails("evaluate", tiny_run, "--split", "development")
    assert f"{line} --json" in fails("plan", "x.py")
    assert f"{line} --output" in fails("translate", tiny_run)
    assert "standard input is closed: open it, or name --input" in fails(
        "translate", tiny_run, "--output", tmp_path / "out.txt"
    )


def test_notes_never_land_in_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full:
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

        def flush(self) -> None:
            pass

    notes.print_note("said")
    assert capsys.readouterr() == ("", "said\n")
    for stream in (None, Full()):
        monkeypatch.setattr(sys, "stderr", stream)
        notes.print_note("not said")
        LineProgress("run", total=2, done=0).message("not said")
    monkeypatch.setattr(sys, "stderr", None)
    assert isinstance(start_progress("run", total=2, done=0), LineProgress | NoProgress)
    assert main(["nonsense"]) == 2
    assert capsys.readouterr().out == ""


def test_only_the_notes_write_to_standard_error() -> None:
    package = Path(transformer_jax.__file__).parent
    found = [path.name for path in package.rglob("*.py") if "file=sys.stderr" in path.read_text()]
    assert found == ["notes.py"], "print with notes.note: without a standard error print() takes the output"
