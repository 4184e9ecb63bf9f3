"""The race: crossovers, comparison, what is kept when it goes wrong, and the page."""

import copy
import dataclasses
import itertools
import json

import numpy as np
import pytest

from transformer_jax.cli.main import main
from transformer_jax.data.batches import BOS_ID, EOS_ID, Seq2SeqBatch
from transformer_jax.errors import ConfigError, DataError
from transformer_jax.race import speed
from transformer_jax.race.contestants import parse
from transformer_jax.race.crossover import all_crossovers, crossover
from transformer_jax.race.quality import Lesson, as_text, pronunciations, race_for_seconds
from transformer_jax.race.race_page import charts_of, render_race, write_figures
from transformer_jax.race.race_results import settings_for
from transformer_jax.race.run import PRESETS, Race
from transformer_jax.race.side_by_side import compare, read_race, unlike
from transformer_jax.race.speed import (
    Contestant,
    RaceError,
    make_contestants,
    race_over_lengths,
    random_batch,
    whole_windows,
)

TINY = dataclasses.replace(
    PRESETS["quick"], contestants=("gru", "transformer"), learners=("gru", "transformer"), lengths=(4, 8),
    contexts=(4,), batches=(1,), tokens_a_batch=16, width=32, calls=3, train_seconds=0.2,
)  # fmt: skip


BARE = '{"benchmark": "race", "format": 1}'


@pytest.fixture(scope="module")
def document():
    running = Race(TINY, ("speed", "generation"), "quick")
    advanced = []
    running.run(lambda text: None, lambda: advanced.append(1))
    assert len(advanced) == running.steps == 5
    return json.loads(json.dumps(running.document()))


def test_every_case_has_its_times(document):
    speeds = [one for one in document["records"] if one["extra"]["mode"] in ("forward", "training_step")]
    assert len(speeds) == 2 * 2 * 2
    for one in speeds:
        assert one["extra"]["batch"] * one["extra"]["length"] == 16
        assert len(one["extra"]["milliseconds"]) == one["extra"]["calls"] == 3
        assert one["q25_ms"] <= one["median_ms"] <= one["q75_ms"]
        assert one["tokens_per_s"] == pytest.approx(16e3 / one["median_ms"])
    tokens = [one for one in document["records"] if "token" in one["case"]]
    assert {one["extra"]["mode"] for one in tokens} >= {"first_token", "next_token"}
    assert document["missing"] == []


def test_the_page_stands_alone_and_escapes(document, tmp_path):
    changed = copy.deepcopy(document)
    changed["notes"] = ["<script>alert(1)</script>"]
    changed["curves"] = {
        "characters": {"gru": {"seconds": [0.0, 1.0], "updates": [0, 4], "loss": [4.0, 3.0]}}
    }
    figures = write_figures(changed, tmp_path)
    page = render_race(changed, figures)
    assert "<script>alert" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"speed.png", "generation.png", "roofline.png", "quality-characters.png"}
    assert {"Speed of the forward pass", "What a second of training buys: characters"} <= {
        chart["title"] for chart in charts_of(changed)
    }


def test_a_crossing_is_found_with_its_interval():
    generator = np.random.default_rng(0)
    lengths = (32, 64, 128, 256)

    def noisy(milliseconds):
        return (milliseconds * generator.lognormal(0.0, 0.05, 20)).tolist()

    times = {
        "flat": {length: noisy(8.0) for length in lengths},
        "rising": {length: noisy(length / 12.5) for length in lengths},
        "slow": {length: noisy(100.0) for length in lengths},
    }
    found = {(one.first, one.second): one for one in all_crossovers(times)}
    cross = found["flat", "rising"]
    assert cross.faster_at_start == "rising"
    assert cross.low < 100 < cross.high
    assert cross.high / cross.low < 1.5
    assert found["flat", "slow"].length is None
    assert "flat is faster than slow" in str(found["flat", "slow"])


def test_a_crossing_that_the_noise_could_make_has_no_interval():
    generator = np.random.default_rng(1)
    times = {
        length: tuple((generator.lognormal(0.0, 0.3, 20)).tolist() for _ in range(2)) for length in (32, 64)
    }
    cross = crossover("a", "b", times)
    assert cross.share < 0.95
    assert cross.low is None


@pytest.mark.parametrize("kind", ["transformer", pytest.param("lstm", marks=pytest.mark.full)])
def test_the_peak_memory_of_ours_and_of_pytorchs_counts_the_same_things(kind):
    pytest.importorskip("torch")
    names = [kind, f"torch_{kind}"]
    contestants = make_contestants(names, width=32, vocab_size=64, equal_parameters=True, longest=64)
    cases = list(race_over_lengths(contestants, [64], tokens_a_batch=512, calls=1, max_seconds=1))
    peaks = {(one.extra["mode"], one.implementation): one.peak_bytes for case in cases for one in case}
    for one in contestants:
        state = 4 * one.parameters
        assert peaks["forward", one.name] > state
        assert peaks["training_step", one.name] > 4 * state  # parameters, gradients, two moments
    ours, theirs = (peaks["training_step", name] for name in names)
    assert 1 / 4 < ours / theirs < 4


def test_out_of_memory_is_a_row_and_the_race_goes_on(monkeypatch):
    contestants = make_contestants(
        ["gru", "transformer"], width=32, vocab_size=64, equal_parameters=True, longest=8
    )

    def no_memory(self, mode, batch):
        raise MemoryError("needs 12.0 GiB, 1.0 GiB are free")

    monkeypatch.setattr(contestants[0], "prepare", no_memory.__get__(contestants[0]))
    (forward, _) = race_over_lengths(contestants, [8], tokens_a_batch=16, calls=2, max_seconds=5)
    assert forward[0].median_ms is None
    assert "out of memory: needs 12.0 GiB" in forward[0].note
    assert forward[1].median_ms > 0


