"""Random turns, slants and stretches: the same writing as by other hands."""

import numpy as np
import numpy.typing as npt


def random_affine(generator: np.random.Generator, *, strength: float = 1.0) -> npt.NDArray[np.float64]:
    """A matrix that turns by up to 5 degrees, slants by up to 0.25 and stretches each axis by up to a fifth.

    Args:
      generator: Source of the draws, four numbers.
      strength: Factor of all three.

    Returns:
      ``[2, 2]``: a point is a row ``(x, y)``, multiplied from the left.

    Example:
      >>> random_affine(np.random.default_rng(0), strength=0.0).tolist()
      [[1.0, 0.0], [0.0, 1.0]]
    """
    turn, slant, width, height = strength * generator.uniform(-1, 1, 4)
    angle = np.deg2rad(5.0) * turn
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    shear = np.array([[1.0, 0.0], [0.25 * slant, 1.0]])
    stretch = np.diag([1.0 + 0.2 * width, 1.0 + 0.2 * height])
    return rotation @ shear @ stretch


def distorted_image(
    pixels: npt.NDArray[np.uint8],
    generator: np.random.Generator,
    *,
    background: int,
    strength: float = 1.0,
    keeps_size: bool = False,
) -> npt.NDArray[np.uint8]:
    """An image after `random_affine` around its middle.

    Args:
      pixels: ``[height, width]``.
      generator: Source of the draws.
      background: Grey of what comes in at the edges.
      strength: Factor of turn, slant and stretch.
      keeps_size: Cut what leaves the image; else it grows, so that nothing is lost.

    Returns:
      The image, of another size unless it is kept.

    Example:
      >>> line = np.zeros((4, 40), np.uint8)
      >>> line[2] = 255
      >>> found = distorted_image(line, np.random.default_rng(1), background=0)
      >>> found.shape[1] > 30, bool(found.max() > 100)
      (True, True)
    """
    from PIL import Image

    matrix = random_affine(generator, strength=strength)
    height, width = pixels.shape
    old_middle = np.array([width, height]) / 2
    size = (width, height)
    if not keeps_size:
        corners = np.array([[x, y] for x in (0, width) for y in (0, height)]) - old_middle
        reach = np.abs(corners @ matrix).max(axis=0)
        size = (max(1, int(np.ceil(2 * reach[0]))), max(1, int(np.ceil(2 * reach[1]))))
    inverse = np.linalg.inv(matrix)
    shift = old_middle - np.array(size) / 2 @ inverse
    # Pillow asks where each pixel of the result comes from: x = a X + b Y + c, y = d X + e Y + f.
    coefficients = (inverse[0, 0], inverse[1, 0], shift[0], inverse[0, 1], inverse[1, 1], shift[1])
    turned = Image.fromarray(pixels).transform(
        size, Image.Transform.AFFINE, coefficients, resample=Image.Resampling.BILINEAR, fillcolor=background
    )
    return np.asarray(turned)
