"""Sets and lists of recordings: parts apart by speaker, what does not fit together refused, limits and notes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from transformer_jax.data.prepare_speech import prepare_speech
from transformer_jax.data.sources.an4 import read_frames
from transformer_jax.data.sources.speech_files import SpeechFiles, read_speech_list
from transformer_jax.data.sources.spoken_digits import read_recordings
from transformer_jax.data.speech_config import NamedSpeech, SpeechConfig
from transformer_jax.data.speech_features import SpeechFeatures
from transformer_jax.errors import ConfigError, DataError


def write_list(folder: Path, texts: list[str], *, rate: int = 4000, speakers: bool = False) -> Path:
    rows = []
    for number, text in enumerate(texts):
        samples = np.sin(np.arange(1000 + 400 * number) / (3 + number))
        wavfile.write(folder / f"{number}.wav", rate, (samples * 9000).astype(np.int16))
        rows.append(f"{number}.wav\t{text}" + (f"\ts{number // 2}" if speakers else ""))
    path = folder / "list.tsv"
    path.write_text("\n".join(rows) + "\n\n")
    return path


def test_lists_of_ones_own(tmp_path: Path) -> None:
    path = write_list(tmp_path, ["one two", "Two", "", "three  four", "five", "six"], speakers=True)
    splits = SpeechFiles(train=str(path)).load()
    assert {one.speaker for one in splits.train}.isdisjoint(one.speaker for one in splits.development)
    assert len(splits.train) == 4
    config = SpeechConfig(
        dataset=SpeechFiles(train=str(path), development=str(path)),
        features=SpeechFeatures(sample_rate=2000, num_filters=8, num_cepstra=4, num_deltas=0),
        lowercase=True,
        speeds=(0.5,),
        max_frames=100,
        batch_size=4,
    )
    prepared = prepare_speech(config)
    lines = "\n".join(prepared.report.lines())
    assert "resampled to 2,000 samples a second" in lines
    assert "3 recordings are left out, being longer than max_frames, 100" in lines
    assert "again at 1 other speed(s): 0.5" in lines
    assert prepared.report.num_items == {"training": 9, "development": 6, "test": 0}
    assert prepared.development.texts == ["one two", "two", "", "three four", "five", "six"]
    assert prepared.report.feature_dim == 4


def test_bad_lists(tmp_path: Path) -> None:
    path = write_list(tmp_path, ["one", "two"])
    for row, match in [
        ("0.wav", "line 3: wanted a path and a text"),
        ("9.wav\tnine", "9.wav: cannot read the file"),
        ("list.tsv\tnine", "wanted a sound file"),
    ]:
        changed = tmp_path / "bad.tsv"
        changed.write_text(path.read_text().rstrip("\n") + f"\n{row}\n")
        with pytest.raises(DataError, match=match):
            read_speech_list(changed)
    with pytest.raises(ConfigError, match="path is empty"):
        SpeechFiles(train="")
    config = SpeechConfig(dataset=SpeechFiles(train=str(path), development=str(path)), max_frames=5)
    with pytest.raises(DataError, match="no training recording is left"):
        prepare_speech(config)
    with pytest.raises(ConfigError, match="speeds must be"):
        dataclasses.replace(config, speeds=(1.0,))


def test_named_sets() -> None:
    with pytest.raises(ConfigError, match="an4"):
        NamedSpeech(name="an5")
    with pytest.raises(DataError, match="leave test_speaker out"):
        NamedSpeech(name="an4", test_speaker="theo").load()


def test_damaged_arrays(tmp_path: Path) -> None:
    arrays = {
        "features": np.zeros((5, 13), np.float16),
        "lengths": np.array([2, 3], np.int32),
        "names": np.array(["set/who/a", "set/who/b"]),
        "texts": np.array(["YES", "NO"]),
    }
    path = tmp_path / "an4.npz"
    np.savez(path, **arrays)
    found = read_frames(path)
    assert [(one.text, one.speaker, one.frames.shape) for one in found if one.frames is not None] == [
        ("YES", "who", (2, 13)),
        ("NO", "who", (3, 13)),
    ]
    np.savez(path, **arrays | {"lengths": np.array([2, 4])})
    with pytest.raises(DataError, match="do not fit together"):
        read_frames(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="damaged"):
        read_frames(path)
    with pytest.raises(DataError, match="no archive"):
        read_recordings(path)


def test_real_sets_where_they_are_at_hand() -> None:
    try:
        splits = NamedSpeech(name="an4").load()
        digits = NamedSpeech(name="spoken-digits").load()
        apart = NamedSpeech(name="spoken-digits", test_speaker="theo").load()
    except DataError as error:
        pytest.skip(str(error))
    assert (len(splits.train) + len(splits.development), len(splits.test)) == (948, 130)
    for one, other in [("train", "development"), ("train", "test"), ("development", "test")]:
        speakers = ({said.speaker for said in getattr(splits, part)} for part in (one, other))
        assert set.isdisjoint(*speakers)
    assert (len(digits.train), len(digits.development), len(digits.test)) == (2400, 300, 300)
    assert {said.speaker for said in apart.test} == {"theo"}
    assert "theo" not in {said.speaker for said in (*apart.train, *apart.development)}
