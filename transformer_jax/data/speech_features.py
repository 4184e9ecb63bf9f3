"""The front end of speech models: log-mel energies or cepstra of short windows, their changes, and normalisation."""

import dataclasses
import functools
import math
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt

from transformer_jax.bounds import AtMost, Width, check_at_least, check_bounds
from transformer_jax.data.sound import FloatArray, Sound
from transformer_jax.errors import DataError, check_choice, require

Normalization = Literal["utterance", "none"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechFeatures:
    r"""How sound becomes frames.

    Windows of :math:`w` samples, :math:`s` apart, of the pre-emphasised samples :math:`x_t - a x_{t-1}`, are weighted
    by a Hamming window; their power spectrum :math:`P` goes through triangular filters :math:`F` that are equally wide
    on the mel scale :math:`2595 \log_{10}(1 + f / 700)`:

    .. math:: e_m = \log \max(\epsilon, \sum_k F_{mk} P_k), \quad
      c_i = \sqrt{\tfrac{2}{M}} \sum_m e_m \cos\left(\tfrac{\pi i}{M} (m + \tfrac12)\right)

    Frames are the log energies :math:`e`, or the first cepstra :math:`c` (the first of them over :math:`\sqrt 2`, so
    that the transform is orthonormal), followed by their changes over time.

    Attributes:
      form: ``"mfcc"`` (cepstra) or ``"log_mel"``.
      sample_rate: Samples of a second that sound is brought to first.
      window_ms: Length of a window in milliseconds.
      step_ms: From one window to the next.
      num_filters: Mel filters.
      num_cepstra: Cepstra that are kept.
      lowest_hz: Where the first filter begins.
      highest_hz: Where the last one ends; ``None`` = half of the sample rate.
      pre_emphasis: :math:`a`.
      num_deltas: How often changes over time are added: 1 has the deltas, 2 their deltas too.
      normalization: ``"utterance"`` gives each number of the frames mean 0 and deviation 1 within a recording.

    Raises:
      ConfigError: If a value is out of range.

    Example:
      >>> features = SpeechFeatures(sample_rate=8000, num_filters=20, num_cepstra=5, num_deltas=1)
      >>> sound = Sound(np.sin(np.arange(4000, dtype=np.float32) / 3), 8000)
      >>> features.frames(sound).shape, features.feature_dim
      ((48, 10), 10)

    Source: Davis & Mermelstein 1980, https://doi.org/10.1109/TASSP.1980.1163420; deltas: Furui 1986,
    https://doi.org/10.1109/TASSP.1986.1164788.
    """

    form: Literal["mfcc", "log_mel"] = "mfcc"
    sample_rate: Annotated[int, AtMost(768_000)] = 16_000
    window_ms: float = 25.0
    step_ms: float = 10.0
    num_filters: Width = 40
    num_cepstra: Width = 13
    lowest_hz: float = 20.0
    highest_hz: float | None = None
    pre_emphasis: float = 0.97
    num_deltas: Width = 2
    normalization: Normalization = "utterance"

    def __post_init__(self) -> None:
        check_bounds(self)
        check_choice("form", self.form, ("mfcc", "log_mel"))
        check_choice("normalization", self.normalization, ("utterance", "none"))
        check_at_least(1, num_filters=self.num_filters, num_cepstra=self.num_cepstra)
        check_at_least(0, num_deltas=self.num_deltas)
        require(self.num_deltas <= 2, f"num_deltas must be 0 to 2, got {self.num_deltas}")
        require(
            100 <= self.sample_rate <= 768_000,
            f"sample_rate must be 100 to 768,000 a second, got {self.sample_rate}",
        )
        require(
            1.0 <= self.step_ms <= self.window_ms <= 1000.0,
            f"wanted 1 <= step_ms <= window_ms <= 1000; got {self.step_ms} and {self.window_ms}",
        )
        require(
            0.0 <= self.lowest_hz < self.end_hz <= self.sample_rate / 2,
            f"filters must lie between 0 and {self.sample_rate / 2:g} Hz, half of sample_rate; got {self.lowest_hz:g} "
            f"to {self.end_hz:g}",
        )
        require(0.0 <= self.pre_emphasis < 1.0, f"pre_emphasis must be from 0 to 1, got {self.pre_emphasis}")
        require(
            self.form == "log_mel" or self.num_cepstra <= self.num_filters,
            f"num_cepstra is {self.num_cepstra}, at most num_filters, {self.num_filters}, are there",
        )

    @property
    def end_hz(self) -> float:
        """Where the last filter ends, in Hz."""
        return self.sample_rate / 2 if self.highest_hz is None else self.highest_hz

    @property
    def static_dim(self) -> int:
        """Numbers of a frame before changes over time are added."""
        return self.num_cepstra if self.form == "mfcc" else self.num_filters

    @property
    def feature_dim(self) -> int:
        """Numbers of a frame."""
        return self.static_dim * (1 + self.num_deltas)

    @property
    def window_len(self) -> int:
        """Samples of a window."""
        return round(self.window_ms * self.sample_rate / 1000)

    @property
    def step_len(self) -> int:
        """Samples from one window to the next."""
        return max(1, round(self.step_ms * self.sample_rate / 1000))

    def num_frames(self, seconds: float) -> int:
        r"""Frames of so much sound: :math:`1 + \lfloor (n - w) / s \rfloor` of :math:`n` samples, one at least.

        Args:
          seconds: Length of the sound; 0 gives no frame.

        Example:
          >>> SpeechFeatures().num_frames(1.0)  # windows of 25 ms, 10 ms apart
          98
        """
        samples = round(seconds * self.sample_rate)
        return 1 + max(0, samples - self.window_len) // self.step_len if samples else 0

    def frames(self, sound: Sound) -> FloatArray:
        """Frames of a sound ``[frames, feature_dim]``, resampled first where it has another rate.

        A sound shorter than a window is filled up with silence; one of no samples has no frames.

        Args:
          sound: The sound, of any rate and length.
        """
        return self.from_static(self.static(sound))

    def spectrogram(self, sound: Sound) -> FloatArray:
        """Log-mel energies of a sound ``[frames, num_filters]``, whatever the frames are, for people to look at."""
        return dataclasses.replace(self, form="log_mel").static(sound)

    def static(self, sound: Sound) -> FloatArray:
        """Log-mel energies (natural logarithm) or cepstra alone, ``[frames, static_dim]``.

        Args:
          sound: The sound, of any rate and length.
        """
        samples = sound.at_rate(self.sample_rate).samples.astype(np.float64)
        if not len(samples):
            return np.zeros((0, self.static_dim), np.float32)
        samples = np.append(
            samples[0] * (1 - self.pre_emphasis), samples[1:] - self.pre_emphasis * samples[:-1]
        )
        samples = np.pad(samples, (0, max(0, self.window_len - len(samples))))
        windows = np.lib.stride_tricks.sliding_window_view(samples, self.window_len)[:: self.step_len]
        fft_len = 2 ** math.ceil(math.log2(max(2, self.window_len)))
        power = np.abs(np.fft.rfft(windows * np.hamming(self.window_len), fft_len)) ** 2
        energies = np.log(np.maximum(power @ self._filters(fft_len).T, 1e-10))
        found = (
            energies if self.form == "log_mel" else energies @ dct_matrix(self.num_filters, self.num_cepstra)
        )
        return found.astype(np.float32)

    def from_static(self, static: npt.NDArray[Any]) -> FloatArray:
        """Frames from static ones: with their deltas, normalised.

        Args:
          static: ``[frames, static_dim]``, as `static` gives them.

        Returns:
          ``[frames, feature_dim]``.

        Raises:
          DataError: If they have another width, or are non-finite.

        Example:
          >>> features = SpeechFeatures(num_cepstra=2, num_deltas=1, normalization="none")
          >>> features.from_static(np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0]]))[1].astype(float).round(2).tolist()
          [1.0, 5.0, 0.6, 0.0]
        """
        if static.ndim != 2 or static.shape[1] != self.static_dim:
            raise DataError(f"frames must be [frames, {self.static_dim}]; got {static.shape}")
        parts = [static.astype(np.float32)]
        if not np.isfinite(parts[0]).all():
            raise DataError("frames are non-finite")
        for _ in range(self.num_deltas):
            parts.append(deltas(parts[-1]))
        frames = np.concatenate(parts, axis=1)
        if self.normalization == "utterance" and len(frames):
            # A number that never changes says nothing: it stays zero.
            frames = (frames - frames.mean(axis=0)) / np.maximum(frames.std(axis=0), 1e-3)
        return frames.astype(np.float32)

    def _filters(self, fft_len: int) -> npt.NDArray[np.float64]:
        return mel_filters(self.num_filters, fft_len, self.sample_rate, self.lowest_hz, self.end_hz)


@functools.lru_cache(maxsize=8)
def mel_filters(
    num_filters: int, fft_len: int, sample_rate: int, lowest_hz: float, highest_hz: float
) -> npt.NDArray[np.float64]:
    """Triangles of height 1, equally wide on the mel scale, over the frequencies of a spectrum.

    Args:
      num_filters: Filters.
      fft_len: Samples that the spectrum is of.
      sample_rate: Samples of a second.
      lowest_hz: Where the first begins, in Hz.
      highest_hz: Where the last ends, in Hz.

    Returns:
      ``[num_filters, fft_len // 2 + 1]``.

    Example:
      >>> mel_filters(2, 8, 8000, 0.0, 4000.0).round(2).tolist()
      [[0.0, 0.68, 0.0, 0.0, 0.0], [0.0, 0.32, 0.91, 0.45, 0.0]]

    Source: Davis & Mermelstein 1980, https://doi.org/10.1109/TASSP.1980.1163420.
    """
    lowest, highest = (2595.0 * math.log10(1.0 + one / 700.0) for one in (lowest_hz, highest_hz))
    edges = 700.0 * (10.0 ** (np.linspace(lowest, highest, num_filters + 2) / 2595.0) - 1.0)
    bins = np.arange(fft_len // 2 + 1) * sample_rate / fft_len
    rising = (bins[None, :] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins[None, :]) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0.0, np.minimum(rising, falling))


@functools.lru_cache(maxsize=8)
def dct_matrix(num_filters: int, num_cepstra: int) -> npt.NDArray[np.float64]:
    r"""The orthonormal discrete cosine transform (type II), ``[num_filters, num_cepstra]``.

    .. math:: C_{mi} = \sqrt{\tfrac{2 - [i = 0]}{M}} \cos\left(\tfrac{\pi i}{M} (m + \tfrac12)\right)

    Args:
      num_filters: :math:`M`, numbers that are transformed.
      num_cepstra: Coefficients that are kept.

    Example:
      >>> matrix = dct_matrix(4, 4)
      >>> bool(np.allclose(matrix.T @ matrix, np.eye(4)))
      True

    Source: Davis & Mermelstein 1980, https://doi.org/10.1109/TASSP.1980.1163420.
    """
    places = np.arange(num_filters)[:, None] + 0.5
    matrix = np.cos(np.pi / num_filters * places * np.arange(num_cepstra)[None, :]) * math.sqrt(
        2 / num_filters
    )
    matrix[:, 0] /= math.sqrt(2.0)
    return matrix


def deltas(frames: npt.NDArray[np.float32], reach: int = 2) -> npt.NDArray[np.float32]:
    r"""Delta features: the slope over time of the line fitted through ``2 * reach + 1`` frames; ends are repeated.

    .. math:: d_t = \frac{\sum_{n=1}^N n (c_{t+n} - c_{t-n})}{2 \sum_{n=1}^N n^2}

    Args:
      frames: ``[frames, dim]``.
      reach: :math:`N`, frames on either side.

    Returns:
      ``[frames, dim]``, in units of the numbers a frame.

    Example:
      >>> deltas(np.array([[0.0], [1.0], [2.0], [3.0], [4.0]], np.float32))[2].tolist()
      [1.0]

    Source: Furui 1986, https://doi.org/10.1109/TASSP.1986.1164788.
    """
    padded = np.pad(frames, ((reach, reach), (0, 0)), mode="edge") if len(frames) else frames
    total = np.zeros_like(frames)
    for n in range(1, reach + 1):
        later, earlier = reach + n, reach - n
        total += n * (padded[later : later + len(frames)] - padded[earlier : earlier + len(frames)])
    return total / (2.0 * sum(n * n for n in range(1, reach + 1)))
