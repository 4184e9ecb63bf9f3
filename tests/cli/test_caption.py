"""caption, and evaluate of a captioner: a line out for each drawing, bad files named, and refusals of one line."""

import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import transformer_jax as tj
from transformer_jax.data.captions_config import CaptionsConfig, InkFiles
from transformer_jax.data.images import ImageFeatures
from transformer_jax.data.ink import StrokeFeatures
from transformer_jax.data.sources.inkml import read_inkml
from transformer_jax.decode.searcher import GreedyConfig
from transformer_jax.errors import ConfigError, DataError
from transformer_jax.models import (
    Bahdanau,
    ConvolutionalImageEncoder,
    FeatureToTextConfig,
    RecurrentFeatureEncoder,
    RecurrentTextDecoder,
)
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.caption_evaluation import caption_scores
from transformer_jax.tasks.captioning import Captioning
from transformer_jax.training.config import Adam, Constant, TrainConfig

STROKES = {"-": "0 0, 9 0", "1": "0 0, 0 9", "+": "0 5, 9 5</trace><trace>5 0, 5 9"}


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawings")
    for name, strokes in STROKES.items():
        text = f'<ink><annotation type="truth">{name}</annotation><trace>{strokes}</trace></ink>'
        (folder / f"{'abc'['-1+'.index(name)]}.inkml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def run_dir(drawings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = ExperimentConfig(
        name="signs",
        task=Captioning(
            data=CaptionsConfig(
                dataset=InkFiles(train=str(drawings), development=str(drawings)),
                features=StrokeFeatures(spacing=0.5),
                max_frames=12,
                max_target_len=3,
                batch_size=3,
                num_buckets=1,
            ),
            search=GreedyConfig(max_len=3),
        ),
        model=FeatureToTextConfig(
            encoder=RecurrentFeatureEncoder(cell="gru", hidden_dim=6, num_layers=1, time_reduction=(2,)),
            decoder=RecurrentTextDecoder(
                embedding_dim=6, hidden_dim=8, attention=Bahdanau(attention_dim=6, coverage_width=3)
            ),
        ),
        train=TrainConfig(
            updates=60,
            optimizer=Adam(),
            schedule=Constant(peak_learning_rate=0.03),
            log_every=60,
            evaluate_every=60,
            checkpoint_every=60,
            metric="exact",
            metric_mode="max",
        ),
    )
    tj.train(config, tmp_path_factory.mktemp("caption_run") / "run")
    return tmp_path_factory.getbasetemp() / "caption_run0" / "run"


