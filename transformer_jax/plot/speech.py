"""Frames of a recording with the tokens that are said in it, where they begin."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transformer_jax.errors import DataError
from transformer_jax.plot.fonts import drawable
from transformer_jax.plot.style import INK, finish, new_figure, title_figure

WIDEST = 24.0
"""Inches that a figure is wide at most."""


def speech_figure(
    frames: Any,
    tokens: Sequence[str],
    starts: Sequence[float],
    *,
    seconds: float,
    is_spectrogram: bool = True,
    title: str | None = None,
    path: str | Path | None = None,
) -> Any:
    """Frames over time as an image, a line for each token at the second at which it begins, and the token above it.

    Args:
      frames: ``[frames, dim]``, such as log energies of the filters.
      tokens: What is said.
      starts: Second at which each token begins.
      seconds: Length of the recording.
      is_spectrogram: Whether the numbers of a frame are energies of filters.
      title: Title over the picture.
      path: File to write, or None.

    Returns:
      The ``matplotlib.figure.Figure``.

    Raises:
      DataError: If there is no frame, or there are not as many tokens as starts.

    Example:
      >>> figure = speech_figure(np.ones((30, 4)), ["o", "n", "e"], [0.05, 0.1, 0.2], seconds=0.3)
      >>> [text.get_text() for text in figure.axes[0].texts]
      ['o', 'n', 'e']
    """
    frames = np.asarray(frames, np.float32)
    if frames.ndim != 2 or not len(frames):
        raise DataError(f"nothing to draw: wanted frames [frames, dim], got {frames.shape}")
    if len(tokens) != len(starts):
        raise DataError(f"wanted a start for each token, got {len(tokens)} tokens and {len(starts)} starts")
    width = float(np.clip(2.0 + 2.5 * seconds, 6.0, WIDEST))
    figure, grid = new_figure(1, 1, width=width, height=3.4)
    axes = grid.flat[0]
    if not is_spectrogram:  # numbers of different sizes, such as cepstra: each by its own mean and deviation
        frames = (frames - frames.mean(axis=0)) / np.maximum(frames.std(axis=0), 1e-6)
    low, high = np.quantile(frames, [0.05, 0.99])
    axes.imshow(
        frames.T,
        aspect="auto",
        origin="lower",
        cmap="Greys",
        vmin=float(low),
        vmax=float(high),
        extent=(0.0, seconds, -0.5, frames.shape[1] - 0.5),
        interpolation="nearest",
    )
    labels = drawable([token.replace("$", r"\$").replace(" ", "\u2423") for token in tokens])
    for text, start in zip(labels.texts, starts, strict=True):
        axes.axvline(start, color="#c0392b", linewidth=0.9)
        axes.text(
            start,
            frames.shape[1] - 0.3,
            text,
            ha="center",
            va="bottom",
            fontsize=9,
            color=INK,
            **labels.options,
        )
    axes.set_xlabel("seconds")
    axes.set_ylabel("filter, from low to high" if is_spectrogram else "number of the feature")
    axes.set_xlim(0.0, seconds)
    title_figure(figure, title)
    return finish(figure, path)
