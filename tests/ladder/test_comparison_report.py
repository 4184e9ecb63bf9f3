"""The report of a comparison: the agreed schema, one self-contained page, and figures that are pictures."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from transformer_jax.cli.tables import print_table
from transformer_jax.environment import environment_table
from transformer_jax.ladder.comparison_page import alignment_svg
from transformer_jax.ladder.comparison_report import result_table, write_report

NAMES = ("rnn", "lstm", "gru", "gru+bahdanau", "lstm+luong", "transformer")


def row_of(name: str, rank: int) -> dict[str, Any]:
    curve = [
        {"update": 10 * i, "seconds": 2.0 * i, "loss": 3.0 / i, "per": 80.0 / i, "wer": 95.0}
        for i in (1, 2, 3)
    ]
    return {
        "name": name,
        "parameters": 500_000 + rank,
        "updates": 30,
        "train_seconds": 6.0 + rank,
        "compile_seconds": 3.25,
        "tokens_per_second": 40_000.0 + rank,
        "words_per_second": 900.0 + rank,
        "per": 30.0 - rank,
        "wer": 70.0 - rank,
        "curve": curve,
    }


def document() -> dict[str, Any]:
    return {
        "environment": environment_table(),
        "models": [row_of(name, rank) for rank, name in enumerate(NAMES)],
        "preset": "quick",
        "dataset": "cmudict",
        "seed": 0,
        "batch_words": 256,
        "scored_words": 1000,
        "search": "greedy search",
    }


def samples(prediction: str = "R <AH> N") -> dict[str, Any]:
    word = {"source": "run & <jump>", "reference": "R AH N", "prediction": prediction, "errors": 1}
    return {name: [word, {**word, "prediction": "", "errors": 3}] for name in NAMES}


def alignments() -> dict[str, Any]:
    one = {"source": list("run"), "target": ["R", "AH", "N", "end"], "weights": [[0.8, 0.1, 0.1]] * 4}
    return {name: [one, one] for name in NAMES[3:]}


class Page(HTMLParser):
    """Tags and attributes of a page, and whether its tags close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def page(tmp_path: Path) -> str:
    write_report(tmp_path, document(), samples=samples(), alignments=alignments())
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_json_has_the_agreed_keys(tmp_path: Path) -> None:
    paths = write_report(tmp_path, document(), samples={}, alignments={})
    report = json.loads((tmp_path / "report.json").read_text())
    assert isinstance(report["environment"], dict)
    assert {"jax", "device", "cores", "python"} <= report["environment"].keys()
    assert [row["name"] for row in report["models"]] == list(NAMES)
    agreed = (
        "name parameters updates train_seconds compile_seconds tokens_per_second words_per_second per wer"
    )
    for row in report["models"]:
        assert list(row) == [*agreed.split(), "curve"]
    assert all(path.is_file() for path in paths)


def test_page_is_well_formed_and_needs_no_network(page: str) -> None:
    parsed = Page(page)
    assert parsed.open == []
    for tag, attributes in parsed.tags:
        for name in ("src", "href", "srcset", "action", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith("data:"), (tag, value)
        assert tag not in ("script", "link", "iframe")
    assert "@import" not in page
    assert not re.search(r"url\(\s*['\"]?http", page)


def test_page_shows_every_model_and_escapes_what_models_wrote(page: str) -> None:
    for name in NAMES:
        assert f"{name}</th>" in page
    assert "R &lt;AH&gt; N" in page
    assert "run &amp; &lt;jump&gt;" in page
    assert "<jump>" not in page


def test_every_picture_has_an_alternative_and_a_sentence(page: str) -> None:
    parsed = Page(page)
    images = [attributes for tag, attributes in parsed.tags if tag == "img"]
    assert len(images) == 3
    for attributes in images:
        assert len(attributes["alt"] or "") > 30
        assert "{" not in (attributes["alt"] or "")
    assert page.count("<figcaption>") == 3
    drawings = [attributes for tag, attributes in parsed.tags if tag == "svg"]
    assert len(drawings) == 6
    assert all(attributes["aria-label"] for attributes in drawings)


def test_figures_are_png(tmp_path: Path) -> None:
    paths = write_report(tmp_path, document(), samples=samples(), alignments=alignments())
    pictures = [path for path in paths if path.suffix == ".png"]
    assert {path.name for path in pictures} == {
        "curves_updates.png",
        "curves_seconds.png",
        "speed.png",
        "alignment_1.png",
        "alignment_2.png",
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_a_report_without_attention_or_curves(tmp_path: Path) -> None:
    plain = document()
    plain["models"] = [{**plain["models"][0], "curve": []}]
    write_report(tmp_path, plain, samples={"rnn": samples()["rnn"]}, alignments={})
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert Page(text).open == []
    assert "What each attention looked at" not in text


def test_alignment_drawing_has_one_square_for_each_weight() -> None:
    one = {"source": list("ab"), "target": ["X"], "weights": [[0.25, 2.0]]}
    drawing = alignment_svg(one, "transformer")
    assert drawing.count("fill-opacity") == 2
    assert 'fill-opacity="0.25"' in drawing
    assert 'fill-opacity="1.00"' in drawing


def test_table_lists_every_model_once(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(result_table(document()))
    printed = capsys.readouterr().out
    for row in document()["models"]:
        assert (
            sum(row["name"] in line.split("│")[1].split() for line in printed.splitlines() if "│" in line)
            == 1
        )
        assert f"{row['per']:.2f}" in printed
    assert "quick: cmudict, 30 updates of 256 words" in printed
