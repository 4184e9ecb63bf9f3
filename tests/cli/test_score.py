"""score: the model's own log-probabilities, whatever stands beside a pair."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from transformer_jax.inference.pair_scores import PairScorer
from transformer_jax.runs.loading import load_run


def write(folder: Path, sources: list[str], targets: list[str]) -> tuple[Any, ...]:
    (folder / "source.txt").write_text("".join(f"{line}\n" for line in sources))
    (folder / "target.txt").write_text("".join(f"{line}\n" for line in targets))
    return ("--source", folder / "source.txt", "--target", folder / "target.txt")


def test_scores_are_those_that_the_search_found(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    words = ["cat", "attack", "sit", "tack"]
    (tmp_path / "in.txt").write_text("".join(f"{word}\n" for word in words))
    found = run_command("translate", tiny_run, "--input", tmp_path / "in.txt", "--beam", 2, "--n-best", 1).out
    rows = [line.split("\t") for line in found.splitlines()]
    ran = run_command("score", tiny_run, *write(tmp_path, words, [row[2] for row in rows]))
    assert ran.status == 0
    scored = [line.split("\t") for line in ran.out.splitlines()]
    penalty = json.loads((tiny_run / "config.json").read_text())["task"]["search"].get("length_penalty", 0.0)
    for (_, score, text), (log_prob, num_tokens) in zip(rows, scored, strict=True):
        assert int(num_tokens) == len(text.split()) + 1
        wanted = float(score) * ((5 + int(num_tokens)) / 6) ** penalty
        assert float(log_prob) == pytest.approx(wanted, abs=2e-3)
    total, tokens = sum(float(one) for one, _ in scored), sum(int(two) for _, two in scored)
    assert f"perplexity {np.exp(-total / tokens):.2f}" in ran.err


def test_no_bit_depends_on_the_neighbours(tiny_run: Path) -> None:
    run = load_run(tiny_run).predictor
    capacity = run.data.max_source_len
    scorer = PairScorer(run.model, source_len=capacity, target_len=run.data.max_target_len)
    generator = np.random.default_rng(0)
    pairs = [
        (
            generator.integers(
                4, run.source_tokenizer.vocab_size, generator.integers(0, capacity + 1)
            ).tolist(),
            generator.integers(4, run.target_tokenizer.vocab_size, generator.integers(0, 5)).tolist(),
        )
        for _ in range(50)
    ]
    together = scorer(run.state, [a for a, _ in pairs], [b for _, b in pairs])
    order = generator.permutation(50)
    shuffled = scorer(run.state, [pairs[i][0] for i in order], [pairs[i][1] for i in order])
    assert [together[i] for i in order] == shuffled
    assert [scorer(run.state, [a], [b])[0] for a, b in pairs[:5]] == together[:5]
    assert all(np.isfinite(together))


def test_pairs_longer_than_those_of_training_are_scored_and_too_long_ones_left_out(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    words = ["cat", "attackattack", "c" * 300]
    ran = run_command("score", tiny_run, *write(tmp_path, words, ["C A T", "A T T A C K " * 2, "C"]))
    assert ran.status == 0
    rows = [line.split("\t") for line in ran.out.splitlines()]
    assert [tokens for _, tokens in rows] == ["4", "13", "0"]
    run = load_run(tiny_run).predictor
    long = PairScorer(run.model, source_len=12, target_len=14)
    pair = (run.source_tokenizer.encode(words[1]), run.target_tokenizer.encode("A T T A C K " * 2))
    assert float(rows[1][0]) == pytest.approx(long(run.state, [pair[0]], [pair[1]])[0], abs=1e-3)
    assert rows[2][0] == "nan"
    assert "source.txt: line 2: 12 tokens; the limit of training is 8" in ran.err
    assert "line 3: 300 tokens; the limit of training is 8 (data.max_source_len): left out" in ran.err
    assert "note: 1 pair is too long: the score is 'nan'" in ran.err
    assert "2 pairs, 17 target tokens" in ran.err


def test_bad_input_is_one_line(tiny_run: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    assert "differ in length" in fails("score", tiny_run, *write(tmp_path, ["cat"], ["C A T", "C"]))
    files = write(tmp_path, ["cat"], ["C " * 200])
    assert "target.txt: line 1: 200 tokens" in fails("score", tiny_run, *files, "--too-long", "fail")
    assert "is an input file" in fails("score", tiny_run, *files, "--output", files[1])
    assert "no such file" in fails("score", tiny_run, "--source", tmp_path / "none", "--target", files[3])
