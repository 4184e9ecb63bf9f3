"""The one place where token sequences become the rows of an array."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from transformer_jax.data.batches import PAD_ID
from transformer_jax.errors import ShapeError


def planned_integers(*shape: int) -> npt.NDArray[np.int32]:
    """An array of a shape without content, which takes no memory: what to compile and plan for.

    Example:
      >>> planned_integers(2, 3).shape
      (2, 3)
    """
    return np.broadcast_to(np.int32(0), shape)


def pad_rows(
    sequences: Sequence[Sequence[int]], *, num_rows: int, length: int, pad_id: int = PAD_ID
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Token sequences as rows of one array, filled up behind their tokens and below the last of them.

    Args:
      sequences: Token ids, one sequence a row.
      num_rows: Rows of the result; those without a sequence have length 0.
      length: Columns of the result.
      pad_id: Fills all other places.

    Returns:
      The tokens ``[num_rows, length]`` and the length of each row ``[num_rows]``, both int32.

    Raises:
      ShapeError: If there are more sequences than rows, or a sequence is longer than ``length``.

    Example:
      >>> tokens, lengths = pad_rows([[5, 6], [7]], num_rows=3, length=2)
      >>> tokens.tolist(), lengths.tolist()
      ([[5, 6], [7, 0], [0, 0]], [2, 1, 0])
    """
    if len(sequences) > num_rows:
        raise ShapeError(
            f"num_rows must be at least {len(sequences)}, the number of sequences; got {num_rows}"
        )
    tokens = np.full((num_rows, length), pad_id, np.int32)
    lengths = np.zeros(num_rows, np.int32)
    for row, sequence in enumerate(sequences):
        if len(sequence) > length:
            raise ShapeError(
                f"length must be at least {len(sequence)}, the tokens of sequence {row}; got {length}"
            )
        tokens[row, : len(sequence)] = sequence
        lengths[row] = len(sequence)
    return tokens, lengths
