"""Batches of word vectors: rows of words with their windows, and what their centres are told apart from."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int32]


class WordBatch(NamedTuple):
    """Rows of subsampled text; every leaf has the row as axis 0.

    A row has ``time`` centres, with a margin of one window on both sides. A place without a word has id 0 and segment
    0, and is neither a centre nor a context.

    Attributes:
      words: ``[batch, words]``, ids of a row's words, margins included.
      segments: ``[batch, words]``, number of each word's sentence, from 1; no window crosses from one to another.
      radius: ``[batch, time]``, places on both sides of a centre that its window has; 0 for one that does not count.
      example_ids: ``[batch]``, number of the row in its epoch; -1 for a row without words.
      noise: ``[batch, noise]``, noise words of each row; None without negative sampling.
      nodes: ``[batch, time, depth]``, inner nodes on the path to each centre; None without hierarchical softmax.
      signs: ``[batch, time, depth]``, branches of those paths; see `HuffmanPaths`.
      subwords: ``[batch, words, n-grams]``, buckets of each word's n-grams, -1 where there is none; None without them.
    """

    words: IntArray
    segments: IntArray
    radius: IntArray
    example_ids: IntArray
    noise: IntArray | None = None
    nodes: IntArray | None = None
    signs: IntArray | None = None
    subwords: IntArray | None = None

    def num_centres(self) -> int:
        """Centres that count."""
        return int(np.count_nonzero(self.radius))

    def num_positions(self) -> int:
        """Places of centres, padding included; follows from the shapes alone."""
        return self.radius.size
