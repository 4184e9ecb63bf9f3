"""The README and the guides say what the code does and what the committed results say."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs" / "attention.md").read_text()
RECURRENCE = (ROOT / "docs" / "recurrence.md").read_text()
PAGES = {
    "README.md": README,
    "docs/attention.md": GUIDE,
    "docs/beyond-text.md": (ROOT / "docs" / "beyond-text.md").read_text(),
    "docs/extending.md": (ROOT / "docs" / "extending.md").read_text(),
    "docs/ideas.md": (ROOT / "docs" / "ideas.md").read_text(),
    "docs/language-models.md": (ROOT / "docs" / "language-models.md").read_text(),
    "docs/performance.md": (ROOT / "docs" / "performance.md").read_text(),
    "docs/recurrence.md": RECURRENCE,
    "docs/reliability.md": (ROOT / "docs" / "reliability.md").read_text(),
    "docs/scaling.md": (ROOT / "docs" / "scaling.md").read_text(),
    "docs/translation.md": (ROOT / "docs" / "translation.md").read_text(),
    "docs/words-and-sentences.md": (ROOT / "docs" / "words-and-sentences.md").read_text(),
    "experiments/RESULTS.md": (ROOT / "experiments" / "RESULTS.md").read_text(),
}
ALL = "\n".join(PAGES.values())
sys.path.insert(0, str(ROOT))


# The programs of docs/extending.md run in processes of their own: tests/integration/test_extending.py.
EXAMPLES = [
    block
    for page, text in PAGES.items()
    if page != "docs/extending.md"
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
]


@pytest.mark.smoke
@pytest.mark.parametrize("block", EXAMPLES)
def test_every_python_example_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("README.md", "experiments"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)  # what an example writes goes there
    namespace: dict[str, object] = {}
    exec(re.sub(r"train\.updates=\d+", "train.updates=6", block), namespace)  # the same run, shortened
    if "context" in namespace:
        assert namespace["context"].shape == (2, 3, 1, 8)


def test_every_table_of_results_is_that_of_the_committed_files() -> None:
    from benchmarks.document_tables import TABLES, filled_in

    assert set(re.findall(r"<!-- table (\S+) -->", ALL)) == set(TABLES)
    for text in PAGES.values():
        assert filled_in(text) == text


def test_every_promise_is_held_by_a_test_that_is_there() -> None:
    promises = PAGES["docs/reliability.md"].split("\n## ")[0]
    rows = [row for row in promises.splitlines() if row.startswith("| ") and "---" not in row][1:]
    assert len(rows) > 5
    for row in rows:
        file = None
        named = re.findall(r"`(tests/[\w/]+\.py)?(?:::(\w+))?`", row.rsplit("|", 2)[1])
        assert named, row
        for path, test in named:
            file = path or file  # `::test` is of the file named before it
            text = (ROOT / file).read_text()
            assert not test or f"def {test}(" in text, (file, test)
            assert f"@pytest.mark.full\ndef {test}(" not in text, f"{test} runs in the second tier alone"


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_leads_to_one(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGES[page])
    assert links
    assert not [link for link in links if not ((ROOT / page).parent / link).exists()]


def test_every_command_of_the_command_line_is_one() -> None:
    from transformer_jax.cli.main import COMMANDS

    used = {command for text in PAGES.values() for command in re.findall(r"transformer-jax ([a-z]+) ", text)}
    assert used
    assert used <= set(COMMANDS)
    listed = re.findall(
        r"^\| (`.*?) \|", README.split("## The command line")[1].split("\n\n")[1], flags=re.MULTILINE
    )
    assert {name for row in listed for name in re.findall(r"`(\w+)`", row)} == set(COMMANDS)
