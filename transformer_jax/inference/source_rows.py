"""Sources of a search as the inputs of a model: rows of token ids, or of features, padded to one length."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from transformer_jax.data.feature_batches import padded_frames
from transformer_jax.data.padding import pad_rows
from transformer_jax.decode.protocol import FeatureInputs, TokenInputs

__all__ = ["TOKEN_ROWS", "FeatureRows", "SourceRows", "TokenRows"]


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
