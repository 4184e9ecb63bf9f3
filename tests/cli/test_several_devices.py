"""A search over several devices gives every line the bits that one device gives it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from transformer_jax.decode.search_options import SearchIds
from transformer_jax.decode.searcher import GreedyConfig, make_searcher
from transformer_jax.errors import ConfigError
from transformer_jax.testing.processes import cpu_environment
from transformer_jax.testing.tiny_models import TableModel

SEARCHED = """
import sys
sys.path.insert(0, {folder!r})
import numpy as np
from flax import nnx
from test_invariance import MODELS, SEARCHES, VOCAB
from transformer_jax.inference.batch_search import BatchSearcher
from transformer_jax.decode.search_options import SearchIds
from transformer_jax.decode.searcher import SampleConfig
from transformer_jax.models.sizes import Sizes
from transformer_jax.models.build import build_model

generator = np.random.default_rng(0)
sources = [generator.integers(4, VOCAB, generator.integers(0, 13)).tolist() for _ in range(41)]
cases = [(SEARCHES["beam"], "transformer"), (SEARCHES["greedy"], "bahdanau"), (SampleConfig(max_len=6), "transformer")]
for search, name in cases:
    model = build_model(MODELS[name], Sizes.of_pairs(VOCAB), seed=0)
    one, three = (
        BatchSearcher(model, search, batch_size=4, lengths=[6, 12], num_devices=number)(nnx.state(model), sources)
        for number in (1, 3)
    )
    assert len({{found[0].score for found in one}}) > 10, "all outputs alike would show nothing"
    assert one == three, (name, search)
    print("same")
"""


def run(*words: object, devices: int) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, *map(str, words)]
    return subprocess.run(
        program, env=cpu_environment(devices, fast_compile=True), capture_output=True, text=True, timeout=600
    )


def test_tokens_and_scores_are_those_of_one_device() -> None:
    ran = run("-c", SEARCHED.format(folder=str(Path(__file__).parents[1] / "inference")), devices=3)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.split() == ["same"] * 3


def test_commands_share_the_lines(tiny_run: Path, tmp_path: Path, run_command: Callable) -> None:
    path = tmp_path / "in.txt"
    path.write_text("cat\n\nattack\ntic\n" * 11)
    words = ("translate", tiny_run, "--input", path, "--beam", 2, "--n-best", 2)
    ran = run("-m", "transformer_jax.cli.main", *words, "--devices", 2, devices=2)
    assert (ran.returncode, ran.stdout) == (0, run_command(*words).out), ran.stderr


def test_more_devices_than_there_are_is_one_line(tiny_run: Path, fails: Callable) -> None:
    assert "num_devices must be 1 to 1" in fails("translate", tiny_run, "--devices", 2)
    assert "--devices must be at least 1" in fails(
        "evaluate", tiny_run, "--split", "development", "--devices", 0
    )
    with pytest.raises(ConfigError, match="num_devices must be 1 to 1"):
        make_searcher(
            TableModel.countdown(vocab_size=5, eos_id=3),
            GreedyConfig(max_len=2),
            SearchIds(bos_id=2, eos_id=3),
            num_devices=2,
        )
