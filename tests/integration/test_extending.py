"""The programs of the guide to extensions, each run as it stands there, outside of the package."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text()
EXAMPLES = {
    title: (program, shown)
    for title, program, shown in re.findall(
        r"^## ([^\n]+)\n(?:(?!^## ).)*?```python\n(.*?)```\n\n```text\n(.*?)```",
        PAGE,
        flags=re.DOTALL | re.MULTILINE,
    )
}
LONGEST = 40


def test_the_guide_has_all_seven() -> None:
    wanted = {
        "A score rule",
        "A part of a mask",
        "A recurrent cell",
        "A model",
        "A task",
        "A data set and an objective",
    }
    assert set(EXAMPLES) == wanted
    assert PAGE.count("```python") == len(EXAMPLES)


@pytest.mark.parametrize("title", EXAMPLES)
def test_a_program_prints_what_the_guide_shows(title: str, tmp_path: Path) -> None:
    program, shown = EXAMPLES[title]
    script = tmp_path / "example.py"
    script.write_text(program)
    ran = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == shown


@pytest.mark.parametrize("title", EXAMPLES)
def test_a_program_takes_at_most_forty_lines(title: str) -> None:
    lines = [line for line in EXAMPLES[title][0].splitlines() if line.strip()]
    assert len([line for line in lines if not line.startswith(("import ", "from "))]) <= LONGEST
