"""Images: files of any mode and size, what is refused, columns of one height, and strips of digits."""

import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transformer_jax.data.captions_config import DigitStrips
from transformer_jax.data.images import ImageFeatures, read_image, rendered
from transformer_jax.data.ink import Ink
from transformer_jax.data.sources.digits import WORDS, read_digits
from transformer_jax.errors import DataError


def png_header(width: int, height: int) -> bytes:
    """A file that claims a size and holds next to nothing."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0"))


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "P", "RGBA", "LA", "I;16", "CMYK"])
def test_any_mode_is_grey(tmp_path, mode):
    black = Image.new("L", (6, 4), 255)
    black.paste(0, (0, 0, 3, 4))
    wide = np.asarray(black).astype(np.uint16) * 257
    image = Image.fromarray(wide) if mode == "I;16" else black.convert(mode)
    path = tmp_path / ("one.tif" if mode in ("CMYK", "I;16") else "one.png")
    image.save(path)
    found = read_image(path)
    assert found.shape == (4, 6)
    assert found[:, :3].max() < 10 < 245 < found[:, 3:].min()


def test_what_is_transparent_is_white_and_an_animation_its_first_picture(tmp_path):
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert read_image(tmp_path / "clear.png").min() == 255
    pictures = [Image.new("L", (4, 4), value) for value in (0, 255)]
    pictures[0].save(tmp_path / "two.gif", save_all=True, append_images=pictures[1:])
    assert read_image(tmp_path / "two.gif").max() == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot identify|no image"),
        (b"GIF89a nothing", "cannot|no image"),
        (png_header(100_000, 100_000), "many times more than the 50,000,000"),
        (png_header(10_000, 10_000), "10,000 by 10,000 pixels, at most 50,000,000"),
        (png_header(30, 30), "cannot read the image|damaged"),
    ],
    ids=["empty", "cut off", "a bomb", "a large one", "a header alone"],
)
def test_damaged_files_are_named(tmp_path, content, message):
    path = tmp_path / "one.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    with pytest.raises(DataError, match="No such file"):
        read_image(tmp_path / "none.png")


def test_columns_of_one_height():
    image = np.full((8, 20), 255, np.uint8)
    image[:, :10] = 0
    frames = ImageFeatures(height=4).frames(image)
    assert frames.features.shape == (10, 4)
    np.testing.assert_allclose(frames.features[:, 0], [1.0] * 5 + [0.0] * 5, atol=1e-6)
    light = ImageFeatures(height=8, ink="light").frames(image).features
    np.testing.assert_allclose(light[:, 0], [0.0] * 10 + [1.0] * 10, atol=1e-6)
    narrow = ImageFeatures(height=4).frames(image, max_frames=5)
    assert (narrow.features.shape, narrow.is_downsampled) == ((5, 4), True)
    with pytest.raises(DataError, match="wanted an image"):
        ImageFeatures().frames(np.zeros((3, 0), np.uint8))
    with pytest.raises(DataError, match="wanted an image"):
        ImageFeatures().frames(np.zeros((3, 3), np.float32))


def test_strokes_are_drawn():
    ink = Ink(([[0, 0], [100, 0]], [[50, -20], [50, 20]], [[90, 15]]))
    image = rendered(ink, height=40)
    dark = image < 128
    ys, xs = np.nonzero(dark)
    middle = image.shape[1] // 2
    assert xs.min() < 6 < image.shape[1] - 6 < xs.max()
    assert ys.min() < 6 < 34 < ys.max()
    assert dark[5, middle - 3 : middle + 3].any(), "the upright stroke"
    assert not dark[5, : middle - 6].any()
    assert rendered(Ink(([[3, 3]],)), height=12).min() < 200, "a dot"
    frames = ImageFeatures(height=12, ink="light").frames(ink)
    assert frames.features.max() > 0.9, "ink is 1 in whatever colour files have it"


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Digits of our own, each a picture of its own, without the package."""
    generator = np.random.default_rng(0)
    rows = [
        ",".join(map(str, [*generator.integers(0, 17, 64).tolist(), number % 10])) for number in range(200)
    ]
    path = tmp_path / "digits.csv.gz"
    path.write_bytes(gzip.compress("\n".join(rows).encode()))
    monkeypatch.setattr("transformer_jax.data.sources.digits.locate_file", lambda dataset, name: path)
    return path


def test_strips_share_no_digit_between_parts(digits):
    images, truth = read_digits(digits)
    config = DigitStrips(num_train=60, num_development=10, num_test=20, max_digits=3, seed=1)
    splits = config.load()
    assert [len(part) for part in (splits.train, splits.development, splits.test)] == [60, 10, 20]

    def used(part) -> set[int]:
        found = set()
        for strip in part:
            says = strip.caption.split()
            assert strip.item.shape[0] == 12
            left = 0
            for word in says:
                place = next(
                    (index, x)
                    for x in range(left, left + 5)
                    for y in range(5)
                    for index in range(len(images))
                    if WORDS[truth[index]] == word
                    and np.array_equal(
                        strip.item[y : y + 8, x : x + 8], np.minimum(255, 16 * images[index].astype(int))
                    )
                )
                found.add(place[0])
                left = place[1] + 8
            assert left == strip.item.shape[1]
        return found

    train, development, test = (used(part) for part in (splits.train, splits.development, splits.test))
    assert train
    assert not train & development
    assert not train & test
    assert not development & test
    again = config.load()
    assert [one.caption for one in again.test] == [one.caption for one in splits.test]


def test_damaged_digits_are_named(digits):
    digits.write_bytes(gzip.compress(b"1,2,3\n"))
    with pytest.raises(DataError, match="rows of 64 pixels and a digit"):
        read_digits(digits)
    digits.write_bytes(io.BytesIO(b"no").read())
    with pytest.raises(DataError, match="no digits, or damaged"):
        read_digits(digits)
