"""compare: equal rungs, the report's schema, and finished rungs that are kept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest
from flax import nnx

from transformer_jax.config_json import from_json, to_json
from transformer_jax.errors import ConfigError
from transformer_jax.ladder import comparison as comparing
from transformer_jax.ladder.rungs import (
    PRESETS,
    RUNGS,
    check_rungs,
    learning_rate_table,
    learning_rates,
    rung_config,
)
from transformer_jax.models.build import build_model
from transformer_jax.models.recurrent_config import Bahdanau, LastState, Luong, RecurrentSeq2SeqConfig
from transformer_jax.models.sizes import Sizes
from transformer_jax.nn.parameters import parameter_count
from transformer_jax.runs.experiment import start_config

EXPERIMENTS = Path(__file__).parents[2] / "experiments"

# Of the embedded dictionary: letters, apostrophe and special ids; phonemes and special ids.
SOURCE_VOCAB_SIZE, TARGET_VOCAB_SIZE = 31, 43


@pytest.mark.parametrize("preset", PRESETS)
def test_parameter_counts_lie_within_ten_percent(preset: Any) -> None:
    counts = {}
    for name in RUNGS:
        config = rung_config(preset, name, seed=0).model
        sizes = Sizes.of_pairs(SOURCE_VOCAB_SIZE, TARGET_VOCAB_SIZE)
        counts[name] = parameter_count(
            nnx.eval_shape(lambda config=config, sizes=sizes: build_model(config, sizes, seed=0))
        )
    assert max(counts.values()) <= 1.1 * min(counts.values()), counts


@pytest.mark.parametrize("preset", PRESETS)
def test_rungs_differ_in_model_and_learning_rate_only(preset: Any) -> None:
    configs = [json.loads(to_json(rung_config(preset, name, seed=3))) for name in RUNGS]
    for config in configs:
        del config["model"], config["name"], config["train"]["schedule"]["peak_learning_rate"]
    assert all(config == configs[0] for config in configs)
    assert configs[0]["task"]["data"]["batch_size"] == 256


def test_rungs_are_what_their_names_say() -> None:
    models = {name: rung_config("quick", name, seed=0).model for name in RUNGS}
    recurrent = {name: model for name, model in models.items() if isinstance(model, RecurrentSeq2SeqConfig)}
    assert [recurrent[name].cell for name in recurrent] == ["rnn", "lstm", "gru", "gru", "lstm"]
    assert all(isinstance(recurrent[name].attention, LastState) for name in ("rnn", "lstm", "gru"))
    assert isinstance(recurrent["gru+bahdanau"].attention, Bahdanau)
    assert recurrent["gru+bahdanau"].bidirectional
    luong = recurrent["lstm+luong"].attention
    assert isinstance(luong, Luong)
    assert (luong.score, luong.input_feeding) == ("general", True)


@pytest.mark.parametrize("preset", PRESETS)
def test_learning_rates_come_from_a_complete_grid(preset: Any) -> None:
    entry = learning_rate_table()[preset]
    assert learning_rates(preset).keys() == set(RUNGS)
    trials = {(one["rung"], one["learning_rate"]): one["per"] for one in entry["trials"]}
    assert trials.keys() == {(name, rate) for name in RUNGS for rate in entry["grid"]}
    for name in RUNGS:
        best = min(entry["grid"], key=lambda rate: trials[name, rate])
        assert entry["chosen"][name] == best


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.py")), ids=lambda path: path.stem)
def test_experiment_files_give_configs_that_survive_json(path: Path) -> None:
    config = start_config(str(path))
    assert from_json(type(config), to_json(config)) == config
    assert config.name == path.stem
    assert f"experiments/{path.name}" in path.read_text()


def test_names_of_rungs() -> None:
    assert check_rungs(()) == RUNGS
    assert check_rungs(("transformer", "rnn")) == ("rnn", "transformer")
    with pytest.raises(ConfigError, match="no rung 'transfomer'; did you mean 'transformer'"):
        check_rungs(("transfomer",))
    with pytest.raises(ConfigError, match="'rnn' is given twice"):
        check_rungs(("rnn", "rnn"))


@pytest.fixture
def small(tmp_path: Path) -> tuple[Any, ...]:
    """Words that make two rungs of a comparison small enough for a test."""
    synthetic = {
        "kind": "synthetic",
        "num_train": 60,
        "num_development": 6,
        "num_test": 7,
        "num_symbols": 6,
        "max_len": 5,
    }
    return (
        "compare", "--run-dir", tmp_path / "run", "--set",
        f"data.dataset={json.dumps(synthetic)}", "data.source_tokenizer.kind=words",
        "data.batch_size=8", "data.buckets.max_shapes=1", "data.max_source_len=6", "data.max_target_len=7",
        "train.updates=4", "train.schedule.warmup_updates=1", "train.evaluate_every=2", "train.log_every=2",
        "train.checkpoint_every=2", "search.max_len=7",
    )  # fmt: skip


@pytest.fixture
def tiny_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rungs of the same kinds with very few parameters."""
    import dataclasses

    from transformer_jax.ladder import rungs as compare_presets

    quick = PRESETS["quick"]
    sizes = {
        "hidden_dims": dict.fromkeys(quick.hidden_dims, 4),
        "embedding_dim": 4,
        "transformer_dims": (8, 8, 1),
    }
    monkeypatch.setitem(compare_presets.PRESETS, "quick", dataclasses.replace(quick, **sizes))


