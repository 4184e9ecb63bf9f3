"""Handwritten digits of 8 by 8 pixels, as scikit-learn ships them, and strips of several as words."""

import csv
import dataclasses
import gzip
import importlib.util
import io
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from transformer_jax.bounds import Count, Seed, Width, check_at_least, check_bounds, require_field
from transformer_jax.data.captioned import Captioned, CaptionSplits
from transformer_jax.data.distortion import distorted_image
from transformer_jax.data.hash_fraction import hash_fraction
from transformer_jax.data.sources.dataset import Dataset, dataset_files
from transformer_jax.data.sources.stored_files import locate_file
from transformer_jax.errors import DataError, require

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

STRIP_HEIGHT = 12
"""Pixels of a strip: a digit moves up and down in it."""

TEST_SHARE, DEVELOPMENT_SHARE = 0.2, 0.1


def _packaged_digits() -> Path:
    """The file inside the package scikit-learn, found without importing it."""
    specification = importlib.util.find_spec("sklearn")
    if specification is None or specification.origin is None:
        raise DataError(
            "data set 'digits': the package scikit-learn is not installed; run: pip install 'transformer-jax[digits]'"
        )
    path = Path(specification.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():
        raise DataError(f"{path}: no such file; run: pip install --force-reinstall scikit-learn")
    return path


DIGITS = Dataset(
    name="digits",
    description="1,797 handwritten digits of 8 by 8 pixels, as in the package scikit-learn; needs no download",
    licence="CC BY 4.0 (UCI Machine Learning Repository)",
    citation="Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, https://doi.org/10.24432/C50P49",
    homepage="https://archive.ics.uci.edu/dataset/80",
    files=dataset_files(
        None,
        ("digits.csv.gz", 57523, "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"),
    ),
    packaged=_packaged_digits,
)


def read_digits(path: Path) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Images ``[digits, 8, 8]``, of 0 to 16, and what they are.

    Raises:
      DataError: If a row is no digit.
    """
    try:
        text = gzip.decompress(path.read_bytes()).decode("ascii")
        rows = [[int(float(value)) for value in row] for row in csv.reader(io.StringIO(text)) if row]
        found = np.array(rows, np.int64)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: no digits, or damaged: {error}") from None
    if found.ndim != 2 or found.shape[1] != 65 or found.min() < 0 or found[:, 64].max() > 9:
        raise DataError(f"{path}: wanted rows of 64 pixels and a digit, got an array {found.shape}")
    return found[:, :64].clip(0, 16).reshape(-1, 8, 8).astype(np.uint8), found[:, 64].tolist()


@dataclasses.dataclass(frozen=True, kw_only=True)
class DigitStrips:
    """Strips of handwritten digits, captioned by the words for them; no digit stands in two of the three parts.

    Digits lie side by side with gaps of 0 to 4 pixels, each moved up or down by up to 4. Light on dark.

    Attributes:
      num_train: Training strips.
      num_development: Strips to select checkpoints on.
      num_test: Strips to report scores on.
      max_digits: Most digits of a strip; each number from 1 on is as frequent.
      distortion: How much each training digit is turned, slanted and stretched, see
        `transformer_jax.data.distortion.random_affine`; 0 leaves all as they are.
      seed: Of the draws.

    Raises:
      ConfigError: If a number is out of range.
    """

    kind: Literal["digit_strips"] = "digit_strips"
    num_train: Count = 6000
    num_development: Count = 300
    num_test: Count = 1000
    max_digits: Width = 5
    distortion: float = 0.0
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(1, num_train=self.num_train, max_digits=self.max_digits)
        check_at_least(0, num_development=self.num_development, num_test=self.num_test, seed=self.seed)
        require_field(0.0 <= self.distortion <= 4.0, self, "distortion", "between 0 and 4")
        require(self.max_digits <= 100, f"max_digits must be at most 100; got {self.max_digits}")

    def load(self) -> CaptionSplits:
        """Draw the three parts.

        Raises:
          DataError: If the digits cannot be found.
        """
        images, digits = read_digits(locate_file(DIGITS, "digits.csv.gz"))
        shares = np.array([hash_fraction(image.tobytes().hex()) for image in images])
        parts = np.digitize(
            shares, [TEST_SHARE, TEST_SHARE + DEVELOPMENT_SHARE]
        )  # 0 test, 1 development, 2 train
        generator = np.random.default_rng(self.seed)
        train, development, test = (
            self._strips(images, digits, np.flatnonzero(parts == part), count, generator, distortion)
            for part, count, distortion in (
                (2, self.num_train, self.distortion),
                (1, self.num_development, 0.0),
                (0, self.num_test, 0.0),
            )
        )
        counts = np.bincount(parts, minlength=3)
        note = f"strips of {counts[2]:,} training, {counts[1]:,} development and {counts[0]:,} test digits"
        return CaptionSplits(train=train, development=development, test=test, notes=(note,))

    def _strips(
        self,
        images: npt.NDArray[np.uint8],
        digits: list[int],
        members: npt.NDArray[np.int64],
        count: int,
        generator: np.random.Generator,
        distortion: float,
    ) -> list[Captioned]:
        found, hands = (
            [],
            np.random.default_rng(self.seed),
        )  # the strips are the same ones whatever the distortion
        for number in range(count):
            chosen = generator.choice(members, generator.integers(1, self.max_digits + 1))
            gaps = generator.integers(0, 5, len(chosen))
            strip = np.zeros((STRIP_HEIGHT, 8 * len(chosen) + int(gaps.sum())), np.uint8)
            left = 0
            for index, gap in zip(chosen.tolist(), gaps.tolist(), strict=True):
                left += gap
                top = int(generator.integers(0, STRIP_HEIGHT - 7))
                digit = np.minimum(255, 16 * images[index].astype(np.int64)).astype(np.uint8)
                if distortion:
                    digit = distorted_image(digit, hands, background=0, strength=distortion, keeps_size=True)
                strip[top : top + 8, left : left + 8] = digit
                left += 8
            caption = " ".join(WORDS[digits[index]] for index in chosen.tolist())
            found.append(Captioned(item=strip, caption=caption, name=f"strip {number + 1}"))
        return found
