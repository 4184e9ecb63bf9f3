"""Batches of a language model: windows of token ids and the token that follows each of them."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int32]


class TokenBatch(NamedTuple):
    """Rows of token ids with their next tokens, padded with `PAD_ID` at the end; all arrays are int32.

    ``targets[i, j]`` is the token after ``inputs[i, j]``. A row without targets fills up a short batch: its length
    is 0, every token is `PAD_ID`, its id is -1.

    Attributes:
      inputs: ``[batch, len]``, the tokens that the model reads.
      targets: ``[batch, len]``, the tokens that it must predict.
      lengths: ``[batch]``, how many targets count; what follows them is padding.
      segments: ``[batch, len]``, number of the document that each position belongs to, from 1, and 0 at padding;
        None where each row is of one document. No position may see another segment. A document starts with
        `BOS_ID` in the inputs and ends with `EOS_ID` in the targets, so no target belongs to another document.
      restarts: ``[batch]``, 1 where a state carried from the row's last window must be reset before this one.
      example_ids: ``[batch]``, where the row comes from: a number that names its window in the training set.
      first_counted: ``[batch]``, the first target of each row that counts, where those before it are given, as a
        question is to its answer; None where all count.
    """

    inputs: IntArray
    targets: IntArray
    lengths: IntArray
    segments: IntArray | None
    restarts: IntArray
    example_ids: IntArray
    first_counted: IntArray | None = None

    def num_tokens(self) -> int:
        """Targets that count."""
        given = 0 if self.first_counted is None else int(self.first_counted.sum())
        return int(self.lengths.sum()) - given

    def counted(self) -> npt.NDArray[np.bool_]:
        """Mask ``[batch, len]`` of the targets that count."""
        columns = np.arange(self.targets.shape[1])
        first = 0 if self.first_counted is None else self.first_counted[:, None]
        return (columns >= first) & (columns < self.lengths[:, None])

    def num_positions(self) -> int:
        """Target positions, padding included; follows from the shapes alone."""
        return self.targets.size
