"""Tables of models that rewrite text, summaries and code, with a pointer and without."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.tables.result_files import EXPERIMENTS, markdown_table

SCORES = ("exact", "exact_unseen", "rouge1", "rouge2", "rougel", "bleu")
TITLES = ("exact", "exact, unseen pairs", "ROUGE-1", "ROUGE-2", "ROUGE-L", "BLEU")


def rewriting_table(prefix: str) -> str:
    """A row for each evaluated run whose file name begins with ``prefix``; scores in percent."""
    rows = []
    for path in sorted(EXPERIMENTS.glob(f"{prefix}-*.json")):
        document = json.loads(path.read_text())
        rows.append([path.stem, *_training_cells(document), *_score_cells(document)])
    titles = ["run", "parameters", "updates", "training s", "hardware", "search", *TITLES]
    return markdown_table(titles, rows) if rows else ""


def _training_cells(document: dict[str, Any]) -> list[str]:
    training, search = document["training"], document["search"]
    machine = training.get("machine") or document["environment"]
    cores = int(machine["cores"])
    return [
        f"{training['parameters']:,}",
        f"{training['updates']:,}" + (" (stopped)" if training.get("truncated") else ""),
        f"{training['train_seconds']:,.0f}",
        f"{cores} core{'s' if cores > 1 else ''}, {machine['device'].removesuffix(' (cpu)')}",
        f"beam {search['num_beams']}" if search["kind"] == "beam" else search["kind"],
    ]


def _score_cells(document: dict[str, Any]) -> list[str]:
    return [f"{document[name]:.2f}" if name in document else "" for name in SCORES]


TABLES: dict[str, Callable[[], str]] = {
    "rewriting-aeslc": partial(rewriting_table, "aeslc"),
    "rewriting-django": partial(rewriting_table, "django"),
}
"""Each table of the documents by its name."""
