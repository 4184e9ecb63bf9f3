"""summarise: translate under another name, which reads the beginning of a long text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_summarise_is_translate(tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]) -> None:
    lines = tmp_path / "in.txt"
    lines.write_text("cat\n\n" + "cat " * 5_000 + "\n")
    ran = run_command("summarise", tiny_run, "--input", lines, "--beam", 2)
    assert ran.status == 0, ran.err
    assert len(ran.out.splitlines()) == 3
    assert "line 3: 20000 tokens; the limit of training is 8 (data.max_source_len): cut off" in ran.err
    same = run_command("translate", tiny_run, "--input", lines, "--beam", 2, "--too-long", "truncate")
    assert (same.status, same.out) == (0, ran.out)
    fails = run_command("summarise", tiny_run, "--input", lines, "--too-long", "fail")
    assert fails.status == 2
    assert "line 3: 20000 tokens" in fails.err
