"""A package installed by pip adds a model, a task, a cell, a score rule, a data set and an objective."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("setuptools", reason="builds the package that is installed here, without a network")
pytest.importorskip("pip", reason="installs it")

ROOT = Path(__file__).parents[2]

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "1.0"

[tool.setuptools]
py-modules = ["{module}"]

[project.entry-points."transformer_jax.models"]
one = "{module}:TinyLM"
"""

POINTS = """
[project.entry-points."transformer_jax.tasks"]
one = "tiny_rungs:Chorus"

[project.entry-points."transformer_jax.cells"]
one = "tiny_rungs:LeakyCell"

[project.entry-points."transformer_jax.scores"]
one = "tiny_rungs:NegativeDistance"

[project.entry-points."transformer_jax.datasets.pairs"]
one = "tiny_rungs:Reversed"

[project.entry-points."transformer_jax.objectives.pairs"]
one = "tiny_rungs:HalfLoss"
"""

PACKAGE = """
import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from transformer_jax.data.line_pairs import Pair, PairSplits
from transformer_jax.functional.recurrent import GatedCell
from transformer_jax.functional.recurrent.gated_cell import recur
from transformer_jax.functional.scores import RuleConfig
from transformer_jax.models import RecurrentLMConfig
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.tasks.language_modelling import LanguageModelling


@pytree_dataclass
class LeakyCell(GatedCell):
    input_weight: jax.Array
    recurrent_weight: jax.Array
    bias: jax.Array
    kind = "leaky"
    num_gates = 1

    def step(self, carry, projected):
        state = 0.5 * carry + 0.5 * jnp.tanh(projected + recur(carry, self.recurrent_weight))
        return state, state


@pytree_dataclass
class Distance:
    scale: jax.Array

    def check(self, query_dim, key_dim, num_heads, kv_len): ...

    def for_heads(self, start, count):
        return self

    def prepare_query(self, query):
        return query

    def prepare_key(self, key):
        return key

    def score(self, prepared_query, prepared_key, query_positions=None, key_positions=None):
        apart = prepared_query[:, :, None] - prepared_key[:, None]
        return -self.scale[0] * jnp.moveaxis((apart**2).sum(-1), 3, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NegativeDistance(RuleConfig):
    kind: Literal["negative_distance"] = "negative_distance"
    needs_equal_widths = True

    def initialize(self, next_key, query_dim, key_dim):
        return Distance(jnp.full((1,), 0.1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TinyLM:
    kind: Literal["tiny_lm"] = "tiny_lm"
    width: int = 8

    def build(self, sizes, *, rngs):
        inner = RecurrentLMConfig(cell="leaky", embedding_dim=self.width, hidden_dim=self.width, num_layers=1)
        return inner.build(sizes, rngs=rngs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chorus(LanguageModelling):
    kind: Literal["chorus"] = "chorus"
    metrics: ClassVar[Any] = {"nats": "min"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reversed:
    kind: Literal["reversed"] = "reversed"
    words: tuple[str, ...]

    def load(self):
        pairs = [Pair(word, word[::-1]) for word in self.words]
        return PairSplits(train=pairs * 5, development=[], test=[])


@dataclasses.dataclass(frozen=True, kw_only=True)
class HalfLoss(PairCrossEntropy):
    kind: Literal["half_loss"] = "half_loss"

    def __call__(self, model, batch, rng_key):
        loss, metrics, state = super().__call__(model, batch, rng_key)
        return dataclasses.replace(loss, sum=0.5 * loss.sum), metrics, state

    def at(self, update):
        return self
"""

LANGUAGE = """
import dataclasses
from tiny_rungs import Chorus, TinyLM
from transformer_jax.data.text_config import RandomWindows, TextConfig, TextFiles
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.training.config import Adam, Constant, TrainConfig

TRAIN = TrainConfig(updates=2, optimizer=Adam(), schedule=Constant(peak_learning_rate=0.01), metric="nats")

def config():
    data = TextConfig(dataset=TextFiles(train=("song.txt",)), windows=RandomWindows(context_len=8), batch_size=2)
    return ExperimentConfig(name="song", task=Chorus(data=data), model=TinyLM(), train=TRAIN)
"""

PAIRS = """
from transformer_jax.data.pairs_config import PairsConfig, SyntheticDataset, Words
from transformer_jax.models.recurrent_config import Luong, RecurrentSeq2SeqConfig
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.translation import Translation
from transformer_jax.training.config import Adam, Constant, TrainConfig

def config():
    dataset = SyntheticDataset(num_train=20, num_development=0, num_test=0)
    data = PairsConfig(dataset=dataset, source_tokenizer=Words(), target_tokenizer=Words(), batch_size=4)
    model = RecurrentSeq2SeqConfig(
        embedding_dim=4, hidden_dim=6, cell="leaky", num_encoder_layers=1, num_decoder_layers=1, bidirectional=False,
        attention=Luong(score="negative_distance", input_feeding=True), dropout_rate=0.0, residual=False)
    train = TrainConfig(updates=2, optimizer=Adam(), schedule=Constant(peak_learning_rate=0.01), metric="bleu",
                        metric_mode="max")
    return ExperimentConfig(name="pairs", task=Translation(data=data), model=model, train=train)
"""


