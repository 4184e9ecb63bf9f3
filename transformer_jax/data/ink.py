"""Handwriting as strokes of a pen, and the frames of features that encoders read."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from transformer_jax.bounds import check_bounds
from transformer_jax.data.distortion import random_affine
from transformer_jax.errors import DataError, require

MAX_POINTS = 2_000_000
"""Points of one drawing at most."""

NUM_FEATURES = 8
"""Numbers of a frame, see `StrokeFeatures`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Ink:
    """Strokes in the order in which they were written; x grows to the right and y downward.

    Args:
      strokes: Of each stroke its points ``[points, 2]``, in any unit.

    Raises:
      DataError: If there is no stroke, a stroke has no point or is no list of pairs, a coordinate is not finite, or
        there are more than `MAX_POINTS` points.

    Example:
      >>> ink = Ink(([[0, 0], [3, 4]], [[5, 0]]))
      >>> ink.num_points, ink.strokes[0].tolist()
      (3, [[0.0, 0.0], [3.0, 4.0]])
    """

    strokes: tuple[npt.NDArray[np.float32], ...]

    def __post_init__(self) -> None:
        strokes = tuple(_checked(stroke, number) for number, stroke in enumerate(self.strokes, 1))
        if not strokes:
            raise DataError("the drawing holds no stroke")
        if sum(map(len, strokes)) > MAX_POINTS:
            raise DataError(f"the drawing holds more than {MAX_POINTS:,} points")
        object.__setattr__(self, "strokes", strokes)

    @property
    def num_points(self) -> int:
        """Points of all strokes."""
        return sum(map(len, self.strokes))


def _checked(stroke: Any, number: int) -> npt.NDArray[np.float32]:
    try:
        points = np.asarray(stroke, np.float32)
    except (TypeError, ValueError):
        raise DataError(f"stroke {number} is no list of points (x, y)") from None
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise DataError(f"stroke {number} must be points (x, y), at least one; got shape {points.shape}")
    # Beyond this, lengths and squares of them are no float32.
    if not np.isfinite(points).all() or np.abs(points).max() > 1e15:
        raise DataError(f"stroke {number} has a coordinate that is not finite, or beyond 1e15")
    return points


@dataclasses.dataclass(frozen=True, eq=False)
class InkFrames:
    """A drawing as frames.

    Attributes:
      features: ``[frames, 8]``, see `StrokeFeatures`.
      points: ``[frames, 2]``, where each frame is, in the unit of the drawing.
      strokes: ``[frames]``, number of the stroke of each frame, from 0.
      is_downsampled: Whether the spacing was widened for the drawing to fit.

    Example:
      >>> frames = StrokeFeatures(spacing=0.5).frames(Ink(([[0, 0], [3, 4]], [[5, 0]])))
      >>> frames.strokes.tolist(), frames.is_downsampled
      ([0, 0, 0, 1], False)
    """

    features: npt.NDArray[np.float32]
    points: npt.NDArray[np.float32]
    strokes: npt.NDArray[np.int32]
    is_downsampled: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class StrokeFeatures:
    """Frames at equal distances along the strokes.

    The unit of length is the median of the diagonals of the strokes' bounding boxes, about the height of a letter, so
    that neither the resolution of the tablet nor the size of the writing matters, nor how fast the pen was. The eight
    numbers of a frame: x and y from the mean of all frames, x a tenth; the step from the frame before of the same
    stroke, in units of the spacing; the way of the lifted pen from the stroke before, where a stroke begins, clipped to
    eight units; whether the frame is the first and whether it is the last of its stroke.

    Attributes:
      spacing: Distance of frames, in that unit. A stroke has at least one frame at each end.

    Raises:
      ConfigError: If the spacing is not above 0.01.

    Example:
      >>> frames = StrokeFeatures(spacing=0.25).frames(Ink(([[0, 0], [30, 40]],)))
      >>> frames.features.shape, frames.points[1].tolist()
      ((5, 8), [7.5, 10.0])
    """

    kind: Literal["strokes"] = "strokes"
    spacing: float = 0.2

    @property
    def feature_dim(self) -> int:
        """Numbers of a frame."""
        return NUM_FEATURES

    @property
    def column_dim(self) -> int:
        """Numbers of a frame, as stored: the same as ``feature_dim``."""
        return NUM_FEATURES

    def __post_init__(self) -> None:
        check_bounds(self)
        require(0.01 <= self.spacing <= 100.0, f"spacing must be from 0.01 to 100; got {self.spacing}")

    def frames(self, ink: Ink, *, max_frames: int | None = None) -> InkFrames:
        """Features of a drawing.

        Args:
          ink: The drawing.
          max_frames: Most frames: the spacing is widened for a drawing that has more. None for no end.

        Raises:
          DataError: If there are more strokes than ``max_frames``.

        Example:
          >>> line = Ink(([[0, 0], [0, 9]],))
          >>> [len(StrokeFeatures().frames(line, max_frames=most).points) for most in (None, 4)]
          [6, 4]
        """
        unit = _unit(ink)
        paths = [_path(stroke) for stroke in ink.strokes]
        spacing, is_downsampled = self.spacing * unit, False
        counts = _counts(paths, spacing)
        if max_frames is not None and counts.sum() > max_frames:
            if len(paths) > max_frames:
                raise DataError(
                    f"the drawing has {len(paths):,} strokes, at most {max_frames:,} frames are read of it"
                )
            is_downsampled = True
            while counts.sum() > max_frames:
                # Strokes at their least, one or two frames, do not shrink any more; of many such one is left.
                spacing *= 1.25
                counts = _counts(paths, spacing)
                if counts.max() <= 2:
                    counts = np.ones_like(counts) if counts.sum() > max_frames else counts
        points = np.concatenate(
            [_resampled(stroke, path, count) for stroke, path, count in zip(ink.strokes, paths, counts)]
        )
        numbers = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        return InkFrames(
            features=_features(points, numbers, unit=unit, spacing=spacing),
            points=points,
            strokes=numbers,
            is_downsampled=is_downsampled,
        )


