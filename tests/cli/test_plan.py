"""``transformer-jax plan``: what it prints and writes, where sizes come from, and every refusal in one line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest


def test_a_plan_is_printed_and_written(run_command: Callable, tiny_experiment: Path, tmp_path: Path) -> None:
    document, page = tmp_path / "plan.json", tmp_path / "plan.html"
    sizes = ("--vocab-size", 32, "--batch-rows", 16, "--length", 8)
    ran = run_command("plan", tiny_experiment, "--mesh", "4x2", *sizes, "--json", document, "--output", page)
    assert ran.status == 0, ran
    assert ran.err == ""
    assert max(map(len, ran.out.splitlines())) <= 100
    for wanted in (
        "tiny on 8 x NVIDIA H100 SXM, 80 GB (data 4 x tensor 2)", "vocabulary 32 and 32, from --vocab-size",
        "16 rows of 8 source and 8 target tokens: 256 tokens", "all-reduce over data", "all-reduce over tensor",
        "share of peak", "what bounds it",
    ):  # fmt: skip
        assert wanted in ran.out
    assert "DOES NOT FIT" not in ran.out
    found = json.loads(document.read_text())
    plan = found["plan"]
    assert (found["devices"], found["rows"], found["lengths"], found["fits"]) == (8, 16, [8, 8], True)
    assert found["memory_bytes"] == sum(plan["memory"].values())
    assert plan["total_flops"] > plan["device_flops"] > 0
    assert plan["memory"]["optimizer moments"] == pytest.approx(2 * plan["memory"]["parameters"], abs=16)
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert "all-reduce over data" in text
    assert "http" not in text.replace("http://www.w3.org", "")


def test_a_model_that_does_not_fit_is_told_and_no_error(run_command: Callable, tiny_experiment: Path) -> None:
    large = (
        "model.model_dim=16384",
        "model.num_heads=128",
        "model.num_kv_heads=128",
        "model.feed_forward_dim=65536",
    )
    ran = run_command("plan", tiny_experiment, "--set", *large, "--device", "v5e", "--vocab-size", 32)
    assert ran.status == 0, ran
    assert "DOES NOT FIT" in ran.out
    assert "of 16 GB" in ran.out
    shared = run_command(
        "plan", tiny_experiment, "--set", *large, "--device", "v5e", "--vocab-size", 32, "--mesh", "fsdp=8,tensor=8",
        "--batch-rows", 8,
    )  # fmt: skip
    assert "DOES NOT FIT" not in shared.out


def test_sizes_come_from_where_they_are_known(
    run_command: Callable, tiny_experiment: Path, tiny_run: Path
) -> None:
    from_data = run_command("plan", tiny_experiment)
    assert "from the data" in from_data.out
    assert "8 rows of 8 source and 9 target tokens" in from_data.out
    of_run = run_command("plan", tiny_run / "config.json", "--set", 'train.sharding={"data": 2}')
    assert "from the run's tokenizers" in of_run.out
    assert "tiny on 2 x NVIDIA" in of_run.out
    sizes = [ran.out.split("vocabulary ")[1].split(",")[0] for ran in (from_data, of_run)]
    assert sizes[0] == sizes[1]
    subwords = 'data.target_tokenizer={"kind": "subwords", "vocab_size": 400}'
    of_config = run_command(
        "plan", tiny_experiment, "--set", subwords, 'data.source_tokenizer={"kind": "words", "max_size": 50}'
    )
    assert "vocabulary 50 and 400, from the config" in of_config.out


def test_what_several_devices_do_is_told(run_command: Callable) -> None:
    """A recurrence shares its rows over tensor, too; where they do not divide, all of its devices do them all."""
    experiment = Path(__file__).parents[2] / "experiments" / "pronunciation_lstm.py"
    words = ("plan", experiment, "--mesh", "2x8", "--vocab-size", 40, 80, "--length", 8, "--batch-rows")
    assert "are done by others too" in run_command(*words, 24).out
    assert "are done by others too" not in run_command(*words, 32).out


def test_a_recurrent_model_is_planned(run_command: Callable) -> None:
    experiment = Path(__file__).parents[2] / "experiments" / "pronunciation_lstm.py"
    ran = run_command(
        "plan", experiment, "--mesh", "8", "--vocab-size", 40, 80, "--batch-rows", 64, "--length", 8
    )
    assert ran.status == 0, ran
    assert "steps of loops that multiply" in ran.out
    assert "all-reduce over data" in ran.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--mesh", "8y8"), "--mesh '8y8': wanted sizes as in 64x8"),
        (("--mesh", "tensr=8"), "did you mean 'tensor'"),
        (("--device", "h10"), "unknown device 'h10'; did you mean 'h100'"),
        (("--device", "abacus"), "known: h100, h200"),
        (("--mesh", "3"), "8 rows does not divide over data x fsdp = 3"),
        (("--mesh", "sequence=5"), "does not divide over sequence = 5"),
        (("--batch-rows", "0"), "--batch-rows must be at least 1"),
        (("--length", "1", "2", "3"), "--length wants one or two numbers"),
        (("--vocab-size", "-4"), "--vocab-size must be at least 1, got -4"),
        (
            ("--device", "v5p", "--mesh", "16384", "--batch-rows", "16384"),
            "at most 8,960 of 'v5p' are joined",
        ),
        (("--mesh", "2", "--set", "train.sharing=null"), "did you mean"),
    ],
)
def test_what_is_wrong_is_one_line(fails: Callable, tiny_experiment: Path, words: tuple, said: str) -> None:
    assert said in fails("plan", tiny_experiment, "--vocab-size", 32, *words)


def test_a_vocabulary_that_nobody_knows_is_asked_for(
    fails: Callable, tiny_experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSFORMER_JAX_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    named = 'data.dataset={"kind": "named", "name": "cmudict-g2p"}'
    assert "give --vocab-size" in fails("plan", tiny_experiment, "--set", named)
    assert "no such file" in fails("plan", tmp_path / "none.py")
