"""The front end of speech beside librosa: log-mel energies, cepstra and their slopes."""

from pathlib import Path

import numpy as np
import pytest

from transformer_jax.data.sound import Sound
from transformer_jax.data.speech_features import SpeechFeatures

GOLDEN = Path(__file__).parent / "golden" / "speech_features.npz"


@pytest.mark.parity
def test_frames_are_those_of_librosa() -> None:
    with np.load(GOLDEN, allow_pickle=False) as golden:
        samples, log_mel, mfcc, slopes = (golden[name] for name in ("samples", "log_mel", "mfcc", "slopes"))
    common = {
        "sample_rate": 8000,
        "window_ms": 32.0,
        "num_filters": 20,
        "lowest_hz": 100.0,
        "highest_hz": 3800.0,
        "normalization": "none",
    }
    sound = Sound(samples, 8000)
    energies = SpeechFeatures(form="log_mel", num_deltas=0, **common)
    np.testing.assert_allclose(energies.frames(sound), log_mel, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(energies.spectrogram(sound), log_mel, rtol=1e-5, atol=1e-4)
    frames = SpeechFeatures(form="mfcc", num_deltas=1, **common).frames(sound)
    assert frames.shape == (len(mfcc), 26)
    np.testing.assert_allclose(frames[:, :13], mfcc, rtol=1e-5, atol=1e-4)
    # At the ends librosa goes on with the last frame, too.
    np.testing.assert_allclose(frames[:, 13:], slopes, rtol=1e-4, atol=1e-4)