def distorted(ink: Ink, generator: np.random.Generator, *, strength: float = 1.0) -> Ink:
    """The same writing by another hand: slanted, turned, stretched, its strokes moved a little.

    Args:
      ink: The drawing.
      generator: Source of the draws.
      strength: How much: 1 turns, slants and stretches as `random_affine`, and moves each stroke by about a thirtieth
        of the unit of `StrokeFeatures`.

    Example:
      >>> ink = Ink(([[0, 0], [3, 4]], [[5, 0]]))
      >>> other = distorted(ink, np.random.default_rng(0))
      >>> [stroke.shape for stroke in other.strokes], bool(np.allclose(other.strokes[0], ink.strokes[0]))
      ([(2, 2), (1, 2)], False)
    """
    matrix = random_affine(generator, strength=strength)
    moves = generator.normal(0.0, strength * _unit(ink) / 30, (len(ink.strokes), 2))
    return Ink(tuple(stroke @ matrix + move for stroke, move in zip(ink.strokes, moves)))


def _unit(ink: Ink) -> float:
    """Median diagonal of the strokes that are more than a dot; of dots alone the diagonal of all, or 1."""
    diagonals = np.array([np.hypot(*np.ptp(stroke, axis=0)) for stroke in ink.strokes])
    lines = diagonals[diagonals > 0]
    if len(lines):
        return float(np.median(lines))
    whole = float(np.hypot(*np.ptp(np.concatenate(ink.strokes), axis=0)))
    return whole or 1.0


def _path(stroke: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Length of the way to each point."""
    steps = np.hypot(*np.diff(stroke.astype(np.float64), axis=0).T)
    return np.concatenate([[0.0], np.cumsum(steps)])


def _counts(paths: Iterable[npt.NDArray[np.float64]], spacing: float) -> npt.NDArray[np.int64]:
    """Frames of each stroke: one of a dot, else one at each end and more between."""
    lengths = np.array([path[-1] for path in paths])
    pieces = np.clip(
        np.round(lengths / spacing), 1, 2**31
    )  # whoever has so many is refused, or read more coarsely
    return np.where(lengths > 0, pieces + 1, 1).astype(np.int64)


def _resampled(
    stroke: npt.NDArray[np.float32], path: npt.NDArray[np.float64], count: int
) -> npt.NDArray[np.float32]:
    places = np.linspace(0.0, path[-1], count) if count > 1 else np.array([path[-1] / 2])
    return np.stack([np.interp(places, path, stroke[:, axis]) for axis in (0, 1)], axis=1).astype(np.float32)


def _features(
    points: npt.NDArray[np.float32], strokes: npt.NDArray[np.int32], *, unit: float, spacing: float
) -> npt.NDArray[np.float32]:
    features = np.zeros((len(points), NUM_FEATURES), np.float32)
    starts = np.diff(strokes, prepend=-1) > 0
    ends = np.diff(strokes, append=strokes[-1] + 1) > 0
    steps = np.diff(points.astype(np.float64), axis=0, prepend=points[:1])
    features[:, 0:2] = (points - points.mean(axis=0)) / unit * (0.1, 1.0)
    features[:, 2:4] = np.where(starts[:, None], 0.0, steps / spacing)
    features[:, 4:6] = np.where(starts[:, None], np.clip(steps / unit, -8.0, 8.0), 0.0)
    features[:, 6], features[:, 7] = starts, ends
    return features
