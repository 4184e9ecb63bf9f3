"""Runs commands in this process and checks the promise of every failure: one line, no traceback."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import pytest

from transformer_jax.cli.main import main


@pytest.fixture(scope="package")
def compilation_cache() -> Iterator[None]:
    """Commands compile anew each time; here a second command of the same shapes takes the first one's, small or not."""
    changes = {
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in changes}
    for name, value in changes.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@dataclasses.dataclass(frozen=True)
class Ran:
    """Exit status and output of a command."""

    status: int
    out: str
    err: str


@pytest.fixture
def run_command(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """``run_command("train", ...)`` gives status, standard output and standard error."""

    def run(*words: object) -> Ran:
        capfd.readouterr()
        status = main([str(word) for word in words])
        out, err = capfd.readouterr()
        return Ran(status, out, err)

    return run


@pytest.fixture
def fails(run_command: Callable[..., Ran]) -> Callable[..., str]:
    """``fails("train", ...)`` checks for status 2 and one line on standard error, and gives that line."""

    def run(*words: object, status: int = 2) -> str:
        ran = run_command(*words)
        assert ran.status == status, ran
        assert "Traceback" not in ran.out + ran.err
        lines = [line for line in ran.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, ran.err
        assert ran.err.endswith(lines[0] + "\n"), ran.err
        return lines[0]

    return run


WORDS = ("cat", "tack", "at", "act", "tact", "attack", "cactus", "tic", "cut", "suit", "is", "sit")


def spell(word: str) -> str:
    """The letters of a word, each a token: a target that a model can learn."""
    return " ".join(word.upper())


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``train.src`` and ``train.tgt``: words and their letters."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "train.src").write_text("".join(f"{word}\n" for word in WORDS * 4))
    (folder / "train.tgt").write_text("".join(f"{spell(word)}\n" for word in WORDS * 4))
    return folder


@pytest.fixture(scope="session")
def tiny_experiment(tiny_data: Path) -> Path:
    """A Python file whose ``config()`` trains a very small Transformer for four updates on `tiny_data`."""
    path = tiny_data / "tiny.py"
    source, target = str(tiny_data / "train.src"), str(tiny_data / "train.tgt")
    path.write_text(
        f"""
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.data.pairs_config import ChosenBuckets, PairsConfig, ParallelFiles
from transformer_jax.decode.searcher import GreedyConfig
from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.tasks.pronunciation import Pronunciation
from transformer_jax.training.config import Adam, Constant, TrainConfig


def config():
    return ExperimentConfig(
        name="tiny",
        task=Pronunciation(data=PairsConfig(
            dataset=ParallelFiles(train_source={source!r}, train_target={target!r}),
            batch_size=8,
            buckets=ChosenBuckets(max_shapes=1),
            max_source_len=8,
            max_target_len=9,
        ), search=GreedyConfig(max_len=9)),

        model=EncoderDecoderConfig(
            model_dim=8,
            num_heads=2,
            num_kv_heads=2,
            feed_forward_dim=8,
            num_encoder_layers=1,
            num_decoder_layers=1,
            dropout_rate=0.0,
        ),
        train=TrainConfig(
            updates=4,
            optimizer=Adam(),
            schedule=Constant(peak_learning_rate=0.01),
            log_every=2,
            evaluate_every=2,
            checkpoint_every=2,
            metric="per",
        ),

    )
"""
    )
    return path


@pytest.fixture(scope="session")
def tiny_run(tiny_experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run of `tiny_experiment`; tests only read it."""
    run_dir = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", str(tiny_experiment), "--run-dir", str(run_dir)]) == 0
    return run_dir


LINES = tuple(" ".join(WORDS[start:] + WORDS[:start]) for start in range(8))
"""Text of a language model, a line each."""


@pytest.fixture(scope="session")
def language_experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config file that trains a very small language model with a context of 16 characters for four updates."""
    folder = tmp_path_factory.mktemp("text")
    for name, lines in (("train", LINES), ("development", LINES[:3])):
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    document = {
        "format": 2,
        "name": "tiny_language",
        "task": {
            "kind": "language_modelling",
            "data": {
                "dataset": {
                    "kind": "files",
                    "train": [str(folder / "train.txt")],
                    "development": [str(folder / "development.txt")],
                },
                "windows": {"kind": "random", "context_len": 16},
                "batch_size": 4,
            },
            "evaluation_rows": 4,
        },
        "model": {
            "kind": "decoder_only",
            "model_dim": 8,
            "num_heads": 2,
            "num_kv_heads": 2,
            "feed_forward_dim": 16,
            "num_layers": 1,
            "positions": {"kind": "learned", "max_len": 16},
        },
        "train": {
            "updates": 4,
            "optimizer": {"kind": "adam"},
            "schedule": {"kind": "constant", "peak_learning_rate": 0.01},
            "log_every": 2,
            "evaluate_every": 2,
            "checkpoint_every": 2,
            "metric": "nats",
            "metric_mode": "min",
        },
    }
    path = folder / "tiny_language.json"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture(scope="session")
def language_run(language_experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run of `language_experiment`; tests only read it."""
    run_dir = tmp_path_factory.mktemp("runs") / "tiny_language"
    assert main(["train", str(language_experiment), "--run-dir", str(run_dir)]) == 0
    return run_dir
