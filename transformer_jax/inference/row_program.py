"""Token sequences in, arrays out: one compiled function of a model, fed with batches of a few fixed shapes.

What classifiers, taggers and encoders predict is computed by it. The length that a sequence is padded to follows from
the sequence alone and every batch of a length has the same number of rows, so that a sequence is computed by the same
program whatever stands beside it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transformer_jax.data.buckets import PaddedLengths
from transformer_jax.data.padding import pad_rows
from transformer_jax.inference.batch_search import BATCH_ROWS

RowFunction = Callable[[Any, Any, Any], Any]
"""``(model, tokens [batch, len], lengths [batch])`` to arrays whose axis 0 is the row."""


class RowProgram:
    """A function of a model over many sequences: sorted into batches of fixed shapes, put back in order.

    Args:
      model: The model; only its structure is kept.
      function: What to compute, see `RowFunction`; it must not let a row depend on another.
      lengths: Lengths that sequences are padded to.
      batch_size: Rows of every batch; beyond the usual lengths there are fewer.

    Example:
      >>> class Sums(nnx.Module):
      ...   def __call__(self, tokens):
      ...     return tokens.sum(axis=1)
      >>> program = RowProgram(Sums(), lambda model, tokens, lengths: model(tokens), lengths=PaddedLengths((2, 4)))
      >>> [int(one) for one in program(nnx.split(Sums())[1], [[5, 6, 7], [], [8]])]
      [18, 0, 8]
    """

    def __init__(
        self, model: Any, function: RowFunction, *, lengths: PaddedLengths, batch_size: int = BATCH_ROWS
    ) -> None:
        self.lengths, self.batch_size = lengths, batch_size
        graph = nnx.split(model)[0]

        def compute(state: Any, tokens: Any, row_lengths: Any) -> Any:
            return function(nnx.merge(graph, state), tokens, row_lengths)

        self._compute = jax.jit(compute)

    def check(self, state: Any) -> None:
        """Raise what the longest usual batch would raise, by shapes alone."""
        tokens = jax.ShapeDtypeStruct((self.batch_size, self.lengths.usual), jnp.int32)
        lengths = jax.ShapeDtypeStruct((self.batch_size,), jnp.int32)
        jax.eval_shape(self._compute, state, tokens, lengths)

    def __call__(self, state: Any, sequences: Sequence[Sequence[int]]) -> list[Any]:
        """What the function gives for each sequence, as NumPy arrays without the batch's axis.

        Positions are those of the padded batch: cut them to the sequence's own length.

        Args:
          state: The model's state, as of ``nnx.split(model)[1]``.
          sequences: Ids of each sequence; none is allowed.

        Raises:
          ShapeError: If a sequence is longer than the longest length.
        """
        groups: dict[int, list[int]] = {}
        for index, sequence in enumerate(sequences):
            groups.setdefault(self.lengths.of(len(sequence)), []).append(index)
        found: list[Any] = [None] * len(sequences)
        for length, members in sorted(groups.items()):
            rows = self.lengths.rows(length, self.batch_size)
            for start in range(0, len(members), rows):
                chosen = members[start : start + rows]
                batch = pad_rows([sequences[index] for index in chosen], num_rows=rows, length=length)
                computed = jax.tree.map(np.asarray, self._compute(state, *jax.device_put(batch)))
                for row, index in enumerate(chosen):
                    found[index] = jax.tree.map(lambda array, row=row: array[row], computed)
        return found
