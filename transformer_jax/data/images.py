"""Images to read: files, drawings rendered as images, and their columns as frames of one height."""

import dataclasses
import os
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from transformer_jax.bounds import Width, check_at_least, check_bounds
from transformer_jax.data.ink import Ink
from transformer_jax.errors import DataError, require, shortened

MAX_PIXELS = 50_000_000
"""Pixels of an image at most; a file that unpacks to more is refused before it is unpacked."""

SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".webp")
"""Of files that are taken for images."""

Pixels = npt.NDArray[np.uint8]
"""``[height, width]``, 0 is black."""


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFrames:
    """An image as its columns.

    Attributes:
      features: ``[width, height]``, 0 is the background and 1 ink.
      is_downsampled: Whether the image was made narrower to fit.

    Example:
      >>> frames = ImageFeatures(height=2).frames(np.zeros((2, 6), np.uint8), max_frames=3)
      >>> frames.features.tolist(), frames.is_downsampled
      ([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]], True)
    """

    features: npt.NDArray[np.float32]
    is_downsampled: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageFeatures:
    """Images of one height, in grey.

    An image is scaled to the height, its sides in proportion; one that is then too wide is made narrower. Strokes are
    drawn as an image first.

    Attributes:
      height: Pixels.
      ink: Whether writing is ``"dark"`` on a light ground, or ``"light"`` on a dark one.

    Raises:
      ConfigError: If the height is below 1.

    Example:
      >>> frames = ImageFeatures(height=4).frames(np.full((8, 6), 255, np.uint8))
      >>> frames.features.shape, float(frames.features.max())
      ((3, 4), 0.0)
    """

    kind: Literal["image"] = "image"
    height: Width = 32
    ink: Literal["dark", "light"] = "dark"

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(1, height=self.height)
        require(self.height <= 2048, f"height must be at most 2048; got {self.height}")

    @property
    def feature_dim(self) -> int:
        """Channels: one, of grey."""
        return 1

    @property
    def column_dim(self) -> int:
        """Numbers of a column."""
        return self.height

    def frames(self, item: Ink | Pixels, *, max_frames: int | None = None) -> ImageFrames:
        """The columns of an image.

        Args:
          item: An image ``[height, width]``, or strokes.
          max_frames: Most columns; None for no end.

        Raises:
          DataError: If there is no pixel, or the array is not of bytes or of another shape.

        Example:
          >>> light = ImageFeatures(height=1, ink="light")
          >>> light.frames(np.array([[0, 51, 255]], np.uint8)).features[:, 0].astype(float).round(1).tolist()
          [0.0, 0.2, 1.0]
        """
        pixels = rendered(item, height=self.height) if isinstance(item, Ink) else np.asarray(item)
        if pixels.ndim != 2 or not pixels.size or pixels.dtype != np.uint8:
            raise DataError(f"wanted an image [height, width] of bytes; got {pixels.dtype} {pixels.shape}")
        width = max(1, round(pixels.shape[1] * self.height / pixels.shape[0]))
        is_downsampled = max_frames is not None and width > max_frames
        width = width if max_frames is None else min(width, max_frames)
        if pixels.shape != (self.height, width):
            from PIL import Image

            scaled = Image.fromarray(pixels).resize((width, self.height), Image.Resampling.BOX)
            pixels = np.asarray(scaled)
        light = pixels.T.astype(np.float32) / 255.0
        is_dark = self.ink == "dark" or isinstance(item, Ink)
        return ImageFrames(features=1.0 - light if is_dark else light, is_downsampled=is_downsampled)


def read_image(path: str | os.PathLike[str]) -> Pixels:
    """An image file in grey, whatever mode and size it has; what is transparent becomes white.

    Of an animation the first picture is read.

    Args:
      path: The file.

    Raises:
      DataError: If it is missing, damaged, no image, or unpacks to more than `MAX_PIXELS` pixels.

    Example:
      >>> import tempfile
      >>> from PIL import Image
      >>> with tempfile.TemporaryDirectory() as folder:
      ...   Image.fromarray(np.array([[0, 128, 255]], np.uint8)).save(f"{folder}/grey.png")
      ...   read_image(f"{folder}/grey.png").tolist()
      [[0, 128, 255]]
    """
    from PIL import Image, ImageOps

    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limits of size: ours is below
            with Image.open(path) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    raise DataError(
                        f"{path}: {opened.width:,} by {opened.height:,} pixels, at most {MAX_PIXELS:,} are read"
                    )
                image: Image.Image = ImageOps.exif_transpose(opened)
                if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                    coloured = image.convert("RGBA")
                    ground = Image.new("RGBA", coloured.size, "white")
                    image = Image.alpha_composite(ground, coloured)
                elif image.mode.startswith("I") or image.mode == "F":
                    return _of_wide_numbers(np.asarray(image))
                return np.array(image.convert("L"), np.uint8)
    except DataError:
        raise
    except OSError as error:
        reason = error.strerror or shortened(str(error), 80)
        raise DataError(f"{path}: cannot read the image: {reason}") from None
    except Image.DecompressionBombError:
        raise DataError(f"{path}: many times more than the {MAX_PIXELS:,} pixels that are read") from None
    except (ValueError, SyntaxError, EOFError) as error:
        raise DataError(f"{path}: no image, or damaged: {shortened(str(error), 80)}") from None


def _of_wide_numbers(values: npt.NDArray[Any]) -> Pixels:
    """Grey of 16 bits and more as bytes."""
    values = np.nan_to_num(values.astype(np.float64))
    most = 65535.0 if values.max() > 255 else 255.0
    return np.clip(np.round(255.0 * values / most), 0, 255).astype(np.uint8)


def rendered(ink: Ink, *, height: int) -> Pixels:
    """Strokes as an image ``[height, width]``, black on white, with a margin.

    Args:
      ink: The strokes.
      height: Pixels; the width follows, sides in proportion.

    Example:
      >>> image = rendered(Ink(([[0, 0], [10, 10]],)), height=20)
      >>> image.shape[0], bool(image.min() < 64)
      (20, True)
    """
    from PIL import Image, ImageDraw

    low = np.min([stroke.min(axis=0) for stroke in ink.strokes], axis=0)
    size = np.max([stroke.max(axis=0) for stroke in ink.strokes], axis=0) - low
    over = 4  # drawn larger, so that edges are smooth
    margin = max(1.0, 0.06 * height)
    scale = (height - 2 * margin) / max(float(size[1]), float(size[0]) / 20.0, 1e-6)
    width = round(float(size[0]) * scale + 2 * margin)
    image = Image.new("L", (over * max(width, 1), over * height), 255)
    pen = ImageDraw.Draw(image)
    thick = max(over, round(over * height / 32))
    shift = np.array([margin, (height - float(size[1]) * scale) / 2])
    for stroke in ink.strokes:
        points = [tuple(point) for point in (over * ((stroke - low) * scale + shift)).tolist()]
        if len(points) > 1:
            pen.line(points, fill=0, width=thick, joint="curve")
        for x, y in (points[0], points[-1]):
            pen.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=0)
    return np.array(image.resize((max(width, 1), height), Image.Resampling.BOX), np.uint8)
