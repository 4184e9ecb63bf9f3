"""Figures are whole PNG files with what they were asked to show."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from transformer_jax.errors import DataError
from transformer_jax.plot.attention import alignment_maps, attention_heads
from transformer_jax.plot.curves import learning_curves
from transformer_jax.plot.fonts import missing_characters
from transformer_jax.plot.throughput import throughput_over_length

CURVE = {"updates": [1, 2, 4, 8], "seconds": [0.5, 1.0, 2.0, 4.0], "per": [90.0, 60.0, 30.0, 20.0]}


def assert_is_png(path: Path) -> None:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content.rstrip().endswith(b"IEND\xaeB`\x82")


def test_learning_curves_over_updates_and_seconds(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "curves.png"
    figure = learning_curves({"gru": CURVE, "transformer": CURVE}, metric="per", path=path)
    assert len(figure.axes) == 2
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xdata(), CURVE["updates"])
    np.testing.assert_array_equal(figure.axes[1].lines[1].get_xdata(), CURVE["seconds"])
    assert_is_png(path)


def test_alignments_show_the_weights_they_were_given(tmp_path: Path) -> None:
    weights = np.eye(3, 4)
    maps = {"gru+bahdanau": weights, "lstm+luong": weights, "transformer": np.stack([weights, weights])}
    path = tmp_path / "map.png"
    figure = alignment_maps(maps, list("cats"), ["K", "AE", "T"], title="cats", path=path)
    assert len(figure.axes) == 4  # one a model, and the colour bar
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), weights)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == list("cats")
    assert_is_png(path)


@pytest.fixture
def chinese_font(tmp_path: Path) -> Iterator[str]:
    """A font with one Chinese character, a filled square, known to matplotlib while a test runs."""
    pen = TTGlyphPen(None)
    for x, y in ((0, 0), (0, 900), (900, 900), (900, 0)):
        (pen.lineTo if (x, y) != (0, 0) else pen.moveTo)((x, y))
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "you"])
    builder.setupCharacterMap({ord(YOU): "you"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "you": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "you": (1000, 0)})
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": "One Character", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "one.ttf")
    before = list(font_manager.fontManager.ttflist)
    font_manager.fontManager.addfont(tmp_path / "one.ttf")
    yield "One Character"
    font_manager.fontManager.ttflist[:] = before


YOU, MISSING = "\u4f60", "\U000f1234"


def test_a_font_is_chosen_that_has_the_characters(chinese_font: str, tmp_path: Path) -> None:
    figure = attention_heads(
        {"layer": np.ones((1, 1, 1))}, [YOU], ["$x$"], title=f"{YOU} $5^ & $6", path=tmp_path / "a.png"
    )
    label = figure.axes[0].get_xticklabels()[0]
    assert label.get_text() == YOU
    assert label.get_fontfamily()[-1] == chinese_font
    assert figure._suptitle.get_fontfamily()[-1] == chinese_font
    assert figure._suptitle.get_text() == f"{YOU} $5^ & $6"  # and no formula
    assert figure.axes[0].get_yticklabels()[0].get_text() == "$x$"
    assert missing_characters([YOU]) == ""


def test_characters_that_no_font_has_are_code_points(tmp_path: Path) -> None:
    """Instead of empty boxes; matplotlib would warn of those, which is an error here."""
    figure = attention_heads(
        {"layer": np.ones((1, 1, 1))}, [f"a{MISSING}"], ["b"], title=f"a {MISSING}", path=tmp_path / "a.png"
    )
    assert figure.axes[0].get_xticklabels()[0].get_text() == "aU+F1234"
    assert figure._suptitle.get_text() == "a U+F1234"
    assert missing_characters(["cat", MISSING, f"{MISSING}s"]) == MISSING


def test_a_title_fits_a_single_narrow_map(tmp_path: Path) -> None:
    figure = alignment_maps(
        {"transformer": np.eye(2)}, list("at"), ["AE", "T"], title="What it looked at: at"
    )
    figure.canvas.draw()
    title = figure._suptitle.get_window_extent()
    assert title.x1 <= figure.bbox.x1


def test_heads_have_a_panel_each(tmp_path: Path) -> None:
    figure = attention_heads({"decoder_layer_0": np.full((4, 2, 3), 1 / 3)}, list("abc"), ["X", "Y"])
    assert len(figure.axes) == 4 + 1


def test_throughput_is_on_logarithmic_axes(tmp_path: Path) -> None:
    lines = {
        "gru": {"length": [32, 64], "median": [900.0, 950.0], "low": [850.0, 900.0], "high": [960.0, 990.0]}
    }
    path = tmp_path / "speed.png"
    figure = throughput_over_length({"forward": lines, "training step": lines}, path=path)
    assert [axes.get_xscale() for axes in figure.axes] == ["log", "log"]
    assert_is_png(path)


def test_nothing_to_draw_and_missing_columns_are_refused() -> None:
    with pytest.raises(DataError):
        learning_curves({}, metric="per")
    with pytest.raises(DataError, match="wer"):
        learning_curves({"gru": CURVE}, metric="wer")
    with pytest.raises(DataError):
        throughput_over_length({"forward": {"gru": {"length": [1], "median": [0.0]}}})


def test_a_line_keeps_its_colour_where_others_are_left_out() -> None:
    both = learning_curves({"gru": CURVE, "transformer": CURVE}, metric="per")
    alone = learning_curves({"transformer": CURVE}, metric="per", order=["gru", "transformer"])
    assert alone.axes[0].lines[0].get_color() == both.axes[0].lines[1].get_color()
    assert alone.axes[0].lines[0].get_color() != both.axes[0].lines[0].get_color()
    with pytest.raises(DataError, match="'gru'"):
        learning_curves({"gru": CURVE}, metric="per", order=["transformer"])
