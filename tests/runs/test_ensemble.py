"""Several runs that translate together."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import transformer_jax as tj
from transformer_jax.errors import ConfigError
from transformer_jax.models.ensemble import Ensemble
from transformer_jax.runs.model_folder import pretrained_folder

WORDS = ["cat", "tact", "", "suit"]


@pytest.fixture(scope="module")
def other_run(tiny_experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other") / "run"
    tj.train(tiny_experiment, folder, overrides=["train.seed=7"], quiet=True)
    return folder


def test_a_model_with_itself_is_itself(tiny_run: Path) -> None:
    alone, twice = tj.load(tiny_run), tj.load([tiny_run, tiny_run])
    search = tj.BeamSearch(num_beams=3, num_best=2)
    for one, both in zip(
        alone.translate(WORDS, search=search), twice.translate(WORDS, search=search), strict=True
    ):
        assert one.text == both.text
        assert one.score == pytest.approx(both.score, abs=1e-5)


def test_probabilities_are_averaged_at_each_step(tiny_run: Path, other_run: Path) -> None:
    runs, both = [tj.load(tiny_run), tj.load(other_run)], tj.load([tiny_run, other_run])
    source, target = ["tack"], ["T AE K"]
    predictor = runs[0].predictor
    ((tokens, wanted),) = predictor.taken_pairs(
        source, target, too_long="whole", where=("sources", "targets")
    )
    fed = jnp.array([[2, *wanted]])
    probabilities = [
        jax.nn.softmax(run.model(jnp.array([tokens]), jnp.array([len(tokens)]), fed))[0] for run in runs
    ]
    mean = np.asarray(sum(probabilities) / 2)
    log_prob = sum(np.log(mean[place, token]) for place, token in enumerate([*wanted, 3]))
    assert both.score(source, target)[0].log_prob == pytest.approx(float(log_prob), abs=1e-4)
    (found,) = both.translate(source, search=tj.GreedySearch())
    again = both.score(source, [found.text])[0].log_prob
    assert found.score == pytest.approx(again, abs=1e-4) or not found.finished


def test_commands_take_several_runs(
    tiny_run: Path, other_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    lines = tmp_path / "in.txt"
    lines.write_text("".join(f"{word}\n" for word in WORDS))
    ran = run_command("translate", tiny_run, "--ensemble", other_run, "--input", lines, "--beam", 2)
    wanted = tj.load([tiny_run, other_run]).translate(WORDS, search=tj.BeamSearch(num_beams=2))
    assert ran.out.splitlines() == [one.text for one in wanted]
    ran = run_command("evaluate", tiny_run, "--ensemble", other_run, "--split", "development", "--json")
    assert json.loads(ran.out)["ensemble"] == [str(tiny_run), str(other_run)]
    refused = run_command(
        "translate", tiny_run, "--ensemble", other_run, "--input", lines, "--attention", tmp_path / "maps.npz"
    )
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "has no attention to look at: leave --attention out" in refused.err


def test_runs_that_do_not_go_together_are_refused() -> None:
    words = pretrained_folder("g2p-en")
    for other, said in (
        ("tatoeba-zh-en", "is for translation"),
        ("shakespeare-chars", "does not translate"),
    ):
        with pytest.raises(ConfigError, match=said):
            tj.load([words, pretrained_folder(other)])
    with pytest.raises(ConfigError, match="at least one run"):
        tj.load([])
    with pytest.raises(ConfigError, match="at least one model"):
        Ensemble([])


def test_runs_with_other_tokenizers_are_refused(
    tiny_run: Path, tiny_experiment: Path, tmp_path: Path
) -> None:
    data = [("xyz", "X Y Z"), ("zy", "Z Y")] * 4
    tj.train(tiny_experiment, tmp_path / "run", data={"train": data, "development": data[:2]}, quiet=True)
    with pytest.raises(
        ConfigError, match=r"has another source tokenizer than .*: an ensemble needs one vocabulary"
    ):
        tj.load([tiny_run, tmp_path / "run"])
