"""``transformer-jax init`` writes experiment files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transformer_jax.cli.init import SHORT
from transformer_jax.runs.experiment import start_config


@pytest.mark.parametrize("short", SHORT)
def test_a_short_name_begins_an_experiment(
    short: str, run_command: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "new" / "mine.py"
    ran = run_command("init", short, file)
    assert ran.status == 0, ran.err
    assert ran.out == f"wrote {file}\ntrain it: transformer-jax train {file} --run-dir runs/mine\n"
    config = start_config(str(file))
    assert config.name == "mine"
    assert config.model == start_config(SHORT[short]).model


def test_without_a_name_all_are_listed(run_command: Callable[..., Any]) -> None:
    ran = run_command("init")
    assert ran.status == 0
    assert "  translation      A Transformer for two files of your own" in ran.out
    assert "\n  pronunciation_lstm\n      " in ran.out


def test_what_cannot_be_written_is_refused_in_one_line(
    run_command: Callable[..., Any], tmp_path: Path
) -> None:
    def fails(*words: Any) -> str:
        ran = run_command("init", *words)
        assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
        return str(ran.err)

    there = tmp_path / "there.py"
    there.write_text("x = 1\n")
    assert f"{there}: is there already; name another file" in fails("translation", there)
    assert there.read_text() == "x = 1\n"
    assert "name the file to write: transformer-jax init translation mine.py" in fails("translation")
    assert "wanted a name that ends in .py" in fails("translation", tmp_path / "mine.txt")
    assert "did you mean 'pronunciation_lstm'" in fails("pronunciation_lst", tmp_path / "mine.py")
    assert "No such file" in fails(tmp_path / "nothing.json", tmp_path / "mine.py")
    assert "File exists" in fails("translation", there / "mine.py")
    assert list(tmp_path.iterdir()) == [there]
