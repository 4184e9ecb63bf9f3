"""Tables of classifiers of text."""

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.tables.result_files import markdown_table, read_results


def classification_table(name: str) -> str:
    """Accuracies of poolings as means over runs and half of their range, and those of the baseline."""
    document = read_results(name)
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in document["rows"]:
        groups.setdefault((row["subset"], row["pooling"]), []).append(row)

    def accuracy(rows: list[dict[str, Any]], split: str) -> str:
        values = [100 * row[split]["accuracy"] for row in rows if split in row]
        if not values:
            return ""
        return f"{statistics.mean(values):.2f} ± {(max(values) - min(values)) / 2:.2f}"

    cells = []
    for (subset, pooling), rows in groups.items():
        seconds = statistics.mean(row["train_seconds"] for row in rows)
        scores = [accuracy(rows, split) for split in ("development", "test")]
        cells.append(
            [subset, pooling, f"{rows[0]['parameters']:,}", f"{len(rows)}", *scores, f"{seconds:,.0f}"]
        )
    for subset, found in document["baselines"].items():
        if found is not None:
            scores = [f"{100 * found[part]:.2f}" if part in found else "" for part in ("development", "test")]
            cells.append([subset, "TF-IDF, logistic regression", "", "1", *scores, ""])
    order = list(document["baselines"])
    cells.sort(key=lambda row: order.index(row[0]))
    titles = ["set", "pooling", "parameters", "runs", "development %", "test %", "training s"]
    return markdown_table(titles, cells)


TABLES: dict[str, Callable[[], str]] = {}
