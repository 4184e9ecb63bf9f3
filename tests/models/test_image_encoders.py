"""Encoders of images: padding changes nothing, vectors come column by column, and a plain convolution as oracle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.models import ConvolutionalImageEncoder, PatchImageEncoder

ENCODERS = {
    "convolutional": ConvolutionalImageEncoder(channels=(4, 8)),
    "patches": PatchImageEncoder(
        patch_size=4,
        model_dim=8,
        num_heads=2,
        num_kv_heads=2,
        feed_forward_dim=8,
        num_layers=1,
        dropout_rate=0.0,
    ),
}
SIZES = np.array([[8, 11], [8, 4], [5, 7], [0, 0]])


def images(height: int, width: int, fill: float) -> jnp.ndarray:
    generator = np.random.default_rng(0)
    pixels = np.full((4, height, width, 1), fill, np.float32)
    for row, (own_height, own_width) in enumerate(SIZES):
        pixels[row, :own_height, :own_width] = generator.normal(size=(own_height, own_width, 1))
    return jnp.asarray(pixels)


@pytest.mark.parametrize("name", ENCODERS)
def test_padding_changes_nothing(name):
    encoder = ENCODERS[name].build(1, rngs=nnx.Rngs(0))
    run = jax.jit(encoder)
    vectors, lengths = run((images(8, 11, 0.0), jnp.asarray(SIZES)))
    assert lengths.tolist() == [6, 2, 4, 0]  # of a quarter of height and width, rounded up
    padded, again = run((images(12, 16, np.nan), jnp.asarray(SIZES)))
    assert again.tolist() == lengths.tolist()
    for row, length in enumerate(lengths.tolist()):
        np.testing.assert_allclose(padded[row, :length], vectors[row, :length], rtol=0, atol=2e-5)
        assert not np.asarray(padded[row, length:]).any()


def test_one_block_matches_loops():
    """A convolution, normalisation and the maximum over 2 by 2, by loops; then columns one after the other."""
    encoder = ConvolutionalImageEncoder(channels=(4,)).build(1, rngs=nnx.Rngs(0))
    pixels = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    found, lengths = encoder((jnp.asarray(pixels)[None, ..., None], jnp.array([[5, 6]])))
    kernel = np.asarray(encoder.convolutions[0].kernel[...])[:, :, 0]
    wide = np.pad(pixels, 1)
    grid = np.zeros((6, 6, 4))
    for y in range(5):
        for x in range(6):
            summed = np.einsum("yx,yxc->c", wide[y : y + 3, x : x + 3], kernel)
            normal = (summed - summed.mean()) / np.sqrt(summed.var() + 1e-5)
            grid[y, x] = np.maximum(normal, 0)
    wanted = grid.reshape(3, 2, 3, 2, 4).max(axis=(1, 3))
    for y in range(3):
        for x in range(3):
            wanted[y, x] += [np.sin(y), np.cos(y), np.sin(x), np.cos(x)]
    wanted = wanted.swapaxes(0, 1).reshape(9, 4)
    assert lengths.tolist() == [9]
    np.testing.assert_allclose(found[0], wanted, rtol=0, atol=1e-4)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="channels must name"):
        ConvolutionalImageEncoder(channels=())
    with pytest.raises(ConfigError, match="last of channels must be a multiple of 4"):
        ConvolutionalImageEncoder(channels=(4, 6))
    with pytest.raises(ConfigError, match="kernel_size must be odd"):
        ConvolutionalImageEncoder(kernel_size=2)
    with pytest.raises(ConfigError, match="multiple of 4"):
        PatchImageEncoder(
            patch_size=4, model_dim=6, num_heads=1, num_kv_heads=1, feed_forward_dim=8, num_layers=1
        )
    encoder = ENCODERS["convolutional"].build(1, rngs=nnx.Rngs(0))
    with pytest.raises(ShapeError, match=r"pixels must be \[batch, height, width, 1\]"):
        encoder((jnp.zeros((1, 8, 8, 3)), jnp.array([[8, 8]])))
