"""Token sequences in, arrays out: one compiled function of a model, fed with batches of a few fixed shapes.

What classifiers, taggers and encoders predict is computed by it. The length that a sequence is padded to follows from
the sequence alone and every batch of a length has the same number of rows, so that a sequence is computed by the same
program whatever stands beside it.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from flax import nnx

from transformer_jax.data.buckets import PaddedLengths
from transformer_jax.data.padding import pad_rows
from transformer_jax.inference.batch_search import BATCH_ROWS

RowFunction = Callable[..., Any]
"""``(model, tokens [batch, len], lengths [batch])``, or other arrays, to arrays whose axis 0 is the row."""

MakeBatch = Callable[[npt.NDArray[np.int64], int, int], tuple[Any, ...]]
"""``(indices, num_rows, length)`` to the arrays of a batch; no indices give padding alone."""


class RowProgram:
    """A function of a model over many sequences: sorted into batches of fixed shapes, put back in order.

    Args:
      model: The model; only its structure is kept.
      function: What to compute, see `RowFunction`; it must not let a row depend on another.
      lengths: Lengths that sequences are padded to.
      batch_size: Rows of every batch; beyond the usual lengths there are fewer.

    Attributes:
      compile_seconds: Seconds that the first batch of each shape took so far.

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
        self.compile_seconds = 0.0
        self._seen: set[int] = set()
        graph = nnx.split(model)[0]

        def compute(state: Any, *arrays: Any) -> Any:
            return function(nnx.merge(graph, state), *arrays)

        self._compute = jax.jit(compute)

    def check(self, state: Any, make_batch: MakeBatch | None = None) -> None:
        """Raise what the longest usual batch would raise, by shapes alone.

        Args:
          state: The model's state.
          make_batch: Makes the batches; None for tokens and their lengths.
        """
        make = make_batch or _padded([])
        batch = make(np.zeros(0, np.int64), self.batch_size, self.lengths.usual)
        jax.eval_shape(self._compute, state, *batch)

    def __call__(self, state: Any, sequences: Sequence[Sequence[int]]) -> list[Any]:
        """What the function gives for each sequence, as NumPy arrays without the batch's axis.

        Positions are those of the padded batch: cut them to the sequence's own length.

        Args:
          state: The model's state, as of ``nnx.split(model)[1]``.
          sequences: Ids of each sequence; none is allowed.

        Raises:
          ShapeError: If a sequence is longer than the longest length.
        """
        return self.run(state, [len(sequence) for sequence in sequences], _padded(sequences))

    def run(
        self,
        state: Any,
        lengths: Sequence[int],
        make_batch: MakeBatch,
        *,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Any]:
        """The same for examples of any kind.

        Args:
          state: The model's state, as of ``nnx.split(model)[1]``.
          lengths: Length of each example.
          make_batch: Makes a batch of some of them, see `MakeBatch`.
          on_progress: Called with the number of examples done so far.

        Raises:
          ShapeError: If an example is longer than the longest length.
        """
        groups: dict[int, list[int]] = {}
        for index, length in enumerate(lengths):
            groups.setdefault(self.lengths.of(length), []).append(index)
        found: list[Any] = [None] * len(lengths)
        done = 0
        for length, members in sorted(groups.items()):
            rows = self.lengths.rows(length, self.batch_size)
            for start in range(0, len(members), rows):
                chosen = members[start : start + rows]
                computed = self._computed(state, length, make_batch(np.array(chosen), rows, length))
                for row, index in enumerate(chosen):
                    found[index] = jax.tree.map(lambda array, row=row: array[row], computed)
                done += len(chosen)
                if on_progress is not None:
                    on_progress(done)
        return found

    def _computed(self, state: Any, length: int, batch: tuple[Any, ...]) -> Any:
        start = time.perf_counter()
        computed = jax.tree.map(np.asarray, self._compute(state, *jax.device_put(batch)))
        if length not in self._seen:  # a length has one number of rows
            self._seen.add(length)
            self.compile_seconds += time.perf_counter() - start
        return computed


def _padded(sequences: Sequence[Sequence[int]]) -> MakeBatch:
    """Makes batches of token sequences and their lengths."""

    def make(indices: npt.NDArray[np.int64], num_rows: int, length: int) -> tuple[Any, ...]:
        return pad_rows([sequences[index] for index in indices.tolist()], num_rows=num_rows, length=length)

    return make
