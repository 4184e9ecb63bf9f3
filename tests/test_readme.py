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
    "docs/recurrence.md": RECURRENCE,
    "docs/translation.md": (ROOT / "docs" / "translation.md").read_text(),
    "experiments/RESULTS.md": (ROOT / "experiments" / "RESULTS.md").read_text(),
}
ALL = "\n".join(PAGES.values())
sys.path.insert(0, str(ROOT))


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", ALL, flags=re.DOTALL))
def test_every_python_example_runs(block: str) -> None:
    namespace: dict[str, object] = {}
    exec(block, namespace)
    if "context" in namespace:
        assert namespace["context"].shape == (2, 3, 1, 8)


def test_every_table_of_results_is_that_of_the_committed_files() -> None:
    from benchmarks.document_tables import TABLES, filled_in

    assert set(re.findall(r"<!-- table (\S+) -->", ALL)) == set(TABLES)
    for text in PAGES.values():
        assert filled_in(text) == text


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_leads_to_one(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGES[page])
    assert links
    assert not [link for link in links if not ((ROOT / page).parent / link).exists()]


def test_every_command_of_the_command_line_is_one() -> None:
    from transformer_jax.cli.main import COMMANDS

    used = set(re.findall(r"transformer-jax ([a-z]+)", README))
    assert used
    assert used <= set(COMMANDS)
