"""The package's own functions: load, load_pretrained and train from Python."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

import transformer_jax as tj
from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.notes import listening
from transformer_jax.runs.averaging import average_run
from transformer_jax.runs.building import require_fitting, shapes_from
from transformer_jax.runs.experiment import saved_config


def test_run_is_loaded_with_what_its_task_predicts(tiny_run: Path) -> None:
    run = tj.load(str(tiny_run))
    assert isinstance(run, tj.LoadedRun)
    assert run.folder == tiny_run
    assert {"translate", "score", "align", "evaluate"} <= set(dir(run))
    assert run.translate(["cat"])[0].text == run.predictor.translate(["cat"])[0].text
    with pytest.raises(
        AttributeError, match="task 'pronunciation' has no 'generate'; it has translate, score"
    ):
        run.generate("cat")
    with pytest.raises(tj.ConfigError, match="no `stride`"):
        run.evaluate(split="development", stride=3)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda folder: tj.load(""), tj.RunError, "name is empty"),
        (lambda folder: tj.load(folder / "none"), tj.RunError, "no such run folder"),
        (lambda folder: tj.load(folder), tj.RunError, "'config.json' is missing"),
        (lambda folder: tj.load_pretrained("g2p"), tj.ConfigError, "did you mean 'g2p-en'"),
        (lambda folder: tj.train("x.py", folder, resumes=True), tj.ConfigError, "did you mean 'resume'"),
        (lambda folder: tj.train(folder / "x.py", folder), tj.ConfigError, r"x\.py: no such file"),
        (lambda folder: tj.train(folder, folder / "run"), tj.ConfigError, "is a folder"),
    ],
)
def test_what_cannot_be_had_is_said(
    call: Callable[[Path], object], error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said) as caught:
        call(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_training_from_python(
    tiny_experiment: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heard: list[str] = []
    with listening(heard.append):
        run = tj.train(tiny_experiment, tmp_path / "run", overrides=["train.updates=2"], quiet=True)
    assert run.config.train.updates == 2
    assert run.translate(["cat", "tack"])
    assert heard == []
    assert capfd.readouterr() == ("", "")
    with pytest.raises(tj.RunError, match="continue it with `resume=True`, replace it with `overwrite=True`"):
        tj.train(run.config, tmp_path / "run")
    config = dataclasses.replace(run.config, train=dataclasses.replace(run.config.train, updates=4))
    resumed = tj.train(config, tmp_path / "run", resume=True, quiet=True)
    assert saved_config(tmp_path / "run").train.updates == 4
    assert resumed.evaluate(source=_lines(tmp_path, "cat"), reference=_lines(tmp_path, "C A T"))["lines"] == 1


def _lines(folder: Path, text: str) -> Path:
    path = folder / f"{len(text)}.txt"
    path.write_text(f"{text}\n")
    return path


def test_model_of_other_sizes_does_not_fit_a_run(tiny_run: Path) -> None:
    run = tj.load(tiny_run)
    require_fitting(run.config, run.artifacts, tiny_run)
    assert isinstance(run.config.model, EncoderDecoderConfig)
    wider = dataclasses.replace(run.config, model=dataclasses.replace(run.config.model, feed_forward_dim=16))
    with pytest.raises(tj.RunError, match=r"\(8, 16\)|\(16, 8\)|16"):
        require_fitting(wider, run.artifacts, tiny_run)
    deeper = dataclasses.replace(
        run.config, model=dataclasses.replace(run.config.model, num_encoder_layers=900)
    )
    with pytest.raises(tj.RunError, match=str(tiny_run)):
        shapes_from(deeper, run.artifacts, num_arrays=40, where=tiny_run)


def test_mean_of_checkpoints_that_are_not_there(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(tj.ConfigError, match="`last` must be at least 1"):
        average_run(tiny_run, tmp_path / "mean", num_last=0)
    kept = saved_config(tiny_run).train.keep_last
    with pytest.raises(tj.ConfigError, match=f"keeps {kept} of its last checkpoints"):
        average_run(tiny_run, tmp_path / "mean", num_last=kept + 1)
    assert not (tmp_path / "mean").exists()
    with pytest.raises(tj.RunError, match="already holds a run"):
        average_run(tiny_run, tiny_run, num_last=1)
