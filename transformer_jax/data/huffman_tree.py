"""Huffman tree of a vocabulary: the paths of hierarchical softmax."""

import itertools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class HuffmanPaths(NamedTuple):
    """The path from the root to each word; all paths are filled up to the longest.

    Attributes:
      nodes: ``[words, depth]``, inner nodes from the root on, 0 behind the end.
      signs: ``[words, depth]``, 1 where the path takes the left branch, -1 for the right one, 0 behind the end.
    """

    nodes: npt.NDArray[np.int32]
    signs: npt.NDArray[np.int8]


def huffman_paths(counts: npt.ArrayLike) -> HuffmanPaths:
    r"""Paths of least mean length :math:`\sum_w f_w \ell_w / \sum_w f_w`; inner node 0 is the root.

    Args:
      counts: Of each word, from the most frequent to the least.

    Returns:
      Paths over ``len(counts) - 1`` inner nodes.

    Raises:
      ValueError: If there are fewer than two words, or the counts rise.

    Example:
      >>> paths = huffman_paths([5, 2, 1])
      >>> paths.nodes.tolist(), paths.signs.tolist()
      ([[0, 0], [0, 1], [0, 1]], [[-1, 0], [1, -1], [1, 1]])

    Source: Huffman 1952; with two queues, as word2vec's ``CreateBinaryTree`` does.
    """
    weights = [int(count) for count in np.asarray(counts)]
    size = len(weights)
    if size < 2 or any(after > before for before, after in itertools.pairwise(weights)):
        raise ValueError("a Huffman tree needs at least two words, from the most frequent to the least")
    parents, signs = np.zeros(2 * size - 1, np.int64), np.zeros(2 * size - 1, np.int8)
    leaf, inner = size - 1, size  # both queues from the smallest weight on
    for new in range(size, 2 * size - 1):
        total = 0
        for sign in (1, -1):
            takes_leaf = leaf >= 0 and (inner >= new or weights[leaf] < weights[inner])
            child = leaf if takes_leaf else inner
            leaf, inner = (leaf - 1, inner) if takes_leaf else (leaf, inner + 1)
            parents[child], signs[child] = new, sign
            total += weights[child]
        weights.append(total)
    root = 2 * size - 2
    upward_nodes, upward_signs = [], []
    at, open_paths = np.arange(size), np.ones(size, bool)
    while open_paths.any():
        upward_nodes.append(np.where(open_paths, root - parents[at], 0))
        upward_signs.append(np.where(open_paths, signs[at], 0))
        at = np.where(open_paths, parents[at], at)
        open_paths = at != root
    lengths = np.count_nonzero(np.stack(upward_signs, axis=1), axis=1)
    depth = len(upward_nodes)
    places = lengths[:, None] - 1 - np.arange(depth)[None, :]  # from the root on
    inside = places >= 0
    rows, places = np.arange(size)[:, None], np.maximum(places, 0)
    nodes = np.where(inside, np.stack(upward_nodes, axis=1)[rows, places], 0)
    return HuffmanPaths(
        nodes.astype(np.int32),
        np.where(inside, np.stack(upward_signs, axis=1)[rows, places], 0).astype(np.int8),
    )
