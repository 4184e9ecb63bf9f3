"""Sound files: forms of samples, channels, rates, and what is damaged."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from transformer_jax.data.sound import Sound, mixed, read_sound
from transformer_jax.data.speech_features import SpeechFeatures
from transformer_jax.data.utterances import Utterance, at_speed
from transformer_jax.errors import ConfigError, DataError

WAVE = np.sin(np.arange(2000) / 5.0)


@pytest.mark.parametrize(
    ("samples", "tolerance"),
    [
        ((WAVE * 32767).astype(np.int16), 1e-4),
        ((WAVE * (2**31 - 1)).astype(np.int32), 1e-6),
        ((WAVE * 127 + 128).astype(np.uint8), 2e-2),
        (WAVE.astype(np.float32), 1e-6),
        (WAVE.astype(np.float64), 1e-6),
    ],
    ids=["int16", "int32", "uint8", "float32", "float64"],
)
def test_forms_of_samples(tmp_path: Path, samples: np.ndarray, tolerance: float) -> None:
    path = tmp_path / "one.WAV"
    wavfile.write(path, 8000, samples)
    sound = read_sound(path)
    assert (sound.rate, sound.num_channels, sound.seconds) == (8000, 1, 0.25)
    np.testing.assert_allclose(sound.samples, WAVE, atol=tolerance)


def test_channels_are_mixed_and_rates_are_changed(tmp_path: Path) -> None:
    path = tmp_path / "two.wav"
    both = np.stack([WAVE, np.zeros_like(WAVE)], axis=1)
    wavfile.write(path, 16000, both.astype(np.float32))
    sound = read_sound(path)
    assert sound.num_channels == 2
    np.testing.assert_allclose(sound.samples, WAVE / 2, atol=1e-6)
    half = sound.at_rate(8000)
    assert (half.rate, len(half.samples)) == (8000, 1000)
    np.testing.assert_allclose(half.samples[50:-50], WAVE[::2][50:-50] / 2, atol=5e-3)
    # A tone above half of the new rate is gone, not folded down.
    high = Sound(np.sin(2 * np.pi * 3500 * np.arange(16000) / 16000).astype(np.float32), 16000)
    assert np.abs(high.at_rate(4000).samples[100:-100]).max() < 0.01


def test_what_is_no_sound(tmp_path: Path) -> None:
    whole = tmp_path / "whole.wav"
    wavfile.write(whole, 8000, (WAVE * 1000).astype(np.int16))
    content = whole.read_bytes()
    for name, data, match in [
        ("cut.wav", content[:-1000], "cut off"),
        ("header.wav", content[:20], "damaged"),
        ("text.wav", b"hello there", "no WAV file"),
        ("empty.wav", b"", "the file is empty"),
        ("notes.txt", b"hello", "wanted a sound file"),
    ]:
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(DataError, match=match) as refusal:
            read_sound(path)
        assert str(refusal.value).startswith(str(path))
        assert "\n" not in str(refusal.value)
    with pytest.raises(DataError, match="cannot read the file"):
        read_sound(tmp_path / "missing.wav")
    with pytest.raises(DataError, match="is none of sound"):
        Sound(np.zeros(4, np.float32), 0)
    with pytest.raises(DataError, match="non-finite"):
        mixed(np.array([0.0, np.nan]), 8000)
    with pytest.raises(DataError, match=r"\[samples, channels\]"):
        mixed(np.zeros((2, 2, 2), np.int16), 8000)


def test_flac_needs_soundfile(tmp_path: Path) -> None:
    path = tmp_path / "one.flac"
    path.write_bytes(b"fLaC")
    with pytest.raises(DataError, match="soundfile"):
        read_sound(path)


def test_short_and_silent_sound_have_finite_frames() -> None:
    features = SpeechFeatures(sample_rate=8000)
    for samples in (np.zeros(4000), np.ones(1), np.zeros(0), WAVE[:150]):
        frames = features.frames(Sound(samples.astype(np.float32), 8000))
        assert frames.shape[1] == features.feature_dim == 39
        assert np.isfinite(frames).all()
        assert len(frames) == features.num_frames(len(samples) / 8000) or len(samples) < 200
    assert Sound(np.zeros(5, np.float32), 8000).is_silent
    assert not Sound(WAVE.astype(np.float32), 8000).is_silent
    normal = features.frames(Sound(WAVE.astype(np.float32), 8000))
    np.testing.assert_allclose(normal.mean(axis=0), 0.0, atol=1e-3)
    with pytest.raises(DataError, match=r"\[frames, 13\]"):
        features.from_static(np.zeros((4, 12)))
    with pytest.raises(DataError, match="non-finite"):
        features.from_static(np.full((4, 13), np.nan))
    with pytest.raises(ConfigError, match="half of sample_rate"):
        SpeechFeatures(sample_rate=8000, highest_hz=5000.0)


def test_speed() -> None:
    said = Utterance(text="x", sound=Sound(WAVE.astype(np.float32), 8000), speaker="s")
    faster = at_speed(said, 1.25)
    assert faster.sound is not None
    assert (faster.sound.rate, len(faster.sound.samples)) == (8000, 1600)
    np.testing.assert_allclose(
        faster.sound.samples[50:-50], np.sin(np.arange(1600) * 1.25 / 5.0)[50:-50], atol=1e-2
    )
    assert (faster.text, faster.speaker) == ("x", "s")
    slower = at_speed(Utterance(text="x", frames=np.arange(5.0)[:, None]), 0.5).frames
    assert slower is not None
    assert slower.ravel().tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]
