"""evaluate and plot: scores that follow from translate's output, pictures, and bad input in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transformer_jax.cli.scoring import percentages, score_outputs


def write(folder: Path, sources: list[str], references: list[str]) -> tuple[Any, ...]:
    (folder / "source.txt").write_text("".join(f"{line}\n" for line in sources))
    (folder / "reference.txt").write_text("".join(f"{line}\n" for line in references))
    return ("--source", folder / "source.txt", "--reference", folder / "reference.txt")


def test_scores_are_those_of_the_translations(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    words, references = ["cat", "attack", "sit"], ["C A T", "A T T A C K", "S I T"]
    files = write(tmp_path, words, references)
    outputs = run_command("translate", tiny_run, "--input", tmp_path / "source.txt").out.splitlines()
    ran = run_command("evaluate", tiny_run, *files, "--json")
    assert ran.status == 0
    scores = json.loads(ran.out)
    wanted = percentages(score_outputs("pronunciation", outputs, [(line,) for line in references]))
    assert wanted == {name: scores[name] for name in wanted}
    assert {"per", "wer"} <= wanted.keys()
    assert (scores["lines"], scores["task"], scores["unknown"], scores["too_long"]) == (
        3,
        "pronunciation",
        0,
        0,
    )
    table = run_command("evaluate", tiny_run, *files).out
    assert f"{scores['per']:.2f}" in table
    assert "3 lines" in table


def test_its_own_outputs_have_no_errors(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    words = ["cat", "attack", "sit", "tack"] * 10
    write(tmp_path, words, [])
    outputs = run_command("translate", tiny_run, "--input", tmp_path / "source.txt").out.splitlines()
    ran = run_command("evaluate", tiny_run, *write(tmp_path, words, outputs), "--json")
    assert json.loads(ran.out)["wer"] == 0.0
    wrong = ["A A A A A A A A A A", *outputs[1:]]
    ran = run_command("evaluate", tiny_run, *write(tmp_path, words, wrong), "--json")
    assert json.loads(ran.out)["wer"] == 100.0 / len(words)


def test_unknown_characters_and_long_lines_are_counted(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    files = write(tmp_path, ["cßt", "a" * 9], ["C A T", "A"])
    ran = run_command("evaluate", tiny_run, *files, "--json", "--too-long", "truncate")
    scores = json.loads(ran.out)
    assert (scores["unknown"], scores["too_long"]) == (1, 1)
    assert "1 character never seen in training became <unk>: 'ß' 1" in ran.err
    assert "line 2: 9 tokens" in ran.err


def test_bad_files(tiny_run: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    files = write(tmp_path, ["cat", "sit", "at"], ["C A T", "S I T"])
    message = fails("evaluate", tiny_run, *files)
    assert "3 lines" in message
    assert "has 2" in message
    assert "line 2: 9 tokens" in fails("evaluate", tiny_run, *write(tmp_path, ["cat", "a" * 9], ["C", "A"]))
    (tmp_path / "source.txt").write_bytes(b"")
    assert "empty" in fails("evaluate", tiny_run, *files)
    (tmp_path / "source.txt").write_bytes(b"\0\0\n")
    assert "binary" in fails("evaluate", tiny_run, *files)
    (tmp_path / "source.txt").write_bytes(b"\xff\n")
    assert "not UTF-8" in fails("evaluate", tiny_run, *files)
    (tmp_path / "source.txt").unlink()
    assert "source.txt: no such file" in fails("evaluate", tiny_run, *files)


def test_folders_that_hold_no_run(tiny_run: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    files = write(tmp_path, ["cat"], ["C A T"])
    assert "no such run folder; did you mean 'tiny'?" in fails("evaluate", tiny_run.parent / "tny", *files)
    assert "'config.json' is missing" in fails("evaluate", tmp_path, *files)


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("config.json", "{", "config.json: not JSON"),
        ("config.json", '{"name": "x"}', "config.json: key 'task' is missing"),
        ("source_tokenizer.json", "[]", "source_tokenizer.json: not a tokenizer"),
        ("target_tokenizer.json", "", "target_tokenizer.json"),
    ],
)
def test_damaged_run_folders(
    name: str, content: str, part: str, tiny_run: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    (tmp_path / "run" / name).write_text(content)
    assert part in fails("evaluate", tmp_path / "run", *write(tmp_path, ["cat"], ["C A T"]))


def test_damaged_checkpoint(tiny_run: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").rglob("*"):
        if path.is_file() and "model" in path.parts:
            path.write_bytes(b"")
    message = fails("evaluate", tmp_path / "run", *write(tmp_path, ["cat"], ["C A T"]))
    assert "checkpoint" in message
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert "no checkpoint yet" in fails("evaluate", tmp_path / "run", *write(tmp_path, ["cat"], ["C A T"]))


def test_plot_draws_curves_and_attention(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    ran = run_command("plot", tiny_run, "--output", tmp_path / "figures", "--line", "cat", "tack")
    assert ran.status == 0, ran.err
    paths = [Path(line) for line in ran.out.splitlines()]
    assert [path.name for path in paths] == [
        "loss.png",
        "per.png",
        "attention_1_cat.png",
        "attention_2_tack.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_plot_of_what_cannot_be_drawn(tiny_run: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    assert "holds no run" in fails("plot", tmp_path)
    beside = tiny_run.with_name(f"{tiny_run.name}y")
    assert f"no such run folder; did you mean '{tiny_run.name}'?" in fails("plot", beside)
    assert "no token to look at" in fails("plot", tiny_run, "--output", tmp_path, "--line", "")
    assert "line 1: 9 tokens" in fails("plot", tiny_run, "--output", tmp_path, "--line", "a" * 9)
