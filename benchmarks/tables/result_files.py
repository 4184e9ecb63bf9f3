"""Where committed results lie, and what all tables share."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results"
EXPERIMENTS = ROOT / "experiments" / "results"


def read_results(name: str) -> dict[str, Any]:
    """The document of ``benchmarks/results``."""
    return json.loads((RESULTS / name).read_text())


def markdown_table(titles: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column to the left, the others to the right."""
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def processor_of(document: dict[str, Any]) -> str:
    """The processor, without the makers' marks."""
    return re.sub(r"\(R\)|\(TM\)| Processor", "", document["environment"]["processor"])
