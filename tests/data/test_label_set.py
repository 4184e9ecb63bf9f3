"""Label sets: order, files, fingerprints, and errors that name the nearest label."""

import json
from pathlib import Path

import pytest

from transformer_jax.data.label_set import LabelSet
from transformer_jax.errors import DataError


def test_labels_are_sorted_and_distinct() -> None:
    labels = LabelSet.of(["b", "a", "b", "c"])
    assert labels.labels == ("a", "b", "c")
    assert labels.indices(["c", "a"]).tolist() == [2, 0]
    assert "b" in labels
    assert "d" not in labels


def test_an_unknown_label_is_named_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"no label 'LOCC'; did you mean 'LOC'\?; known: HUM, LOC"):
        LabelSet(("HUM", "LOC")).index("LOCC")


@pytest.mark.parametrize(
    ("labels", "message"), [((), "at least one"), (("a", "a"), "twice"), (("a", " "), "not empty")]
)
def test_impossible_sets_are_refused(labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        LabelSet(labels)


def test_a_file_gives_the_same_set(tmp_path: Path) -> None:
    labels = LabelSet(("z", "a", "ü\tb"))
    labels.save(tmp_path / "class_set.json")
    loaded = LabelSet.load(tmp_path / "class_set.json")
    assert loaded == labels
    assert loaded.fingerprint() == labels.fingerprint()
    assert LabelSet(("a", "z", "ü\tb")).fingerprint() != labels.fingerprint()


@pytest.mark.parametrize(
    "text",
    ["", "[1]", '{"labels": 3}', '{"labels": ["a", 2]}', '{"labels": []}', '{"other": ["a"]}', "{" * 100_000],
    ids=range(7),
)
def test_a_damaged_file_gives_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "class_set.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        LabelSet.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read the label set"):
        LabelSet.load(tmp_path / "none.json")


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    LabelSet(("a", "b")).save(tmp_path / "one.json")
    assert json.loads((tmp_path / "one.json").read_text()) == {"labels": ["a", "b"]}
