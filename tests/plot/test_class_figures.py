"""Figures of classifiers: what they show is what they are given."""

from pathlib import Path

import numpy as np
import pytest

from transformer_jax.errors import DataError
from transformer_jax.plot.class_figures import confusion_figure, reliability_figure


def test_the_confusion_matrix_has_its_numbers(tmp_path: Path) -> None:
    confusion = np.array([[8, 2], [0, 5]])
    figure = confusion_figure(
        confusion, ["yes", "no"], title="Answers", path=tmp_path / "new" / "confusion.png"
    )
    panel = figure.axes[0]
    assert {(text.get_position(), text.get_text()) for text in panel.texts} == {
        ((0, 0), "8"),
        ((1, 0), "2"),
        ((1, 1), "5"),
    }
    np.testing.assert_allclose(panel.images[0].get_array(), [[0.8, 0.2], [0.0, 1.0]])
    assert [label.get_text() for label in panel.get_yticklabels()] == ["yes", "no"]
    assert (tmp_path / "new" / "confusion.png").stat().st_size > 1000


def test_many_classes_have_no_numbers_in_their_cells() -> None:
    names = [f"class {number}" for number in range(50)]
    assert not confusion_figure(np.eye(50, dtype=int), names).axes[0].texts


def test_reliability_draws_the_bins_that_are_filled(tmp_path: Path) -> None:
    edges, counts = np.linspace(0, 1, 5), np.array([0, 3, 0, 7])
    confidence, accuracy = np.array([0.0, 0.4, 0.0, 0.9]), np.array([0.0, 0.5, 0.0, 0.8])
    figure = reliability_figure(edges, counts, confidence, accuracy, path=tmp_path / "reliability.png")
    points = figure.axes[0].lines[1].get_xydata()
    np.testing.assert_allclose(points, [[0.4, 0.5], [0.9, 0.8]])
    assert [bar.get_height() for bar in figure.axes[1].patches] == [0, 3, 0, 7]


def test_refusals() -> None:
    with pytest.raises(DataError, match="must be 3 by 3"):
        confusion_figure(np.eye(2), ["a", "b", "c"])
    with pytest.raises(DataError, match="no prediction"):
        reliability_figure(np.linspace(0, 1, 3), np.zeros(2, int), np.zeros(2), np.zeros(2))