@pytest.mark.smoke
def test_report_table_and_resume(
    small: tuple[Any, ...],
    tiny_models: None,
    tmp_path: Path,
    run_command: Callable[..., Any],
    fails: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("gru+bahdanau", "transformer")
    score_rung = comparing.score_rung

    def interrupted(result: Any, *args: Any) -> Any:
        if result.config.name == "transformer":
            raise KeyboardInterrupt
        return score_rung(result, *args)

    monkeypatch.setattr(comparing, "score_rung", interrupted)
    ran = run_command(*small, "--models", *names)
    assert ran.status == 130
    assert ran.err.splitlines()[-1].startswith("interrupted: finished rungs are kept; go on with --resume")
    assert not (tmp_path / "run" / "report.json").exists()
    finished = tmp_path / "run" / "rungs" / "gru+bahdanau" / "comparison_row.json"
    first_row = finished.read_bytes()

    assert "already holds a run" in fails(*small, "--models", *names)
    assert "holds a comparison with seed 0, not 1" in fails(*small, "--seed", 1, "--resume")

    monkeypatch.setattr(comparing, "score_rung", score_rung)
    ran = run_command(*small, "--resume")  # the rungs are those that it was started with
    assert ran.status == 0, ran.err
    assert "gru+bahdanau: finished before, kept" in ran.err
    assert finished.read_bytes() == first_row
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [row["name"] for row in report["models"]] == list(names)
    for row in report["models"]:
        assert row["updates"] == 4
        assert row["words_per_second"] > 0
        assert row["tokens_per_second"] > 0
        assert row["train_seconds"] > 0
        assert row["compile_seconds"] > 0
        assert 0 <= row["wer"] <= 100
        assert [point["update"] for point in row["curve"]] == [2, 4]
        assert all(point["per"] >= 0 and point["seconds"] > 0 for point in row["curve"])
        assert row["name"] in ran.out
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<svg") == 6  # two models, three words
    assert (tmp_path / "run" / "alignment_3.png").is_file()

    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert "forbidden_ids" in fails(*small, "search.forbidden_ids=[99]", "--overwrite")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    (tmp_path / "run" / "comparison.json").unlink()  # as an interrupted --overwrite leaves it
    assert "already holds a run" in fails(*small)
    assert "use --overwrite" in fails(*small, "--resume")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--models", "transfomer"], "no rung 'transfomer'; did you mean 'transformer'?"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--set", "train.udpates=3"], "unknown key 'train.udpates'; did you mean 'updates'?"),
        (["--resume"], "holds no run to resume"),
        (["--resume", "--overwrite"], "exclude each other"),
        (["--set", 'search={"kind": "sample", "max_len": 8}'], 'unknown kind "sample"'),
    ],
)
def test_bad_words(words: list[str], part: str, tmp_path: Path, fails: Callable[..., str]) -> None:
    assert part in fails("compare", "--run-dir", tmp_path / "run", *words)


def test_without_a_device_no_folder_is_begun(
    tmp_path: Path, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_devices() -> None:
        raise RuntimeError("Unable to initialize backend 'cuda'")

    monkeypatch.setattr(jax, "devices", no_devices)
    assert "JAX has no device here" in fails("compare", "--run-dir", tmp_path / "run")
    assert not (tmp_path / "run").exists()
