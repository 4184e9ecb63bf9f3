"""Encoders of images: a grid of vectors, by convolutions or by self-attention over patches.

A module is called with `ImageInputs`, or any pair of ``(pixels, sizes)``. The vectors of a row's own grid come first,
column by column from left to right, and padding changes nothing, whatever it holds.
"""

import dataclasses
import itertools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from transformer_jax.bounds import Layers, Width, check_bounds
from transformer_jax.errors import ShapeError, require
from transformer_jax.functional import AttentionMask, dropout, split_key
from transformer_jax.functional.dropout import check_rate
from transformer_jax.functional.positions import sinusoidal_table
from transformer_jax.models.transformer_choices import TransformerFields, check_choices, layer_config_of
from transformer_jax.nn.feed_forward import Activation
from transformer_jax.nn.linear import Linear
from transformer_jax.nn.norms import make_norm, normalized
from transformer_jax.nn.position_encodings import NoPositions, Positions
from transformer_jax.nn.stacks import EncoderStack, check_stack
from transformer_jax.typing import Array, Bool, Float, Int

__all__ = [
    "ConvolutionalImage",
    "ConvolutionalImageEncoder",
    "ImageEncoder",
    "PatchImage",
    "PatchImageEncoder",
]

_Encoded = tuple[Float[Array, "batch len features"], Int[Array, " batch"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvolutionalImageEncoder:
    """Blocks of a convolution, normalisation, rectification, and a maximum over 2 by 2.

    Attributes:
      kind: Tag of the union of encoders.
      channels: Channels of each block; each halves height and width.
      kernel_size: Height and width of the kernels, odd.
      dropout_rate: On the vectors.

    Raises:
      ConfigError: If there is no block, or a value is out of range.

    Example:
      >>> encoder = ConvolutionalImageEncoder(channels=(8, 16))
      >>> encoder.output_dim, encoder.reduction
      (16, 4)

    Source: Zhang et al. 2017, "Watch, attend and parse", https://doi.org/10.1016/j.patcog.2017.06.017, section 3.1.
    """

    kind: Literal["convolutional"] = "convolutional"
    channels: tuple[Width, ...] = (32, 64, 128)
    kernel_size: Width = 3
    dropout_rate: float = 0.0

    def __post_init__(self) -> None:
        check_bounds(self)
        require(
            1 <= len(self.channels) <= 8 and min(self.channels) >= 1,
            f"channels must name one to eight blocks of at least 1; got {self.channels}",
        )
        last = self.channels[-1]
        require(last % 4 == 0, f"the last of channels must be a multiple of 4, for the positions; got {last}")
        require(
            self.kernel_size % 2 == 1 and 1 <= self.kernel_size <= 31,
            f"kernel_size must be odd, from 1 to 31; got {self.kernel_size}",
        )
        check_rate("dropout_rate", self.dropout_rate)

    @property
    def output_dim(self) -> int:
        """Width of a vector."""
        return self.channels[-1]

    @property
    def reduction(self) -> int:
        """Pixels for each vector, in height and in width."""
        return int(2 ** len(self.channels))

    @property
    def source_limit(self) -> int | None:
        """None: images of any size."""
        return None

    def build(self, feature_dim: int, *, rngs: nnx.Rngs) -> "ConvolutionalImage":
        """The encoder of images of so many channels."""
        return ConvolutionalImage(self, num_channels=feature_dim, rngs=rngs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchImageEncoder(TransformerFields):
    """A Transformer over square patches, of a width that is a multiple of 4.

    What is not named here is as in `TransformerFields`.

    Attributes:
      kind: Tag of the union of encoders.
      patch_size: Height and width of a patch, in pixels.
      num_layers: Layers.

    Raises:
      ConfigError: If a value is out of range.
      ShapeError: If the numbers of heads do not divide.

    Example:
      >>> encoder = PatchImageEncoder(
      ...   patch_size=4, model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=16, num_layers=1)
      >>> encoder.reduction
      4

    Source: Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929, section 3.1.
    """

    kind: Literal["patches"] = "patches"
    patch_size: Width
    num_layers: Layers
    activation: Activation = "gelu"

    def __post_init__(self) -> None:
        check_choices(self, counts=("num_layers", "patch_size"), bidirectional=(True,))
        require(self.model_dim % 4 == 0, f"model_dim must be a multiple of 4; got {self.model_dim}")
        check_stack(self.layer_config(), self.positions)

    @property
    def positions(self) -> Positions:
        """Of the stack: none, since the patches bring theirs along."""
        return NoPositions()

    @property
    def dtype(self) -> Literal["float32"]:
        """Of matrix products."""
        return "float32"

    @property
    def output_dim(self) -> int:
        """Width of a vector."""
        return self.model_dim

    @property
    def reduction(self) -> int:
        """Pixels for each vector, in height and in width."""
        return self.patch_size

    @property
    def source_limit(self) -> int | None:
        """None: images of any size."""
        return None

    def layer_config(self) -> Any:
        """Sizes and choices of every layer."""
        return layer_config_of(self, self_attention="softmax", attention_bias=True)

    def build(self, feature_dim: int, *, rngs: nnx.Rngs) -> "PatchImage":
        """The encoder of images of so many channels."""
        return PatchImage(self, num_channels=feature_dim, rngs=rngs)


class ConvolutionalImage(nnx.Module):
    r"""Convolutions over an image, with the position of each vector added in both directions.

    .. math:: g^l = \max_{2 \times 2} \max(0, \mathrm{norm}(K^l * g^{l-1})), \quad m_{yx} = g^L_{yx} + [P_y; P_x]

    Args:
      config: Sizes and choices.
      num_channels: Channels of the images.
      rngs: Source of the initial parameters.

    Example:
      >>> encoder = ConvolutionalImageEncoder(channels=(4, 8)).build(1, rngs=nnx.Rngs(0))
      >>> vectors, lengths = encoder((jnp.ones((2, 8, 12, 1)), jnp.array([[8, 12], [8, 5]])))
      >>> vectors.shape, lengths.tolist()
      ((2, 6, 8), [6, 4])

    Source: Zhang et al. 2017, "Watch, attend and parse", https://doi.org/10.1016/j.patcog.2017.06.017, section 3.1;
    positions: Deng et al. 2017, https://arxiv.org/abs/1609.04938, section 4.
    """

    def __init__(self, config: ConvolutionalImageEncoder, *, num_channels: int, rngs: nnx.Rngs) -> None:
        self.config, self.num_channels = config, num_channels
        size = (config.kernel_size, config.kernel_size)
        widths = (num_channels, *config.channels)
        self.convolutions = nnx.List(
            [
                nnx.Conv(before, after, size, padding="SAME", rngs=rngs)
                for before, after in itertools.pairwise(widths)
            ]
        )
        self.norms = nnx.List([make_norm("layer", width, epsilon=1e-5) for width in config.channels])

    def __call__(self, inputs: Any, *, rng_key: jax.Array | None = None) -> _Encoded:
        """Vectors of an image's grid.

        Args:
          inputs: ``(pixels [batch, height, width, channels], sizes [batch, 2])``.
          rng_key: Draws dropout; ``None`` = evaluation.

        Returns:
          ``[batch, len, output_dim]``, zeros behind each row's length, and the lengths.

        Raises:
          ShapeError: If the images have other channels.
        """
        grid, sizes = _prepared(inputs, self.num_channels)
        for convolve, norm in zip(self.convolutions, self.norms, strict=True):
            grid = jax.nn.relu(normalized(norm, convolve(grid)))
            # What a kernel reads beyond the edge is zero, and so is what the maximum reads there.
            grid = jnp.where(_valid(sizes, grid.shape)[..., None], grid, 0.0)
            grid = _even(grid)
            grid = jnp.maximum(grid[:, ::2], grid[:, 1::2])
            grid = jnp.maximum(grid[:, :, ::2], grid[:, :, 1::2])
            sizes = -(-sizes // 2)
        vectors, lengths = _in_front(_placed(grid), sizes)
        return dropout(vectors, self.config.dropout_rate, rng_key), lengths


class PatchImage(nnx.Module):
    r"""Self-attention over the patches of an image.

    .. math:: m = \mathrm{stack}(W x_{yx} + b + [P_y; P_x])

    Args:
      config: Sizes and choices.
      num_channels: Channels of the images.
      rngs: Source of the initial parameters.

    Example:
      >>> config = PatchImageEncoder(
      ...   patch_size=4, model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=16, num_layers=1)
      >>> encoder = config.build(1, rngs=nnx.Rngs(0))
      >>> vectors, lengths = encoder((jnp.ones((2, 8, 12, 1)), jnp.array([[8, 12], [8, 5]])))
      >>> vectors.shape, lengths.tolist()
      ((2, 6, 8), [6, 4])

    Source: Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929, section 3.1.
    """

    def __init__(self, config: PatchImageEncoder, *, num_channels: int, rngs: nnx.Rngs) -> None:
        self.config, self.num_channels = config, num_channels
        width = config.patch_size**2 * num_channels
        self.input = Linear(width, (config.model_dim,), use_bias=True, rngs=rngs)
        self.stack = EncoderStack(
            config.layer_config(),
            config.num_layers,
            positions=config.positions,
            final_norm=config.has_final_norm,
            rngs=rngs,
        )

    def __call__(self, inputs: Any, *, rng_key: jax.Array | None = None) -> _Encoded:
        """Vectors of an image's patches.

        Args:
          inputs: ``(pixels [batch, height, width, channels], sizes [batch, 2])``.
          rng_key: Draws dropout; ``None`` = evaluation.

        Returns:
          ``[batch, len, output_dim]``, zeros behind each row's length, and the lengths.

        Raises:
          ShapeError: If the images have other channels.
        """
        pixels, sizes = _prepared(inputs, self.num_channels)
        size = self.config.patch_size
        height, width = pixels.shape[1:3]
        pixels = jnp.pad(pixels, ((0, 0), (0, -height % size), (0, -width % size), (0, 0)))
        patches = rearrange(pixels, "b (y h) (x w) c -> b y x (h w c)", h=size, w=size)
        vectors, lengths = _in_front(_placed(self.input(patches)), -(-sizes // size))
        mask = AttentionMask.from_lengths(lengths, vectors.shape[1])
        stack_key = split_key(rng_key, 1)[0]
        valid = jnp.arange(vectors.shape[1], dtype=jnp.int32)[None] < lengths[:, None]
        vectors = self.stack(vectors, mask=mask, valid=valid, rng_key=stack_key)
        return jnp.where(valid[..., None], vectors, 0.0), lengths


ImageEncoder = ConvolutionalImageEncoder | PatchImageEncoder
"""Union of the configs of encoders of images."""


def _prepared(inputs: Any, num_channels: int) -> tuple[Array, Array]:
    """Pixels with zeros outside of each row's size, and the sizes."""
    pixels, sizes = (jnp.asarray(part) for part in inputs)
    if pixels.ndim != 4 or pixels.shape[-1] != num_channels:
        raise ShapeError(f"pixels must be [batch, height, width, {num_channels}]; got {pixels.shape}")
    return jnp.where(_valid(sizes, pixels.shape)[..., None], pixels, 0.0), sizes


def _valid(sizes: Array, shape: tuple[int, ...]) -> Bool[Array, "batch height width"]:
    rows = jnp.arange(shape[1], dtype=jnp.int32)[None, :, None] < sizes[:, 0, None, None]
    columns = jnp.arange(shape[2], dtype=jnp.int32)[None, None, :] < sizes[:, 1, None, None]
    return rows & columns


def _even(grid: Array) -> Array:
    """With a row and a column of zeros where there is an odd number."""
    return jnp.pad(grid, ((0, 0), (0, grid.shape[1] % 2), (0, grid.shape[2] % 2), (0, 0)))


def _placed(grid: Array) -> Array:
    """Vectors with their row and column added: sines of one in the first half of the channels, of the other behind."""
    height, width, channels = grid.shape[1:]
    half = channels // 2
    rows = sinusoidal_table(height, half)[:, None]
    columns = sinusoidal_table(width, half)[None, :]
    both = [jnp.broadcast_to(one, (height, width, half)) for one in (rows, columns)]
    return grid + jnp.concatenate(both, axis=-1)[None]


def _in_front(grid: Array, sizes: Array) -> tuple[Array, Array]:
    """The vectors of each row's own grid, column by column, zeros behind them; and how many there are."""
    valid = rearrange(_valid(sizes, grid.shape), "b y x -> b (x y)")
    vectors = rearrange(grid, "b y x c -> b (x y) c")
    order = jnp.argsort(~valid, axis=1, stable=True)
    vectors = jnp.take_along_axis(jnp.where(valid[..., None], vectors, 0.0), order[..., None], axis=1)
    return vectors, valid.sum(axis=1, dtype=jnp.int32)
