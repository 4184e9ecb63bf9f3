"""Cases of tasks on drawings, recordings and series for their contract."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import wavfile
from tiny_experiments import WORDS, experiment, write

from transformer_jax.data.captions_config import CaptionsConfig, InkFiles
from transformer_jax.data.series_config import SeriesConfig, SeriesFiles
from transformer_jax.data.sound import mixed
from transformer_jax.data.speech_config import SpeechConfig, SpeechFiles
from transformer_jax.data.speech_features import SpeechFeatures
from transformer_jax.decode.searcher import BeamConfig, GreedyConfig
from transformer_jax.inference import BeamSearch, GreedySearch
from transformer_jax.models.feature_encoders import (
    FeatureMasking,
    RecurrentFeatureEncoder,
    TransformerFeatureEncoder,
)
from transformer_jax.models.feature_to_text import FeatureToTextConfig
from transformer_jax.models.image_encoders import ConvolutionalImageEncoder
from transformer_jax.models.recurrent_config import Bahdanau
from transformer_jax.models.text_decoders import RecurrentTextDecoder, TransformerTextDecoder
from transformer_jax.nn import Rotary
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.runs.loading import LoadedRun
from transformer_jax.tasks.captioning import Captioning
from transformer_jax.tasks.forecasting import Forecasting
from transformer_jax.tasks.transcription import Transcription
from transformer_jax.testing import task_suite as suite

INK_READER = FeatureToTextConfig(
    encoder=RecurrentFeatureEncoder(cell="gru", hidden_dim=4, num_layers=1, time_reduction=(2,)),
    decoder=RecurrentTextDecoder(
        embedding_dim=4,
        hidden_dim=4,
        attention=Bahdanau(attention_dim=4, coverage_width=3),
        dropout_rate=0.1,
    ),
)


LISTENER = FeatureToTextConfig(
    encoder=RecurrentFeatureEncoder(
        cell="gru",
        hidden_dim=5,
        num_layers=1,
        time_reduction=(2,),
        dropout_rate=0.1,
        masking=FeatureMasking(max_time_len=4, max_channels=2),
    ),
    decoder=None,
    ctc=True,
)


JOINT_LISTENER = FeatureToTextConfig(
    encoder=TransformerFeatureEncoder(
        model_dim=8,
        num_heads=2,
        num_kv_heads=2,
        feed_forward_dim=8,
        num_layers=1,
        positions=Rotary(),
        subsampling=2,
        context=3,
    ),
    decoder=TransformerTextDecoder(
        model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=8, num_layers=1, positions=Rotary()
    ),
    ctc=True,
)


IMAGE_READER = FeatureToTextConfig(
    encoder=ConvolutionalImageEncoder(channels=(4, 4)),
    decoder=TransformerTextDecoder(
        model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=8, num_layers=1, dropout_rate=0.1
    ),
)


def drawing(word: str) -> list[list[list[float]]]:
    """Strokes of a word, one for each letter, whose bends tell the letter."""
    strokes = []
    for place, letter in enumerate(word):
        bend = (ord(letter) - 96) / 26
        strokes.append([[place, 0.0], [place + bend, 0.5], [place + 0.2, bend], [place + 0.2, 1.0]])
    return strokes


def inkml(word: str, truth: str) -> str:
    """The same as a file."""
    traces = [
        f"<trace>{', '.join(f'{x:.2f} {y:.2f}' for x, y in stroke)}</trace>" for stroke in drawing(word)
    ]
    return (
        f'<ink xmlns="http://www.w3.org/2003/InkML"><annotation type="truth">{truth}</annotation>'
        f"{''.join(traces)}</ink>"
    )


def captioning(model: Any, features: Any) -> suite.TaskCase:
    """Drawings of the words, to be spelt; other data are spelt with other letters."""

    def config(folder: Path, other: bool) -> ExperimentConfig:
        for part, chosen in (("train", WORDS), ("development", WORDS[:5])):
            (folder / part).mkdir()
            for word in chosen:
                spelt = word.translate(str.maketrans("cait", "wxyz")) if other else word
                write(folder / part / f"{word}.inkml", inkml(word, " ".join(spelt)))
        data = CaptionsConfig(
            dataset=InkFiles(
                train=str(folder / "train"), development=str(folder / "development"), is_latex=False
            ),
            features=features,
            max_frames=24,
            max_target_len=9,
            batch_size=4,
            num_buckets=1,
        )
        task = Captioning(data=data, search=BeamConfig(max_len=9, num_beams=2))
        return experiment(task, model, "token_error_rate")

    def predict(run: LoadedRun) -> Any:
        drawings = [drawing("attack" * 3), [[[0.0, 0.0]]], drawing("attack" * 2)]
        return [(one.text, one.score) for one in run.caption(drawings)]

    def score(run: LoadedRun) -> list[float]:
        seen = run.attend([drawing("tack")], search=GreedySearch())[0]
        return [
            seen.weights.sum() + 1.0,
            *(one.score for one in run.caption([drawing("cat"), drawing("sit")])),
        ]

    return suite.TaskCase(config=config, predict=predict, score=score)


def forecasting(model: Any, objective: Any) -> suite.TaskCase:
    """Two waves with a gap; other data have other sizes."""

    def config(folder: Path, other: bool) -> ExperimentConfig:
        path = write(folder / "waves.csv", waves(80, 9.0 if other else 2.0))
        data = SeriesConfig(
            dataset=SeriesFiles(path=path, num_development=12, num_test=8),
            context_len=12,
            horizon_len=4,
            season_len=6,
            batch_size=8,
            gaps="hold",
        )
        return experiment(Forecasting(data=data, objective=objective), model, "mse")

    def predict(run: LoadedRun) -> Any:
        series = np.sin(np.arange(60.0)).reshape(30, 2)
        return [
            (one.times, one.values.tolist(), {key: value.tolist() for key, value in one.quantiles.items()})
            for one in run.forecast([series, series[:12]])
        ]

    def score(run: LoadedRun) -> list[float]:
        return list(run.forecast(np.cos(np.arange(60.0)).reshape(30, 2))[0].values.ravel())

    return suite.TaskCase(config=config, predict=predict, score=score)


def transcription(model: Any, objective: Any) -> suite.TaskCase:
    """Words spelled in tones, one for each letter; other data have other letters."""

    def sound(word: str, rate: int = 2000) -> Any:
        time = np.arange(rate // 20)
        tones = [np.sin(2 * np.pi * (100 + 25 * (ord(letter) - 97)) * time / rate) for letter in word]
        rng = np.random.default_rng(len(word))
        samples = np.concatenate(tones) + 0.01 * rng.normal(size=len(tones) * len(time))
        return (20_000 * samples).astype(np.int16)

    def config(folder: Path, other: bool) -> ExperimentConfig:
        rows = []
        for number, word in enumerate(WORDS):
            wavfile.write(folder / f"{number}.wav", 2000, sound(word))
            text = word.translate(str.maketrans("cait", "wxyz")) if other else word
            rows.append(f"{number}.wav\t{text}\n")
        files = SpeechFiles(
            train=write(folder / "train.tsv", "".join(rows)),
            development=write(folder / "development.tsv", "".join(rows[:5])),
        )
        features = SpeechFeatures(
            sample_rate=2000, num_filters=8, num_cepstra=5, num_deltas=1, window_ms=20.0
        )
        data = SpeechConfig(
            dataset=files, features=features, max_frames=40, max_target_len=8, batch_size=4, num_buckets=1
        )
        task = Transcription(data=data, objective=objective, search=GreedyConfig(max_len=8))
        return experiment(task, model, "cer")

    def recordings() -> list[Any]:
        silence = np.zeros(500, np.int16)
        return [
            *(mixed(sound(word), 2000) for word in ("cat", "sit", "cactus", "a" * 30)),
            mixed(sound("tack", 4000), 4000),
            mixed(silence, 2000),
        ]

    def predict(run: LoadedRun) -> Any:
        found = run.transcribe(recordings())
        beams = run.transcribe(recordings()[:2], search=BeamSearch(num_beams=2))
        return [(one.text, one.starts) for one in found], [one.text for one in beams]

    def score(run: LoadedRun) -> list[float]:
        return [one.score for one in run.transcribe(recordings()[:2])]

    return suite.TaskCase(config=config, predict=predict, score=score)


def waves(rows: int, size: float) -> str:
    """A CSV of two waves by the hour, whose second one has a gap and whose row 30 is missing."""
    lines = ["date,high,low"]
    for row in range(rows):
        high, low = (size * math.sin(row * step) + row % 3 for step in (1.0, 0.4))
        written = "" if row == 20 else f"{low:.4f}"
        if row != 30:
            lines.append(f"2024-01-0{1 + row // 24} {row % 24:02d}:00,{high:.4f},{written}")
    return "\n".join(lines) + "\n"


FORECAST_TRANSFORMER: dict[str, Any] = {
    "patch_len": 4,
    "stride": 2,
    "model_dim": 8,
    "num_heads": 2,
    "num_kv_heads": 2,
    "feed_forward_dim": 8,
    "num_layers": 1,
}
