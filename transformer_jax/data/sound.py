"""Sound: samples with their rate, read from WAV and, where soundfile is installed, from FLAC and OGG files."""

import dataclasses
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from transformer_jax.errors import DataError

FloatArray = npt.NDArray[np.float32]

WAV_SUFFIXES = (".wav", ".wave")
OTHER_SUFFIXES = (".flac", ".ogg", ".aiff", ".aif")
SUFFIXES = (*WAV_SUFFIXES, *OTHER_SUFFIXES)
"""Ends of the names of files that `read_sound` reads."""

MAX_RATE = 768_000
"""Samples of a second at most."""


@dataclasses.dataclass(frozen=True, eq=False)
class Sound:
    """One channel of sound.

    Attributes:
      samples: ``[samples]``, float32, from -1 to 1.
      rate: Samples of a second.
      num_channels: Channels that it was mixed from.

    Raises:
      DataError: If samples are non-finite or of another shape, or the rate is not possible.

    Example:
      >>> sound = Sound(np.zeros(4000, np.float32), rate=8000)
      >>> sound.seconds, sound.is_silent
      (0.5, True)
    """

    samples: FloatArray
    rate: int
    num_channels: int = 1

    def __post_init__(self) -> None:
        if self.samples.ndim != 1:
            raise DataError(f"samples must be one channel, [samples]; got {self.samples.shape}")
        if not 1 <= self.rate <= MAX_RATE:
            raise DataError(f"a rate of {self.rate:,} samples a second is none of sound")
        if not np.isfinite(self.samples).all():
            raise DataError("samples are non-finite")

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate

    @property
    def is_silent(self) -> bool:
        """Whether there is nothing to hear: all samples are the same, or there is none."""
        return not len(self.samples) or bool(np.ptp(self.samples) == 0)

    def at_rate(self, rate: int) -> "Sound":
        """The same sound at another rate, resampled by a polyphase filter that removes what the lower rate cannot hold.

        Args:
          rate: Samples of a second.

        Example:
          >>> sound = Sound(np.sin(np.arange(800, dtype=np.float32)), 16_000)
          >>> len(sound.at_rate(8_000).samples), sound.at_rate(16_000) is sound
          (400, True)
        """
        if rate == self.rate or not len(self.samples):
            return dataclasses.replace(self, rate=rate) if rate != self.rate else self
        from scipy.signal import resample_poly

        common = math.gcd(rate, self.rate)
        samples = resample_poly(self.samples, rate // common, self.rate // common)
        return dataclasses.replace(self, samples=samples.astype(np.float32), rate=rate)


def read_sound(path: Path | str) -> Sound:
    """The sound of a file, its channels mixed to one.

    Args:
      path: A WAV file of integers or floats; FLAC, OGG and AIFF need the package soundfile.

    Raises:
      DataError: If it is missing, no sound, damaged or cut off; one line that says which file and why.

    Example:
      >>> import tempfile
      >>> from scipy.io import wavfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...   wavfile.write(f"{folder}/two.wav", 8000, np.array([[0, 0], [16384, 0]], np.int16))
      ...   sound = read_sound(f"{folder}/two.wav")
      >>> sound.samples.tolist(), sound.rate, sound.num_channels
      ([0.0, 0.25], 8000, 2)
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: wanted a sound file ({', '.join(SUFFIXES)})")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot read the file: {error.strerror}") from None
    if not size:
        raise DataError(f"{path}: the file is empty")
    try:
        rate, samples = (_wav if suffix in WAV_SUFFIXES else _other)(path)
        return mixed(samples, rate)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def mixed(samples: npt.NDArray[Any], rate: int) -> Sound:
    """The mean of the channels ``[samples]`` or ``[samples, channels]``; integers are scaled to -1 to 1.

    Args:
      samples: Integers of 8 (unsigned), 16 or 32 bits, or floats.
      rate: Samples of a second.

    Raises:
      DataError: If samples have another shape or type, are non-finite, or the rate is not possible.

    Example:
      >>> mixed(np.array([[-32768, 0], [16384, 16384]], np.int16), 8000).samples.tolist()
      [-0.5, 0.5]
    """
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not samples.shape[1]):
        raise DataError(f"samples must be [samples] or [samples, channels]; got {samples.shape}")
    if samples.dtype == np.uint8:  # 8-bit WAV has its zero at 128
        scaled = (samples.astype(np.float32) - 128.0) / 128.0
    elif np.issubdtype(samples.dtype, np.signedinteger):
        scaled = samples.astype(np.float64) / -float(np.iinfo(samples.dtype).min)
    elif np.issubdtype(samples.dtype, np.floating):
        scaled = samples.astype(np.float64)
    else:
        raise DataError(f"samples must be integers or floats, got {samples.dtype}")
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    if samples.ndim == 2:
        scaled = scaled.mean(axis=1)
    return Sound(scaled.astype(np.float32), int(rate), channels)


def _wav(path: Path) -> tuple[int, npt.NDArray[Any]]:
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            # Chunks that nobody knows are harmless; a file that ends too early is not.
            warnings.filterwarnings("ignore", message="Chunk", category=wavfile.WavFileWarning)
            warnings.filterwarnings("ignore", message="Incomplete chunk", category=wavfile.WavFileWarning)
            warnings.filterwarnings("error", message="Reached EOF", category=wavfile.WavFileWarning)
            found: tuple[int, npt.NDArray[Any]] = wavfile.read(path)
            return found
    except wavfile.WavFileWarning:
        raise DataError("cut off: it holds fewer samples than it says; take a copy that is whole") from None
    except Exception as error:  # struct.error, ValueError, UnboundLocalError, ZeroDivisionError ...
        text = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"no WAV file, or damaged: {text[:120]}") from None


def _other(path: Path) -> tuple[int, npt.NDArray[Any]]:
    try:
        import soundfile
    except ImportError:
        raise DataError(
            f"{path.suffix} files need the package soundfile: install it, or convert the file to WAV"
        ) from None
    try:
        samples, rate = soundfile.read(path, dtype="float32")
    except (RuntimeError, OSError) as error:
        raise DataError(f"no sound that soundfile reads, or damaged: {error}") from None
    return int(rate), samples
