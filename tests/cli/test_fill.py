"""fill, embed and evaluate of a masked language model: a line out for each line in, and refusals of one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import transformer_jax as tj
from transformer_jax.data.masked_config import MaskedTextConfig, TextFiles, WordPieces
from transformer_jax.models import EncoderOnlyConfig, TransformerTextEncoder
from transformer_jax.nn import Learned
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.masked_language_modelling import MaskedLanguageModelling
from transformer_jax.training.config import Adam, Constant, TrainConfig

TEXT = "where is city one ?\nwho is person two ?\n" * 12


def config_of(path: Path, *, seed: int = 0, updates: int = 60) -> ExperimentConfig:
    files = TextFiles(train=(str(path),), development=(str(path),), test=(str(path),))
    return ExperimentConfig(
        name="masked",
        task=MaskedLanguageModelling(
            data=MaskedTextConfig(
                datasets=(files,), tokenizer=WordPieces(vocab_size=60), unit="line", max_len=10, batch_size=8
            )
        ),
        model=EncoderOnlyConfig(
            encoder=TransformerTextEncoder(
                model_dim=16,
                num_heads=2,
                num_kv_heads=2,
                feed_forward_dim=32,
                num_layers=1,
                positions=Learned(max_len=10),
                dropout_rate=0.0,
                attention_dropout_rate=0.0,
            )
        ),
        train=TrainConfig(
            updates=updates,
            optimizer=Adam(),
            schedule=Constant(peak_learning_rate=0.01),
            log_every=updates,
            evaluate_every=updates,
            checkpoint_every=updates,
            metric="nats",
            metric_mode="min",
            seed=seed,
        ),
    )


@pytest.fixture(scope="module")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("masked") / "train.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def masked_run(text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("masked_run") / "run"
    tj.train(config_of(text_file), run_dir)
    return run_dir


def test_a_line_for_each_line(masked_run: Path, tmp_path: Path, run_command: Callable[..., Any]) -> None:
    lines = tmp_path / "in.txt"
    lines.write_text("Where is [MASK] one?\n\nno mask\nwho is person [MASK] ?\n")
    ran = run_command("fill", masked_run, "--input", lines)
    assert ran.status == 0, ran.err
    found = ran.out.splitlines()
    assert found == ["Where is city one?", "", "no mask", "who is person two ?"]
    output = tmp_path / "out.txt"
    assert run_command("fill", masked_run, "--input", lines, "--output", output).status == 0
    assert output.read_text() == ran.out
    top = run_command("fill", masked_run, "--input", lines, "--top", 2).out.splitlines()
    assert len(top) == 4
    token, probability, second, _ = top[0].split("\t")
    assert token == "city"
    assert float(probability) > 0.5
    assert second != token
    assert top[1] == top[2] == ""
    lines.write_text("[MASK] is [MASK]\n")
    two = run_command("fill", masked_run, "--top", 1, "--input", lines).out
    assert two.count("|") == 1
    lines.write_text("Where is [MASK] one?\n\nno mask\nwho is person [MASK] ?\n")
    objects = [
        json.loads(line)
        for line in run_command("fill", masked_run, "--input", lines, "--json").out.splitlines()
    ]
    assert [one["best"] for one in objects] == found
    assert len(objects[0]["masks"][0]) == 5
    assert objects[0]["masks"][0][0]["token"] == "city"


def test_embed(masked_run: Path, tmp_path: Path, run_command: Callable[..., Any]) -> None:
    lines = tmp_path / "in.txt"
    lines.write_text("where is city one?\n\n")
    run = tj.load(masked_run)
    vectors = run_command("embed", masked_run, "--input", lines).out.splitlines()
    wanted = run.embed(["where is city one?", ""])
    assert [[float(one) for one in line.split()] for line in vectors] == [
        [float(str(one)) for one in found.vector] for found in wanted
    ]
    first = json.loads(
        run_command("embed", masked_run, "--input", lines, "--pooling", "first", "--json").out.splitlines()[0]
    )
    assert first["vector"] == [
        float(str(one)) for one in run.embed(["where is city one?"], pooling="first")[0].vector
    ]
    words = json.loads(run_command("embed", masked_run, "--input", lines, "--words").out.splitlines()[0])
    assert words["words"] == ["where", "is", "city", "one?"]
    assert len(words["vectors"]) == 4
    for flags, message in (
        (["--nearest", "3"], "--nearest needs word vectors"),
        (["--analogy"], "--analogy needs word vectors"),
        (["--words", "--pooling", "mean"], "leave --pooling out"),
    ):
        refused = run_command("embed", masked_run, "--input", lines, *flags)
        assert refused.status == 2
        assert message in refused.err


def test_evaluate(masked_run: Path, text_file: Path, tmp_path: Path, run_command: Callable[..., Any]) -> None:
    ran = run_command("evaluate", masked_run, "--split", "test", "--pseudo-texts", 4)
    assert ran.status == 0, ran.err
    assert "nats a hidden token" in ran.out
    assert "pseudo-perplexity" in ran.out
    scores = json.loads(
        run_command("evaluate", masked_run, "--split", "test", "--pseudo-texts", 4, "--json").out
    )
    assert 1.0 <= scores["pseudo_perplexity"] < 60
    assert scores["texts"] == 24
    assert "[MASK]" not in ran.out
    other = tmp_path / "other"
    tj.train(config_of(text_file, updates=2), other)
    against = json.loads(
        run_command("evaluate", masked_run, "--split", "test", "--against", other, "--json").out
    )["against"]
    assert against["difference"] < 0
    assert against["differs"] is True
    missing = run_command("evaluate", masked_run, "--source", tmp_path / "none.txt")
    assert missing.status == 2
    assert len(missing.err.strip().splitlines()) == 1


def test_refusals(masked_run: Path, tmp_path: Path, run_command: Callable[..., Any]) -> None:
    for arguments, message in (
        (["fill", masked_run, "--top", 10**6], "--top must be at most"),
        (["classify", masked_run], "use transformer-jax fill"),
        (["fill", tmp_path / "none"], "none"),
    ):
        ran = run_command(*arguments)
        assert ran.status == 2, ran.out
        assert message in ran.err
        assert len(ran.err.strip().splitlines()) == 1
