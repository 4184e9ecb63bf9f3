"""Means with intervals as figures, and their colours on dark pages."""

import pytest

from transformer_jax.errors import DataError
from transformer_jax.plot.curves import learning_curves
from transformer_jax.plot.html_page import Figure, figure_section
from transformer_jax.plot.member_intervals import interval_beside, interval_rows
from transformer_jax.plot.style import COLOURS, on_dark_ground, svg_bytes

SPREADS = {"base": (1.0, 0.5, 1.5), "cost=$5, a_$b": (0.8, None, None)}


def test_rows_are_named_and_have_their_intervals() -> None:
    figure = interval_rows(SPREADS, {name: [0.7, 1.1] for name in SPREADS}, x_label="nats", reference=1.0)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == list(SPREADS)
    ends = [sorted(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2]
    assert [0.5, 1.5] in ends  # beside the reference's line; one value has no interval
    assert len(ends) == 2
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first row is on top
    again = interval_rows(SPREADS, {name: [0.7, 1.1] for name in SPREADS}, x_label="nats", reference=1.0)
    assert svg_bytes(figure) == svg_bytes(again)


def test_names_stand_below_points_and_curves() -> None:
    figure = interval_beside(SPREADS, dict.fromkeys(SPREADS, 1200.0), x_label="tokens/s", y_label="nats")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(SPREADS)
    curve = {"updates": [1, 2], "score": [2.0, 1.0]}
    figure = learning_curves(
        dict.fromkeys(SPREADS, curve), metric="score", across=("updates",), names_below=True
    )
    assert len(figure.legends) == 1
    assert not list(figure.axes[0].texts)
    svg_bytes(figure)  # a dollar sign is no formula


def test_dark_figures_have_no_colour_of_white_pages() -> None:
    image = svg_bytes(interval_beside(SPREADS, dict.fromkeys(SPREADS, 1.0), x_label="x", y_label="y"))
    dark = on_dark_ground(image).decode()
    assert not [colour for colour in (*COLOURS, "#ffffff", "#222222") if colour in dark]
    section = figure_section(Figure("t", "s", "a", image, dark_image=dark.encode()))
    assert section.count("data:image/svg+xml") == 2
    assert 'media="(prefers-color-scheme: dark)"' in section
    assert "<picture>" not in figure_section(Figure("t", "s", "a", image))


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(DataError, match="got none"):
        interval_rows({}, {}, x_label="x")
    with pytest.raises(DataError, match="got none"):
        interval_beside({}, {}, x_label="x", y_label="y")
