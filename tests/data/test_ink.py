"""Drawings as frames, InkML files and CROHME's arrays: what is read, and what is refused in one line."""

import os
from pathlib import Path

import numpy as np
import pytest

from transformer_jax.data.captioned import hold_out_captions
from transformer_jax.data.ink import Ink, StrokeFeatures, distorted
from transformer_jax.data.sources.crohme import read_strokes
from transformer_jax.data.sources.ink_files import InkFiles
from transformer_jax.data.sources.inkml import latex_tokens, read_inkml
from transformer_jax.errors import ConfigError, DataError

BEND = [[0.0, 0.0], [3.0, 4.0], [3.0, 10.0]]
"""Of length 5 and 6; the diagonal of its box is the root of 109."""


def file_of(tmp_path: Path, text: str, name: str = "one.inkml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_frames_lie_at_equal_distances_along_a_stroke():
    frames = StrokeFeatures(spacing=1.0).frames(Ink((BEND, [[8.0, 10.0]])))
    unit = np.sqrt(109.0)  # of the one stroke that is no dot
    assert frames.strokes.tolist() == [0, 0, 1]
    np.testing.assert_allclose(frames.points, [[0, 0], [3, 10], [8, 10]], atol=1e-6)
    mean = frames.points.mean(axis=0)
    wanted = np.zeros((3, 8))
    wanted[:, :2] = (frames.points - mean) / unit * (0.1, 1.0)
    wanted[1, 2:4] = np.array([3.0, 10.0]) / unit
    wanted[2, 4:6] = np.array([5.0, 0.0]) / unit
    wanted[[0, 2], 6] = wanted[[1, 2], 7] = 1.0
    np.testing.assert_allclose(frames.features, wanted, atol=1e-6)
    half = StrokeFeatures(spacing=0.5).frames(Ink((BEND,)))
    np.testing.assert_allclose(half.points[1], [3.0, 4.5], atol=1e-6)  # half of 11 along the way


def test_frames_depend_on_neither_place_nor_size_nor_speed():
    features = StrokeFeatures(spacing=0.3)
    ink = Ink((BEND, [[5.0, 1.0], [9.0, 2.0]]))
    wanted = features.frames(ink).features
    moved = Ink(tuple(40.0 * stroke + (700.0, -9.0) for stroke in ink.strokes))
    np.testing.assert_allclose(features.frames(moved).features, wanted, atol=1e-4)
    slow = Ink(([[0.0, 0.0], [0.0, 0.0], [1.5, 2.0], *BEND[1:]], ink.strokes[1]))
    np.testing.assert_allclose(features.frames(slow).features, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("strokes", "num_frames"),
    [([[[5.0, 5.0]]], 1), ([[[0, 0]], [[3, 0]], [[9, 4]]], 3), ([[[1, 1], [1, 1]]], 1)],
    ids=["one point", "dots", "a pen that rested"],
)
def test_dots_are_frames(strokes, num_frames):
    found = StrokeFeatures().frames(Ink(tuple(strokes)))
    assert found.features.shape == (num_frames, 8)
    assert np.isfinite(found.features).all()
    assert found.features[:, 6:].all()


def test_a_drawing_of_many_points_is_read_at_a_wider_spacing():
    angle = np.linspace(0, 200 * np.pi, 100_000)
    spiral = np.stack([angle * np.cos(angle), angle * np.sin(angle)], axis=1)
    ink = Ink((spiral, *([[n, 0.0], [n, 5.0]] for n in range(10))))
    found = StrokeFeatures().frames(ink, max_frames=300)
    assert found.is_downsampled
    assert 11 <= len(found.features) <= 300
    assert set(found.strokes.tolist()) == set(range(11)), "a stroke is lost"
    np.testing.assert_allclose(found.points[0], spiral[0], atol=1e-3)
    assert not StrokeFeatures().frames(Ink((BEND,)), max_frames=300).is_downsampled
    crowded = Ink(tuple([[n, 0.0], [n, 1.0]] for n in range(30)))
    assert len(StrokeFeatures().frames(crowded, max_frames=40).features) == 30
    with pytest.raises(DataError, match="30 strokes, at most 20 frames"):
        StrokeFeatures().frames(crowded, max_frames=20)
    unlike = Ink(([[0.0, 0.0], [0.0, 1e15]], *([[n, 0.0], [n, 1e-10]] for n in range(3))))
    assert len(StrokeFeatures().frames(unlike, max_frames=300).features) <= 300


@pytest.mark.parametrize(
    ("strokes", "message"),
    [
        ((), "holds no stroke"),
        (([],), "stroke 1 must be points"),
        ((BEND, [[1.0, 2.0, 3.0]]), "stroke 2 must be points"),
        (([[1.0, np.nan]],), "not finite"),
        (([[1.0, 1e30]],), "beyond 1e15"),
        ((["ab"],), "stroke 1 is no list"),
    ],
)
def test_what_is_no_drawing_is_refused(strokes, message):
    with pytest.raises(DataError, match=message):
        Ink(strokes)


def test_spacing_has_a_range():
    with pytest.raises(ConfigError, match="spacing must be from"):
        StrokeFeatures(spacing=float("nan"))


def test_distorted_copies_follow_from_the_generator():
    ink = Ink((BEND, [[5.0, 1.0], [9.0, 2.0]]))
    one, again, other = (distorted(ink, np.random.default_rng(seed)) for seed in (3, 3, 4))
    for stroke, same, different in zip(one.strokes, again.strokes, other.strokes, strict=True):
        np.testing.assert_array_equal(stroke, same)
        assert np.abs(stroke - different).max() > 1e-3
    still = distorted(ink, np.random.default_rng(0), strength=0.0)
    np.testing.assert_allclose(still.strokes[0], ink.strokes[0], atol=1e-6)


def test_inkml_with_channels_namespace_and_truth(tmp_path):
    path = file_of(
        tmp_path,
        '<?xml version="1.0"?><ink xmlns="http://www.w3.org/2003/InkML"><traceFormat><channel name="T"/>'
        '<channel name="X"/><channel name="Y"/></traceFormat><annotation type="truth"> $x^{2}$ </annotation>'
        "<trace>0 1 2, 1 3 4.5,</trace><trace/><traceGroup><annotation type='truth'>no</annotation></traceGroup>"
        "<trace>2 -5 1e2</trace></ink>",
    )
    found = read_inkml(path)
    assert [stroke.tolist() for stroke in found.ink.strokes] == [[[1.0, 2.0], [3.0, 4.5]], [[-5.0, 100.0]]]
    assert found.truth == "x^{2}"
    assert latex_tokens(found.truth) == "x ^ { 2 }"
    assert read_inkml(file_of(tmp_path, "<ink><trace>1 2</trace></ink>")).truth is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no InkML"),
        ("<svg><trace>1 2</trace></svg>", "outer element is <svg>"),
        ("<ink><trace>1 2</ink>", "no InkML"),
        ("<ink></ink>", "holds no stroke"),
        ("<ink><trace>1 2, x y</trace></ink>", "got 'x y'"),
        ("<ink><trace>1</trace></ink>", "got '1'"),
        ("<ink><trace>1 nan</trace></ink>", "not finite"),
        ("<ink><traceFormat><channel name='F'/></traceFormat><trace>1 2</trace></ink>", "no X and Y"),
        ('<!DOCTYPE ink [<!ENTITY a "aa">]><ink><trace>1 2</trace></ink>', "declares a document type"),
    ],
)
def test_damaged_inkml_is_named(tmp_path, text, message):
    path = file_of(tmp_path, text)
    with pytest.raises(DataError, match=message) as caught:
        read_inkml(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_missing_and_huge_files_are_named(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_inkml(tmp_path / "none.inkml")
    path = file_of(tmp_path, "")
    os.truncate(path, 65_000_000)
    with pytest.raises(DataError, match="larger than"):
        read_inkml(path)


def test_folders_of_drawings(tmp_path):
    for number in range(40):
        file_of(
            tmp_path,
            f'<ink><annotation type="truth">a_{number}</annotation><trace>1 {number}</trace></ink>',
            f"{number:02}.inkml",
        )
    file_of(tmp_path, "<ink><trace>1 2</trace></ink>", "without.InkML")
    found = InkFiles(train=str(tmp_path), is_latex=True).load()
    assert len(found.train) + len(found.development) == 40
    assert found.development
    assert found.train[0].caption.startswith("a _ ")
    assert any("left out 1 drawing" in note for note in found.notes)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no InkML file with an annotation 'truth'"):
        InkFiles(train=str(tmp_path / "empty")).load()
    with pytest.raises(DataError, match="no folder"):
        InkFiles(train=str(tmp_path / "none")).load()


def test_arrays_of_formulas(tmp_path):
    path = tmp_path / "formulas.npz"
    arrays = {
        "dx": np.array([1, 2, 3, -1, 5], np.int16),
        "dy": np.array([0, 1, 1, 0, 7], np.int16),
        "stroke_lengths": np.array([2, 1, 2], np.int32),
        "strokes": np.array([2, 1], np.int32),
        "names": np.array(["one", "two"]),
        "captions": np.array(["x", "y z"]),
    }
    np.savez(path, **arrays)
    first, second = read_strokes(path)
    assert [stroke.tolist() for stroke in first.item.strokes] == [[[1, 0], [3, 1]], [[6, 2]]]
    assert [stroke.tolist() for stroke in second.item.strokes] == [[[-1, 0], [4, 7]]]
    assert (first.caption, second.name) == ("x", "two")
    np.savez(path, **arrays | {"dx": arrays["dx"][:-1]})
    with pytest.raises(DataError, match="do not fit together"):
        read_strokes(path)
    np.savez(path, **arrays)
    for damaged in (b"PK nothing", b"PK\x03\x04" + path.read_bytes()[4:60], b""):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="no arrays of formulas"):
            read_strokes(path)


def test_equal_captions_are_never_on_both_sides():
    from transformer_jax.data.captioned import Captioned

    items = [Captioned(item=None, caption=str(number % 50), name=str(number)) for number in range(200)]
    kept, held_out = hold_out_captions(items, share=0.3)
    assert held_out
    assert not {one.caption for one in kept} & {one.caption for one in held_out}
    assert sorted([*kept, *held_out], key=lambda one: int(one.name)) == items