def test_what_needs_more_memory_than_there_is_does_not_run(monkeypatch):
    monkeypatch.setattr(speed, "available_bytes", lambda: 1000)
    one = Contestant(parse("gru"), width=32, vocab_size=64, equal_parameters=True, longest=8)
    with pytest.raises(MemoryError, match="GiB are free"):
        one.prepare("forward", random_batch(2, 8, 64))


def test_a_model_that_sees_the_future_is_refused(monkeypatch):
    one = Contestant(parse("gru"), width=32, vocab_size=64, equal_parameters=True, longest=8)

    hidden = type(one.model).hidden

    def leaky(self, tokens, **keywords):
        return hidden(self, tokens, **keywords) + self.embedding(tokens).mean(axis=1, keepdims=True)

    monkeypatch.setattr(type(one.model), "hidden", leaky)
    with pytest.raises(RaceError, match="a later token changes an earlier prediction"):
        one.check()


def test_two_races_compare_and_unlike_machines_are_named(document, tmp_path):
    slower = copy.deepcopy(document)
    for one in slower["records"]:
        one["extra"]["milliseconds"] = [3.0 * value for value in one["extra"]["milliseconds"]]
        one["median_ms"] *= 3.0
    changes = compare(document, slower)
    assert len(changes) == len(document["records"])
    assert all(change.ratio == pytest.approx(3.0) for change in changes)
    slower["environment"]["processor"] = "another"
    assert unlike(document, slower) == [f"processor: {document['environment']['processor']} and another"]
    for name, text in (
        ("no.json", "{"),
        ("other.json", '{"benchmark": "attention"}'),
        ("list.json", "[]"),
        ("bare.json", BARE),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=name):
            read_race(tmp_path / name)


def test_the_learners_learn():
    batch = whole_windows(np.tile(np.arange(9, dtype=np.int32) % 5, (4, 1)))
    lesson = Lesson("counting", 5, lambda: itertools.repeat(batch), batch)
    curves = race_for_seconds(
        ["gru", "transformer"], lesson, width=32, equal_parameters=True, seconds=1.0, points=2
    )
    for curve in curves.values():
        assert len(curve["loss"]) == 3
        assert curve["loss"][-1] < 0.7 * curve["loss"][0]
        assert curve["seconds"][-1] >= 1.0


def test_pairs_become_texts_of_which_the_targets_count():
    def ints(*rows: object) -> np.ndarray:
        return np.array(rows, np.int32)

    pairs = Seq2SeqBatch(
        source_tokens=ints([4, 5], [6, 0], [0, 0]), source_lengths=ints(2, 1, 0),
        target_inputs=ints([2, 4, 0], [2, 5, 4], [0, 0, 0]), target_outputs=ints([4, 3, 0], [5, 4, 3], [0, 0, 0]),
        target_lengths=ints(2, 3, 0), example_ids=ints(7, 8, -1),
    )  # fmt: skip
    batch = as_text(pairs, source_vocab_size=10)
    assert batch.inputs.tolist() == [[4, 5, 2, 10, 3], [6, 2, 11, 10, 3], [2, 0, 0, 0, 0]]
    counted = [row[first:last].tolist() for row, first, last in
               zip(batch.targets, batch.first_counted, batch.lengths)]  # fmt: skip
    assert counted == [[10, 3], [11, 10, 3], []]
    assert batch.num_tokens() == 5


def test_the_pronunciations_have_one_shape_and_ids_of_the_vocabulary():
    lesson = pronunciations(batch=8, held_out=16)
    batch = next(lesson.batches())
    assert batch.inputs.shape == (8, lesson.held_out.inputs.shape[1])
    for one in (batch, lesson.held_out):
        assert one.targets.max() < lesson.vocab_size
        last = one.targets[np.arange(len(one.lengths)), one.lengths - 1]
        assert (last == EOS_ID).all()
        assert (one.inputs[np.arange(len(last)), one.first_counted] == BOS_ID).all()
        assert (one.first_counted < one.lengths).all()


def test_ctrl_c_keeps_what_was_measured(monkeypatch, tmp_path, capsys):
    def interrupted(self, progress, advance):
        self.rulers = {"matmul_peak": 1e11, "memory_bandwidth": 1e10}
        raise KeyboardInterrupt

    monkeypatch.setattr(Race, "run", interrupted)
    words = ["race", "--parts", "speed", "--contestants", "gru", "--run-dir", str(tmp_path / "r")]
    assert main(words) == 130
    assert "missing: speed" in capsys.readouterr().err
    assert json.loads((tmp_path / "r/race.json").read_text())["missing"] == ["speed"]
    assert main(words) == 2
    assert "holds a race: --overwrite writes over it, --run-dir names" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"contestants": ("grue",)}, "did you mean 'gru'"),
        ({"contestants": ("gru:paralel",)}, "did you mean 'parallel'"),
        ({"contestants": ("linear_attention:scan",)}, "no other implementation"),
        ({"contestants": ("lstm:cudnn",)}, "NVIDIA GPU"),
        ({"lengths": (0, 4)}, "lengths"),
        ({"width": 40}, "multiple of 32"),
        ({"calls": 0}, "calls"),
        ({"train_seconds": -1.0}, "train_seconds"),
    ],
)
def test_impossible_settings_are_named(changes, words):
    with pytest.raises(ConfigError, match=words):
        settings_for("quick", changes, "parameters")
