"""What is printed on a terminal, into a pipe, and when quiet."""

import io
import sys
import types

import pytest
from rich.console import Console

from transformer_jax.training.progress import BarProgress, LineProgress, NoProgress, start_progress


def test_pipe_gets_a_line_now_and_then_and_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("transformer_jax.training.progress.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    progress = LineProgress("gru", total=100, done=0, stream=stream, seconds_between=30.0)
    for update in range(10, 101, 10):
        now[0] += 10.0
        progress.advance(update)
        progress.show(f"loss {update}", update=update)
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["30/100", "60/100", "90/100", "100/100"]
    assert lines[0] == "gru 30/100  loss 30  left 0:01:10"


def test_terminal_gets_a_bar_with_the_numbers() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    progress = BarProgress("gru", total=10, done=2, console=console)
    progress.advance(3)
    progress.show("loss 1.5  900 tokens/s", update=4)
    progress.message("development: per [12]")
    progress._bar.refresh()
    progress.close()
    text = stream.getvalue()
    assert "900 tokens/s" in text
    assert "4/10" in text
    assert "per [12]" in text


def test_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(start_progress("x", total=1, done=0, quiet=True), NoProgress)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(start_progress("x", total=1, done=0), LineProgress)


@pytest.mark.parametrize("has_widgets", [True, False])
def test_a_notebook_gets_a_bar_where_it_can_show_one(
    monkeypatch: pytest.MonkeyPatch, has_widgets: bool
) -> None:
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    found = object() if has_widgets else None
    monkeypatch.setattr("transformer_jax.training.progress.importlib.util.find_spec", lambda name: found)
    monkeypatch.setattr("transformer_jax.training.progress.is_watched", lambda: False)
    progress = start_progress("x", total=1, done=0)
    progress.close()
    assert isinstance(progress, BarProgress if has_widgets else LineProgress)
