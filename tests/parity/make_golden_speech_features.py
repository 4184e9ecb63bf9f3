"""Makes golden/speech_features.npz: log-mel energies and cepstra by librosa, of a made-up sound.

Command: python tests/parity/make_golden_speech_features.py (needs librosa, in an environment of its own)
"""

from pathlib import Path

import librosa
import numpy as np
import scipy.fft

RATE, WINDOW, STEP, FILTERS, CEPSTRA = 8000, 256, 80, 20, 13


def main() -> None:
    """Compute and store."""
    rng = np.random.default_rng(0)
    time = np.arange(RATE // 5) / RATE
    samples = np.sin(2 * np.pi * (300 + 2000 * time) * time) + 0.1 * rng.normal(size=len(time))
    samples = (0.5 * samples).astype(np.float32)
    emphasised = librosa.effects.preemphasis(samples.astype(np.float64), coef=0.97, zi=[-0.97 * samples[0]])
    energies = librosa.feature.melspectrogram(
        y=emphasised, sr=RATE, n_fft=WINDOW, hop_length=STEP, window=np.hamming(WINDOW), center=False,
        n_mels=FILTERS, fmin=100.0, fmax=3800.0, htk=True, norm=None, power=2.0,
    )  # fmt: skip
    log_mel = np.log(energies).T
    mfcc = scipy.fft.dct(log_mel, type=2, norm="ortho", axis=1)[:, :CEPSTRA]
    slopes = librosa.feature.delta(mfcc, width=5, axis=0, mode="nearest")
    path = Path(__file__).parent / "golden" / "speech_features.npz"
    np.savez_compressed(path, samples=samples, log_mel=log_mel, mfcc=mfcc, slopes=slopes)


if __name__ == "__main__":
    main()