def test_a_line_for_each_drawing_and_pictures(
    run_dir: Path, drawings: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    ran = run_command("caption", run_dir, drawings, "--figures", tmp_path / "pictures")
    assert (ran.status, ran.out) == (0, "-\n1\n+\n"), ran.err
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["a.png", "b.png", "c.png"]
    assert all(path.stat().st_size > 5_000 for path in (tmp_path / "pictures").iterdir())
    rows = run_command("caption", run_dir, drawings / "c.inkml", drawings / "a.inkml", "--json").out
    found = [json.loads(row) for row in rows.splitlines()]
    assert [(Path(one["file"]).name, one["text"], one["finished"]) for one in found] == [
        ("c.inkml", "+", True),
        ("a.inkml", "-", True),
    ]


def test_bad_files_are_named_and_the_rest_goes_on(
    run_dir: Path,
    drawings: Path,
    tmp_path: Path,
    run_command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad, crowded, long = (tmp_path / name for name in ("bad.inkml", "crowded.inkml", "long.inkml"))
    bad.write_text("<ink><trace>1 x</trace></ink>")
    crowded.write_text(f"<ink>{'<trace>0 0, 1 1</trace>' * 13}</ink>")
    long.write_text(f"<ink><trace>{', '.join(f'{n} {n % 2 * 50}' for n in range(100))}</trace></ink>")
    files = [drawings / "a.inkml", bad, tmp_path / "missing.inkml", crowded, long, drawings / "b.inkml"]
    output = tmp_path / "out.txt"
    ran = run_command("caption", run_dir, *files, "--output", output)
    assert (ran.status, ran.out) == (2, "")
    lines = output.read_text().split("\n")
    assert [lines[place] for place in (0, 1, 2, 3, 5, 6)] == ["-", "", "", "", "1", ""]
    for said in (
        f"{bad}: wanted points as numbers",
        "missing.inkml: cannot read the drawing: No such file",
        f"{crowded}: the drawing has 13 strokes, at most 12 frames",
        f"{long}: 100 points of 1 strokes are read at a wider spacing",
        "3 of 6 drawings could not be read; their lines are empty",
    ):
        assert said in ran.err, ran.err
    names = "\n".join(str(path) for path in files[:2])
    piped = tmp_path / "names.txt"
    piped.write_text(names + "\n")
    with piped.open("rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        assert run_command("caption", run_dir).out == "-\n\n"
    (tmp_path / "nothing").mkdir()
    refused = run_command("caption", run_dir, tmp_path / "nothing")
    assert refused.status == 2
    assert "no file with suffix .inkml" in refused.err


def test_calls_from_python(run_dir: Path, drawings: Path) -> None:
    run = tj.load(run_dir)
    ink = read_inkml(drawings / "c.inkml").ink
    first, second, third = run.caption([str(drawings / "a.inkml"), ink, [[[0, 0], [0, 9]]]])
    assert (first.text, second.text, third.text, third.tokens) == ("-", "+", "1", ("1",))
    assert run.caption([ink])[0] == second, "a drawing's text depends on the drawings beside it"
    assert run.caption([]) == []
    beam = run.caption([ink], search=tj.BeamSearch(num_beams=2, num_best=2))[0]
    assert beam.text == "+"
    assert beam.alternatives[0].score <= beam.score
    seen = run.attend([ink])[0]
    assert seen.tokens == ("+", "<end>")
    assert seen.weights.shape == (2, len(seen.frames.features))
    assert seen.weights.sum(axis=1) == pytest.approx([1.0, 1.0], abs=1e-5)
    with pytest.raises(DataError, match="there are 1 drawings and 2 captions: give as many"):
        run.attend([ink], captions=[first, second])
    with pytest.raises(TypeError, match="items must be a list"):
        run.caption("a.inkml")
    with pytest.raises(TypeError, match="a drawing is an Ink"):
        run.caption([3])
    with pytest.raises(DataError, match="drawing 2: stroke 1 must be points"):
        run.caption([ink, [[]]])
    with pytest.raises(AttributeError, match="it has caption, attend, evaluate"):
        run.translate(["a"])


def test_drawings_without_a_caption_are_remarked(run_dir: Path, drawings: Path) -> None:
    run = tj.load(run_dir)
    run.predictor.search = GreedyConfig(
        max_len=3, forbidden_ids=tuple(range(run.predictor.tokenizer.vocab_size))
    )
    (found,) = run.caption([drawings / "a.inkml"])
    assert (found.text, found.score, found.finished) == ("", -math.inf, False)
    (remark,) = run.predictor.report.take_remarks()
    assert remark.startswith(f"{drawings / 'a.inkml'}: no text keeps the rules of the search")


def test_evaluation(run_dir: Path, drawings: Path, run_command: Callable[..., Any]) -> None:
    ran = run_command("evaluate", run_dir, "--source", drawings, "--json")
    assert ran.status == 0, ran.err
    found = json.loads(ran.out)
    assert (found["exact"], found["token_error_rate"], found["lines"]) == (100.0, 0.0, 3)
    beside = tj.load(run_dir).evaluate(split="development", against=run_dir)
    assert beside["against"]["exact"] == 100.0
    assert "exact 100.00 %" in run_command("evaluate", run_dir, "--split", "development").out
    assert "have no test set" in run_command("evaluate", run_dir, "--split", "test").err
    assert "use transformer-jax caption" in run_command("translate", run_dir).err
    for command in ("caption", "transcribe"):
        assert (
            f"name RUN_DIR, the folder of a run: transformer-jax {command} RUN_DIR"
            in run_command(command).err
        )
    message = run_command("caption", drawings / "a.inkml").err
    assert "a.inkml is a file: name the folder of a run, or of an exported model, first" in message


def test_scores_by_hand() -> None:
    found = caption_scores(["a b", "", "c d e"], ["a b", "x", "c e"])
    assert found == {"exact": pytest.approx(100 / 3), "token_error_rate": pytest.approx(40.0)}
    with pytest.raises(DataError, match="no caption"):
        caption_scores([], [])


def test_models_that_cannot_write_are_refused() -> None:
    encoder = RecurrentFeatureEncoder(cell="gru", hidden_dim=4, num_layers=1, time_reduction=())
    task = Captioning(data=CaptionsConfig(dataset=InkFiles(train="x")))
    with pytest.raises(ConfigError, match="written by a decoder"):
        task.check(FeatureToTextConfig(encoder=encoder, decoder=None, ctc=True))


def test_features_need_an_encoder_that_reads_them() -> None:
    frames = RecurrentFeatureEncoder(cell="gru", hidden_dim=4, num_layers=1, time_reduction=())
    decoder = RecurrentTextDecoder(embedding_dim=4, hidden_dim=6, attention=Bahdanau(attention_dim=5))
    tasks = {
        "strokes": Captioning(data=CaptionsConfig(dataset=InkFiles(train="x"))),
        "image": Captioning(data=CaptionsConfig(dataset=InkFiles(train="x"), features=ImageFeatures())),
    }
    models = {
        "strokes": FeatureToTextConfig(encoder=frames, decoder=decoder),
        "image": FeatureToTextConfig(encoder=ConvolutionalImageEncoder(), decoder=decoder),
    }
    for kind, model in models.items():
        tasks[kind].check(model)
    with pytest.raises(
        ConfigError, match=r"'image' need .* reads images: 'convolutional' or 'patches'; got 'recurrent'"
    ):
        tasks["image"].check(models["strokes"])
    with pytest.raises(ConfigError, match=r"'strokes' need .* frames of features: .*; got 'convolutional'"):
        tasks["strokes"].check(models["image"])
