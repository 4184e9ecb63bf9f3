"""Sources of a search as the inputs of a model: rows of token ids, or of features, padded to one length."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from transformer_jax.data.captions_config import ItemFeatures
from transformer_jax.data.feature_batches import padded_frames
from transformer_jax.data.images import ImageFeatures
from transformer_jax.data.padding import pad_rows
from transformer_jax.data.prepare_captions import item_inputs
from transformer_jax.decode.protocol import FeatureInputs, ImageInputs, TokenInputs

__all__ = ["TOKEN_ROWS", "FeatureRows", "ImageRows", "SourceRows", "TokenRows", "rows_of_items"]


@runtime_checkable
class SourceRows(Protocol):
    """How sources, each with a ``len``, become the inputs of a model."""

    @property
    def unit(self) -> str:
        """What a source consists of, in the plural."""
        ...

    def make(self, sources: Sequence[Any], *, num_rows: int, length: int) -> Any:
        """The sources as the first rows of a batch of inputs; the other rows are empty."""
        ...

    def abstract(self, num_rows: int, length: int) -> Any:
        """Shapes and dtypes of such a batch, to compile for."""
        ...


@dataclasses.dataclass(frozen=True)
class TokenRows:
    """Token ids.

    Example:
      >>> TokenRows().make([[5, 6], [7]], num_rows=2, length=2).tokens.tolist()
      [[5, 6], [7, 0]]
    """

    unit = "tokens"

    def make(self, sources: Sequence[Sequence[int]], *, num_rows: int, length: int) -> TokenInputs:
        """Rows of ids."""
        return TokenInputs(*pad_rows(sources, num_rows=num_rows, length=length))

    def abstract(self, num_rows: int, length: int) -> Any:
        """Shapes and dtypes alone."""
        return TokenInputs.abstract(num_rows, length)


TOKEN_ROWS = TokenRows()


@dataclasses.dataclass(frozen=True)
class ImageRows:
    """Images of one height as their columns, arrays ``[width, height]``.

    Args:
      height: Pixels.

    Example:
      >>> rows = ImageRows(2).make([np.ones((3, 2))], num_rows=2, length=4)
      >>> rows.pixels.shape, rows.sizes.tolist()
      ((2, 2, 4, 1), [[2, 3], [0, 0]])
    """

    height: int
    unit = "columns"

    def make(self, sources: Sequence[Any], *, num_rows: int, length: int) -> ImageInputs:
        """Rows of images."""
        frames, lengths = padded_frames(sources, num_rows, length, self.height)
        return ImageInputs(*item_inputs(ImageFeatures(height=self.height), frames, lengths))

    def abstract(self, num_rows: int, length: int) -> Any:
        """Shapes and dtypes alone."""
        return ImageInputs.abstract(num_rows, self.height, length, 1)


@dataclasses.dataclass(frozen=True)
class FeatureRows:
    """Feature frames, arrays ``[frames, dim]``.

    Args:
      dim: Numbers of a frame.

    Example:
      >>> FeatureRows(3).make([np.ones((2, 3))], num_rows=2, length=4).lengths.tolist()
      [2, 0]
    """

    dim: int
    unit = "frames"

    def make(self, sources: Sequence[Any], *, num_rows: int, length: int) -> FeatureInputs:
        """Rows of frames."""
        return FeatureInputs(*padded_frames(sources, num_rows, length, self.dim))

    def abstract(self, num_rows: int, length: int) -> Any:
        """Shapes and dtypes alone."""
        return FeatureInputs.abstract(num_rows, length, self.dim)


def rows_of_items(features: ItemFeatures) -> FeatureRows | ImageRows:
    """How drawings, as frames of these features, become the inputs of a model.

    Example:
      >>> rows_of_items(ImageFeatures(height=8))
      ImageRows(height=8)
    """
    if isinstance(features, ImageFeatures):
        return ImageRows(features.height)
    return FeatureRows(features.feature_dim)
