"""Batches of texts with what is to be predicted of them: a class, a label for each token, or masked tokens.

All arrays are int32. A row of length 0 fills up a short batch: its tokens are `PAD_ID`, its targets -1, its id -1.
A target of -1 does not count anywhere.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int32]

IGNORED = -1
"""A target that does not count."""


class ClassBatch(NamedTuple):
    """Texts with a class each.

    Attributes:
      tokens: ``[batch, len]``.
      lengths: ``[batch]``, tokens of each text.
      classes: ``[batch]``, the class of each text; `IGNORED` where it does not count.
      example_ids: ``[batch]``, index of each row in the examples.
    """

    tokens: IntArray
    lengths: IntArray
    classes: IntArray
    example_ids: IntArray

    def num_tokens(self) -> int:
        """Tokens without padding."""
        return int(self.lengths.sum())

    def num_positions(self) -> int:
        """Token positions, padding included."""
        return self.tokens.size


class TagBatch(NamedTuple):
    """Texts with a label for each word, and a class of the whole where there is one.

    Attributes:
      tokens: ``[batch, len]``, a token for each word, or pieces of words between a start and an end token.
      lengths: ``[batch]``, tokens of each text.
      labels: ``[batch, len]``, the label of each word; `IGNORED` where it does not count, as in the padding.
      classes: ``[batch]``, the class of each text; None where texts have none.
      example_ids: ``[batch]``, index of each row in the examples.
      letters: ``[batch, len, word_len]``, the bytes of each word, see `WordEncoder`; None where models read none.
      first_pieces: ``[batch, len]``, place of the first piece of each word, `IGNORED` behind the last word; None where
        tokens are words.
    """

    tokens: IntArray
    lengths: IntArray
    labels: IntArray
    classes: IntArray | None
    example_ids: IntArray
    letters: IntArray | None = None
    first_pieces: IntArray | None = None

    def word_lengths(self) -> IntArray:
        """``[batch]``, words of each text."""
        return self.lengths if self.first_pieces is None else (self.first_pieces >= 0).sum(axis=1)

    def num_tokens(self) -> int:
        """Tokens without padding."""
        return int(self.lengths.sum())

    def num_positions(self) -> int:
        """Token positions, padding included."""
        return self.tokens.size


class MaskedBatch(NamedTuple):
    """Texts of which some tokens are hidden and to be predicted.

    Attributes:
      tokens: ``[batch, len]``, as the model sees them.
      lengths: ``[batch]``, tokens of each text.
      places: ``[batch, places]``, where the hidden tokens are, from left to right; `IGNORED` behind the last one.
      targets: ``[batch, places]``, the tokens that were there; `IGNORED` in the same places.
      classes: ``[batch]``, 1 where the two parts of a text were exchanged, 0 where they are in order; None where texts
        have one part.
      example_ids: ``[batch]``, index of each row in the examples.
    """

    tokens: IntArray
    lengths: IntArray
    places: IntArray
    targets: IntArray
    classes: IntArray | None
    example_ids: IntArray

    def num_tokens(self) -> int:
        """Tokens without padding."""
        return int(self.lengths.sum())

    def num_positions(self) -> int:
        """Token positions, padding included."""
        return self.tokens.size


def row_values(values: npt.ArrayLike, num_rows: int, *, fill: int = IGNORED) -> IntArray:
    """One number a row, with ``fill`` in the rows below them.

    Example:
      >>> row_values([4, 5], 3).tolist()
      [4, 5, -1]
    """
    given = np.asarray(values, np.int32).reshape(-1)
    rows = np.full(num_rows, fill, np.int32)
    rows[: len(given)] = given
    return rows
