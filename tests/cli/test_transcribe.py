"""transcribe, and evaluate of a transcriber: a line for each recording, bad ones named, pictures, refusals."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import nnx
from scipy.io import wavfile

import transformer_jax as tj
from transformer_jax.data.feature_batches import FrameStore
from transformer_jax.data.sound import Sound
from transformer_jax.data.speech_config import SpeechConfig, SpeechFiles
from transformer_jax.data.speech_features import SpeechFeatures
from transformer_jax.decode.searcher import GreedyConfig
from transformer_jax.errors import ConfigError, DataError
from transformer_jax.inference.transcriber import Transcriber
from transformer_jax.models.build import build_model
from transformer_jax.models.feature_encoders import RecurrentFeatureEncoder, TransformerFeatureEncoder
from transformer_jax.models.feature_to_text import FeatureToTextConfig
from transformer_jax.models.image_encoders import ConvolutionalImageEncoder
from transformer_jax.nn.position_encodings import Learned
from transformer_jax.objectives import JointCtc
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.transcription import Transcription
from transformer_jax.training.config import Adam, Constant, TrainConfig

RATE = 2000
LETTERS = "abc"


def tones(text: str, *, rate: int = RATE) -> np.ndarray:
    """A tone of 0.1 s for each letter, 0.05 s of silence before and behind each."""
    time = np.arange(rate // 10)
    silence = np.zeros(rate // 20)
    parts = [silence]
    for letter in text:
        parts += [np.sin(2 * np.pi * (150 + 250 * LETTERS.index(letter)) * time / rate), silence]
    return (np.concatenate(parts) * 20_000).astype(np.int16)


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    texts = ["a", "b", "c", "ab", "ba", "ac", "ca", "bc", "cb", "aa", "cc", "bb"]
    for number, text in enumerate(texts):
        wavfile.write(folder / f"{number:02d}.wav", RATE, tones(text))
    path = folder / "list.tsv"
    path.write_text("".join(f"{number:02d}.wav\t{text}\n" for number, text in enumerate(texts)))
    return path


def config_of(listing: Path) -> ExperimentConfig:
    return ExperimentConfig(
        name="tones",
        task=Transcription(
            data=SpeechConfig(
                dataset=SpeechFiles(train=str(listing), development=str(listing)),
                features=SpeechFeatures(
                    sample_rate=RATE, form="log_mel", num_filters=10, num_deltas=0, lowest_hz=50.0
                ),
                max_frames=48,
                max_target_len=4,
                batch_size=12,
                num_buckets=1,
            ),
            search=GreedyConfig(max_len=5),
        ),
        model=FeatureToTextConfig(
            encoder=RecurrentFeatureEncoder(cell="gru", hidden_dim=12, num_layers=1, time_reduction=(2,)),
            decoder=None,
            ctc=True,
        ),
        train=TrainConfig(
            updates=120,
            optimizer=Adam(),
            schedule=Constant(peak_learning_rate=0.02),
            log_every=120,
            evaluate_every=120,
            checkpoint_every=120,
            metric="cer",
            metric_mode="min",
        ),
    )


@pytest.fixture(scope="module")
def speech_run(listing: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("speech_run") / "run"
    tj.train(config_of(listing), run_dir)
    return run_dir


def test_a_line_for_each_recording(
    speech_run: Path, tmp_path: Path, run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sounds"
    folder.mkdir()
    wavfile.write(folder / "1.wav", RATE, tones("ab"))
    (folder / "2.wav").write_bytes((folder / "1.wav").read_bytes()[:-100])
    both = np.stack([tones("ca", rate=2 * RATE)] * 2, axis=1)
    wavfile.write(folder / "3.wav", 2 * RATE, both)
    wavfile.write(folder / "4.wav", RATE, np.zeros(900, np.int16))
    wavfile.write(folder / "5.wav", RATE, np.zeros(10 * RATE, np.int16))
    wavfile.write(folder / "6.wav", RATE, tones("cb"))
    (folder / "notes.txt").write_text("no sound")
    pictures = tmp_path / "pictures"
    ran = run_command("transcribe", speech_run, folder, "--figures", pictures)
    assert ran.status == 2
    assert ran.out.split("\n") == ["ab", "", "ca", "", "", "cb", ""]
    assert "2.wav: cut off" in ran.err
    assert "3.wav: 4,000 samples a second, resampled to 2,000" in ran.err
    assert "3.wav: 2 channels, mixed to one" in ran.err
    assert "4.wav: nothing is to be heard, so its text is empty" in ran.err
    assert "5.wav: 998 frames, 9.98 seconds; at most 384, 3.84 seconds, are taken: cut it" in ran.err
    assert "2 of 6 recordings could not be read" in ran.err
    assert sorted(path.name for path in pictures.iterdir()) == ["1.png", "3.png", "4.png", "6.png"]
    again = tmp_path / "again"
    again.mkdir()
    wavfile.write(again / "1.wav", RATE, tones("ab"))
    wavfile.write(again / "empty.wav", RATE, np.zeros(0, np.int16))
    with monkeypatch.context() as patch:
        patch.setattr(Transcriber, "align", None)  # the search itself says where tokens begin
        ran = run_command("transcribe", speech_run, folder / "1.wav", again, "--figures", tmp_path / "more")
    assert (ran.status, ran.out) == (0, "ab\nab\n\n")
    assert "empty.wav: of no length, so there is no picture" in ran.err
    assert sorted(path.name for path in (tmp_path / "more").iterdir()) == ["1-2.png", "1.png"]
    beams = run_command("transcribe", speech_run, folder / "1.wav", folder / "6.wav", "--beam", 3)
    assert (beams.status, beams.out) == (0, "ab\ncb\n")
    row = json.loads(run_command("transcribe", speech_run, folder / "1.wav", "--json").out)
    assert (row["text"], row["tokens"], row["seconds"]) == ("ab", ["a", "b"], 0.35)
    first, second = row["starts"]
    assert first == pytest.approx(0.1, abs=0.08)
    assert second == pytest.approx(0.25, abs=0.08)


def test_evaluation(speech_run: Path, listing: Path, run_command: Callable[..., Any]) -> None:
    ran = run_command("evaluate", speech_run, "--source", listing, "--json")
    assert ran.status == 0, ran.err
    found = json.loads(ran.out)
    assert found["lines"] == 12
    assert found["cer"] < 15.0
    assert found["exact"] > 80.0
    text = run_command("evaluate", speech_run, "--split", "development", "--against", speech_run).out
    assert "against" in text
    refused = run_command("evaluate", speech_run, "--split", "test")
    assert (refused.status, refused.err.count("\n")) == (2, 1)


def test_recordings_from_python(speech_run: Path, listing: Path) -> None:
    run = tj.load(speech_run)
    items = [listing.parent / f"{number:02d}.wav" for number in range(12)]
    together = run.transcribe(items)
    alone = [run.transcribe([item])[0] for item in items[:3]]
    assert [(one.text, one.score, one.starts) for one in together[:3]] == [
        (one.text, one.score, one.starts) for one in alone
    ]
    assert run.align(items[:3]) == together[:3], "the default search is the best path, too"
    with pytest.raises(TypeError, match="must be a list"):
        run.align(items[0])
    assert run.transcribe([]) == []
    frames = np.zeros((4, 9), np.float32)
    with pytest.raises(DataError, match=r"recording 1: frames must be \[frames, 10\]"):
        run.transcribe([frames])
    with pytest.raises(TypeError, match="must be a list"):
        run.transcribe(items[0])
    with pytest.raises(TypeError, match="an array of frames; got int"):
        run.transcribe([3])
    found = run.transcribe([Sound(np.zeros(0, np.float32), RATE)])
    assert (found[0].text, found[0].seconds) == ("", 0.0)


def test_recordings_without_a_text_are_remarked(speech_run: Path) -> None:
    run = tj.load(speech_run)
    short = np.zeros((4, 10), np.float32)
    # A path of CTC has a vector of the encoder for each token at least.
    found = run.transcribe([short] * 3, search=tj.BeamSearch(num_beams=2, min_len=4))
    assert [(one.text, one.score) for one in found] == [("", -np.inf)] * 3
    (remark,) = run.predictor.report.take_remarks()
    assert remark.startswith("recording 1, and 2 others: no text keeps the rules of the search")


def test_recordings_of_any_length_that_the_encoder_takes_are_read(listing: Path) -> None:
    encoder = TransformerFeatureEncoder(
        model_dim=8,
        num_heads=2,
        num_kv_heads=2,
        feed_forward_dim=8,
        num_layers=1,
        positions=Learned(max_len=15),
        subsampling=4,
    )
    config = dataclasses.replace(
        config_of(listing), model=FeatureToTextConfig(encoder=encoder, decoder=None, ctc=True)
    )
    prepared = config.task.prepare()
    model = build_model(config.model, config.task.sizes(prepared.artifacts), seed=0)
    run = config.task.predictor(model, prepared.artifacts, model_config=config.model, name="tiny")
    longest = np.zeros((60, 10), np.float32)
    assert len(run.transcribe([longest[:55], longest])) == 2  # more than the 48 of training
    with pytest.raises(DataError, match=r"61 frames, 0\.61 seconds; at most 60, 0\.60 seconds, are taken"):
        run.transcribe([np.zeros((61, 10), np.float32)])
    data = dataclasses.replace(config.task.data, max_frames=20)
    evaluator = dataclasses.replace(config.task, data=data).evaluator(model, prepared)
    assert set(evaluator(nnx.split(model)[1])) == {"cer", "wer", "exact"}
    long = dataclasses.replace(
        prepared, development=dataclasses.replace(prepared.development, frames=FrameStore.of([longest] * 12))
    )
    short = dataclasses.replace(encoder, positions=Learned(max_len=10))
    small = build_model(
        dataclasses.replace(config.model, encoder=short), config.task.sizes(prepared.artifacts), seed=0
    )
    with pytest.raises(ConfigError, match="a recording of 60 frames, at most 40 are taken"):
        config.task.evaluator(small, long).check()


def test_what_does_not_go_together(
    speech_run: Path, listing: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    ran = run_command("translate", speech_run)
    assert ran.status == 2
    assert "use transformer-jax transcribe" in ran.err
    config = config_of(listing)
    with pytest.raises(ConfigError, match="trains a decoder and a CTC head, but the model has a CTC head"):
        Transcription(data=config.task.data, objective=JointCtc()).check_objective(config.model)
    images = dataclasses.replace(config.model, encoder=ConvolutionalImageEncoder())
    with pytest.raises(
        ConfigError,
        match=r"recordings need .* frames of features: 'recurrent' or 'transformer'; got 'convolutional'",
    ):
        config.task.check(images)
    assert run_command("transcribe", speech_run, tmp_path).err.count("\n") == 1
