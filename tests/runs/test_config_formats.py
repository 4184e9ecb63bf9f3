"""Configs that earlier versions saved are read as they were meant."""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from transformer_jax.config_json import to_json
from transformer_jax.data.pairs_config import GivenBuckets, PairsConfig, ParallelFiles
from transformer_jax.data.tokenizer_config import Characters
from transformer_jax.decode.constraints import Constraints
from transformer_jax.decode.searcher import GreedyConfig
from transformer_jax.errors import ConfigError
from transformer_jax.models.recurrent_config import Luong, RecurrentSeq2SeqConfig
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.runs.config_formats import FORMAT, config_text
from transformer_jax.runs.experiment import ExperimentConfig, start_config
from transformer_jax.tasks.pronunciation import Pronunciation
from transformer_jax.tasks.translation import Translation
from transformer_jax.training.config import Adam, Constant, TrainConfig

GOLDEN = Path(__file__).parent / "golden"
NAMES = ("every-option", "g2p-en", "multi30k-en-de", "r-drop", "tatoeba-zh-en")

MOVED = ("label_smoothing", "scheduled_sampling_rate", "scheduled_sampling_updates", "r_drop_weight")


def golden(name: str) -> Path:
    """A config as a version of format 1 saved or read it."""
    return GOLDEN / f"format-1-{name}.json"


def leaves(document: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value of a document with its path."""
    if isinstance(document, dict):
        for name, value in document.items():
            yield from leaves(value, (*path, name))
    else:
        yield path, document


def place_now(path: tuple[str, ...]) -> tuple[str, ...]:
    """Where a value of format 1 stands in format 2."""
    if path == ("task",):
        return ("task", "kind")
    if path[0] in ("data", "search"):
        return ("task", *path)
    if path[0] == "train" and path[1] in MOVED:
        return ("task", "objective", path[1])
    return path


def value_at(document: Any, path: tuple[str, ...]) -> Any:
    """The value at a path."""
    for name in path:
        document = document[name]
    return document


def changed(path: Path, tmp_path: Path, **values: Any) -> str:
    """A copy of a config with other values: of a section's keys where a value is a mapping."""
    document = json.loads(path.read_text())
    for name, value in values.items():
        document[name] = document.get(name, {}) | value if isinstance(value, dict) else value
    copy = tmp_path / "config.json"
    copy.write_text(json.dumps(document))
    return str(copy)


@pytest.mark.parametrize("name", NAMES)
def test_every_value_of_format_1_is_found_in_its_place(name: str) -> None:
    before = json.loads(golden(name).read_text())
    assert "format" not in before
    now = json.loads(to_json(start_config(str(golden(name)))))
    for path, value in leaves(before):
        assert value_at(now, place_now(path)) == value, path
    assert not set(MOVED) & set(now["train"])


def test_config_that_names_every_moved_option_means_this_one() -> None:
    assert start_config(str(golden("every-option"))) == ExperimentConfig(
        name="every_option",
        task=Translation(
            data=PairsConfig(
                dataset=ParallelFiles(train_source="a.en", train_target="a.de"),
                target_tokenizer=Characters(),
                share_vocabulary=True,
                batch_size=7,
                buckets=GivenBuckets(shapes=((4, 5), (8, 9))),
                max_source_len=8,
                max_target_len=9,
                too_long="truncate",
                seed=3,
                max_train_pairs=100,
            ),
            objective=PairCrossEntropy(
                label_smoothing=0.15, scheduled_sampling_rate=0.25, scheduled_sampling_updates=20
            ),
            search=GreedyConfig(max_len=9, constraints=Constraints(min_len=1)),
        ),
        model=RecurrentSeq2SeqConfig(
            embedding_dim=12,
            hidden_dim=16,
            cell="lstm",
            num_encoder_layers=2,
            num_decoder_layers=2,
            bidirectional=False,
            attention=Luong(score="general", input_feeding=True),
            dropout_rate=0.2,
            residual=True,
        ),
        train=TrainConfig(
            updates=30,
            optimizer=Adam(beta2=0.99),
            schedule=Constant(peak_learning_rate=0.02),
            log_every=10,
            evaluate_every=15,
            checkpoint_every=15,
            metric="chrf",
            metric_mode="max",
        ),
    )


def test_r_drop_moves_to_the_objective() -> None:
    task = start_config(str(golden("r-drop"))).task
    assert task.objective == PairCrossEntropy(label_smoothing=0.15, r_drop_weight=2.5)


def test_words_become_tasks() -> None:
    assert isinstance(start_config(str(golden("g2p-en"))).task, Pronunciation)
    assert isinstance(start_config(str(golden("multi30k-en-de"))).task, Translation)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_now_is_read_as_the_same(name: str, tmp_path: Path) -> None:
    config = start_config(str(golden(name)))
    path = tmp_path / "config.json"
    path.write_text(config_text(config))
    assert json.loads(path.read_text())["format"] == FORMAT == 2
    assert start_config(str(path)) == config


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"colour": 3}, "colour"),
        ({"train": {"colour": 3}}, "train.colour"),
        ({"data": {"colour": 3}}, "data.colour"),
        ({"search": {"colour": 3}}, "search.colour"),
        ({"model": {"colour": 3}}, "model.colour"),
        ({"train": {"label_smoothin": 0.1}}, "train.label_smoothin"),
    ],
)
def test_unknown_key_of_format_1_is_refused_by_its_name(
    values: dict[str, Any], named: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=re.escape(named)) as caught:
        start_config(changed(golden("every-option"), tmp_path, **values))
    assert len(str(caught.value).splitlines()) == 1


def test_option_in_both_places_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    document = json.loads(config_text(start_config(str(golden("every-option")))))
    document["train"]["label_smoothing"] = 0.1
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=r"train\.label_smoothing"):
        start_config(str(path))


@pytest.mark.parametrize("number", [0, 3, True, "1", None, 1.5, [2], -1, 10**30])
def test_other_formats_are_refused_in_one_line(number: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"of format .*reads formats 1 to 2") as caught:
        start_config(changed(golden("every-option"), tmp_path, format=number))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("task", ["poetry", 3, None, ["translation"], {"kind": "poetry"}, {}])
def test_unknown_task_is_refused(task: Any, tmp_path: Path) -> None:
    document = json.loads(golden("every-option").read_text())
    document["task"] = task
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="task") as caught:
        start_config(str(path))
    assert len(str(caught.value).splitlines()) == 1


def test_number_of_format_1_may_be_written_out(tmp_path: Path) -> None:
    path = changed(golden("g2p-en"), tmp_path, format=1)
    assert start_config(path) == dataclasses.replace(start_config(str(golden("g2p-en"))))


@pytest.mark.parametrize("name", MOVED)
def test_an_override_of_the_first_format_names_its_new_path(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^train\.{name} is objective\.{name} since format 2"):
        start_config(str(golden("g2p-en")), [f"train.{name}=0.1"])
