"""Words as points: their vectors by the two directions in which they differ most."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from transformer_jax.errors import DataError
from transformer_jax.plot.style import dress_axes, finish, new_figure, title_figure


def principal_components(
    vectors: npt.ArrayLike, num_components: int = 2
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    r"""Coordinates along the directions of largest variance, and the share of the variance of each.

    Each direction's largest coordinate is positive, so that a map does not depend on the sign that a solver chose.

    Args:
      vectors: ``[words, width]``.
      num_components: Directions.

    Returns:
      Coordinates ``[words, num_components]``, zeros in directions that there are not, and the shares.

    Example:
      >>> places, shares = principal_components([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]])
      >>> places.round(3).tolist(), shares.round(3).tolist()
      ([[-2.0, 0.0], [0.0, 0.0], [2.0, 0.0]], [1.0, 0.0])

    Source: Pearson 1901, by the singular value decomposition.
    """
    table = np.asarray(vectors, np.float64)
    centred = table - table.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    total = float((sizes**2).sum()) or 1.0
    places, shares = np.zeros((len(table), num_components)), np.zeros(num_components)
    num_found = min(num_components, len(sizes))
    found = left[:, :num_found] * sizes[:num_found]
    largest = np.take_along_axis(found, np.abs(found).argmax(axis=0)[None], axis=0)[0]
    places[:, :num_found] = found * np.where(largest < 0, -1.0, 1.0)
    shares[:num_found] = sizes[:num_found] ** 2 / total
    return places + 0.0, shares


def word_map(
    words: Sequence[str],
    vectors: Sequence[npt.ArrayLike],
    *,
    title: str | None = None,
    path: str | Path | None = None,
) -> Any:
    """A point with its word for each vector, by the two main components of the unit vectors.

    Args:
      words: The words.
      vectors: Their vectors.
      title: Title over the map.
      path: File to write, or None.

    Returns:
      The ``matplotlib.figure.Figure``.

    Raises:
      DataError: If there are fewer than two words.

    Example:
      >>> figure = word_map(["a", "b", "c"], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
      >>> [text.get_text() for text in figure.axes[0].texts]
      ['a', 'b', 'c']
    """
    if len(words) < 2 or len(words) != len(vectors):
        raise DataError(
            f"a map wants at least two words with a vector each, got {len(words)} and {len(vectors)}"
        )
    table = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    places, shares = principal_components(table / np.where(lengths > 0, lengths, 1.0))
    figure, grid = new_figure(1, 1, width=10.0, height=8.0)
    axes = grid[0][0]
    axes.scatter(places[:, 0], places[:, 1], s=10, alpha=0.6, linewidths=0)
    for word, (x, y) in zip(words, places):
        axes.annotate(word, (x, y), xytext=(3, 2), textcoords="offset points", fontsize=7.5)
    dress_axes(
        axes,
        x_label=f"first component ({shares[0]:.0%} of the variance)",
        y_label=f"second component ({shares[1]:.0%})",
    )
    title_figure(figure, title)
    return finish(figure, path)