def _install(folder: Path, name: str, source: str, points: str = "") -> None:
    """Build and install a package of one module by pip, from its folder, into ``folder / "site"``."""
    module = name.replace("-", "_")
    project = folder / name
    project.mkdir()
    (project / f"{module}.py").write_text(source)
    (project / "pyproject.toml").write_text(PROJECT.format(name=name, module=module) + points)
    quiet = ["--quiet", "--disable-pip-version-check", "--no-cache-dir", "--root-user-action=ignore"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *quiet, *offline, "--target", folder / "site", project],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both packages, one of them broken, and the files of two experiments."""
    folder = tmp_path_factory.mktemp("installed")
    _install(folder, "tiny-rungs", PACKAGE, POINTS)
    _install(folder, "broken-rung", "raise ImportError('libfoo.so: cannot\\nopen')")
    (folder / "song.txt").write_text("la la la di da\n" * 40)
    (folder / "language.py").write_text(LANGUAGE)
    (folder / "pairs.py").write_text(PAIRS)
    return folder


def _run(folder: Path, *words: str, with_packages: bool = True) -> subprocess.CompletedProcess[str]:
    path = [str(folder / "site")] * with_packages + [str(ROOT)]
    return subprocess.run(
        [sys.executable, "-m", "transformer_jax.cli.main", *words], cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def _told(ran: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in ran.stderr.splitlines() if "broken-rung" in line]


@pytest.fixture(scope="module")
def trained(folder: Path) -> subprocess.CompletedProcess[str]:
    return _run(folder, "train", "language.py", "--run-dir", "song")


def test_a_model_a_task_and_a_cell_of_a_package_train(
    folder: Path, trained: subprocess.CompletedProcess[str]
) -> None:
    assert trained.returncode == 0, trained.stderr
    config = json.loads((folder / "song" / "config.json").read_text())
    assert (config["task"]["kind"], config["model"]["kind"]) == ("chorus", "tiny_lm")


def test_a_package_that_cannot_be_imported_costs_one_line(trained: subprocess.CompletedProcess[str]) -> None:
    (line,) = _told(trained)
    assert line.startswith(
        "note: package broken-rung: plug-in 'one' of 'transformer_jax.models' (broken_rung:TinyLM)"
    )
    assert "is left out: ImportError: libfoo.so: cannot open; update or uninstall the package" in line


def test_another_process_answers_by_the_run_alone(
    folder: Path, trained: subprocess.CompletedProcess[str]
) -> None:
    ran = _run(folder, "generate", "song", "--prompt", "la", "--max-tokens", "5")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()


def test_without_the_package_the_run_is_refused_in_one_line(
    folder: Path, trained: subprocess.CompletedProcess[str]
) -> None:
    ran = _run(folder, "generate", "song", "--prompt", "la", with_packages=False)
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    assert 'task: unknown kind "chorus"; known: ' in line
    assert line.endswith("import the module that registers it, if it is yours")


def test_a_data_set_and_an_objective_of_a_package_are_named_by_settings(folder: Path) -> None:
    settings = ['data.dataset={"kind": "reversed", "words": ["ab", "ba"]}', "objective.kind=half_loss"]
    ran = _run(folder, "train", "pairs.py", "--run-dir", "reversed", "--set", *settings, "train.log_every=1")
    assert ran.returncode == 0, ran.stderr
    shown = json.loads((folder / "reversed" / "config.json").read_text())["task"]
    assert (shown["data"]["dataset"]["words"], shown["objective"]["kind"]) == (["ab", "ba"], "half_loss")
    rows = [json.loads(row) for row in (folder / "reversed" / "metrics.jsonl").read_text().splitlines()]
    # Half of about log(6): two words and the special tokens are almost equally probable before the first update.
    assert next(row["loss"] for row in rows if "loss" in row) == pytest.approx(0.5 * math.log(6), rel=0.2)


def test_a_score_rule_of_a_package_is_named_in_a_config(folder: Path) -> None:
    ran = _run(folder, "train", "pairs.py", "--run-dir", "pairs")
    assert ran.returncode == 0, ran.stderr
    shown = json.loads((folder / "pairs" / "config.json").read_text())["model"]
    assert (shown["cell"], shown["attention"]["score"]) == ("leaky", "negative_distance")
    refused = _run(
        folder, "train", "pairs.py", "--run-dir", "other", "--set", "model.attention.score=negative"
    )
    assert refused.returncode == 2
    assert "'negative_distance'" in refused.stderr.splitlines()[-1]
