"""Random turns, slants and stretches of images and strips."""

import numpy as np
import pytest

from transformer_jax.data.captioned import Captioned
from transformer_jax.data.captions_config import CaptionsConfig, DigitStrips, InkFiles
from transformer_jax.data.distortion import distorted_image, random_affine
from transformer_jax.data.images import ImageFeatures
from transformer_jax.data.prepare_captions import _with_copies
from transformer_jax.data.sources.digits import DIGITS
from transformer_jax.data.sources.stored_files import is_at_hand

BAR = np.zeros((40, 200), np.uint8)
BAR[2:38, 2:198] = 255


def test_no_strength_changes_nothing() -> None:
    assert (distorted_image(BAR, np.random.default_rng(0), background=0, strength=0.0) == BAR).all()


def test_an_image_grows_so_that_no_ink_is_lost() -> None:
    for seed in range(20):
        generator = np.random.default_rng(seed)
        stretched = abs(np.linalg.det(random_affine(np.random.default_rng(seed))))
        found = distorted_image(BAR, generator, background=0)
        assert found.sum() == pytest.approx(stretched * BAR.sum(), rel=0.01)


def test_a_turn_moves_ink_as_the_matrix_says() -> None:
    generator = np.random.default_rng(4)
    matrix = random_affine(np.random.default_rng(4))
    image = np.zeros((41, 41), np.uint8)
    image[30, 8] = 255  # its middle is 10 below and 12 left of that of the image
    found = distorted_image(image, generator, background=0, keeps_size=True)
    rows, columns = np.mgrid[:41, :41]
    weights = found / found.sum()
    place = np.array([(weights * columns).sum(), (weights * rows).sum()]) - 20
    assert place == pytest.approx(np.array([-12.0, 10.0]) @ matrix, abs=0.4)


@pytest.mark.parametrize(("ink", "background"), [("dark", 255), ("light", 0)])
def test_copies_of_images_have_the_grounds_grey_at_their_edges(ink: str, background: int) -> None:
    image = np.full((8, 20), background, np.uint8)
    config = CaptionsConfig(
        dataset=InkFiles(train="none"), features=ImageFeatures(height=8, ink=ink), distorted_copies=2
    )
    first, *copies = _with_copies([Captioned(item=image, caption="a", name="one")], config)
    assert first.item is image
    assert len(copies) == 2
    assert all((copy.item == background).all() and copy.caption == "a" for copy in copies)


@pytest.mark.skipif(not is_at_hand(DIGITS.name), reason="scikit-learn is not installed")
def test_only_the_digits_of_training_strips_are_distorted() -> None:
    sizes = {"num_train": 5, "num_development": 3, "num_test": 3}
    plain, other = (DigitStrips(**sizes, distortion=strength).load() for strength in (0.0, 1.0))
    for left, right in zip(plain.development + plain.test, other.development + other.test, strict=True):
        assert (left.item == right.item).all()
    assert [one.caption for one in plain.train] == [one.caption for one in other.train]
    for left, right in zip(plain.train, other.train, strict=True):
        assert left.item.shape == right.item.shape
        assert (left.item != right.item).any()
