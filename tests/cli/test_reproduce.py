"""A run trained again: the same rows, or the first that is another, and why that may be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def train(run_command: Callable[..., Any], experiment: Path, run_dir: Path, *words: str) -> Path:
    options = ("train.updates=6", "train.log_every=2", "train.checkpoint_every=2", *words)
    ran = run_command("train", experiment, "--run-dir", run_dir, "--set", *options)
    assert ran.status == 0, ran.err
    return run_dir


def edit_row(run_dir: Path, place: int, **changes: Any) -> None:
    path = run_dir / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[place] |= changes
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_run_comes_again_and_a_changed_one_does_not(
    run_command: Callable[..., Any], fails: Callable[..., str], tiny_experiment: Path, tmp_path: Path
) -> None:
    run_dir = train(run_command, tiny_experiment, tmp_path / "run")
    again = run_command("reproduce", run_dir, "--run-dir", tmp_path / "again")
    assert again.status == 0, again
    digest = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-2])["digest"]
    assert f"equal through update 6; the parameters' digest is {digest}" in again.out
    assert "now it is" not in again.err, "no setting differs"
    assert (tmp_path / "again" / "metrics.jsonl").is_file()

    edit_row(run_dir, 2, digest="0" * 16)
    lock = run_dir / "run.lock"
    document = json.loads(lock.read_text())
    document["sessions"][0]["jax"] = "0.0.1"
    lock.write_text(json.dumps(document))
    other = run_command("reproduce", run_dir)
    assert other.status == 1
    assert (
        "equal through update 2; first different at update 4 (train): digest was 0000000000000000, now"
        in other.out
    )
    assert "note: jax was 0.0.1, now it is" in other.err
    assert run_command("reproduce", run_dir, "--updates", "2").status == 0

    assert "is the run itself" in fails("reproduce", run_dir, "--run-dir", run_dir)
    assert "--updates must be at least 1" in fails("reproduce", run_dir, "--updates", "0")
    (run_dir / "metrics.jsonl").unlink()
    assert "has no log to compare with" in fails("reproduce", run_dir)
    assert "no such run folder" in fails("reproduce", tmp_path / "rum")


def test_what_a_run_began_with_is_taken_again(
    run_command: Callable[..., Any], fails: Callable[..., str], tiny_experiment: Path, tmp_path: Path
) -> None:
    first = train(run_command, tiny_experiment, tmp_path / "first")
    wider = ("--set", "model.feed_forward_dim=24", "train.updates=4", "train.log_every=2")
    words = ("train", tiny_experiment, "--run-dir", tmp_path / "wider", "--warm-start", first)
    refused = fails(*words, *wider)
    assert "(--allow-partial takes what fits)" in refused
    assert not (tmp_path / "wider" / "config.json").exists()
    ran = run_command(*words, "--allow-partial", *wider)
    assert ran.status == 0, ran.err
    told = next(line for line in ran.err.splitlines() if "warm start" in line)
    assert f"arrays are those of {first}" in told
    assert "as initialized: " in ran.err
    assert "feed_forward.inner.kernel" in ran.err
    again = run_command("reproduce", tmp_path / "wider")
    assert again.status == 0, again
    assert "--allow-partial goes with --warm-start" in fails(
        "train", tiny_experiment, "--run-dir", tmp_path / "none", "--allow-partial"
    )
