"""Tables of the ladder and of trained experiments."""

import json
import re
import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.tables.result_files import EXPERIMENTS, markdown_table, read_results


def compare_table(name: str) -> str:
    """The comparison: error rates as the mean over seeds and half of their range, speeds of the first seed."""
    document = read_results(name)

    def rate(values: list[float]) -> str:
        spread = f" ± {(max(values) - min(values)) / 2:.1f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.1f}{spread}"

    rows = [
        [
            row["name"],
            f"{row['parameters']:,}",
            rate(row["per"]),
            rate(row["wer"]),
            f"{row['tokens_per_second']:,.0f}",
            f"{row['words_per_second']:,.0f}",
            f"{row['train_seconds']:.0f}",
            f"{row['compile_seconds']:.0f}",
        ]
        for row in document["models"]
    ]
    titles = ["model", "parameters", "PER %", "WER %", "trained tokens/s", "decoded words/s", "training s"]
    return markdown_table([*titles, "compile s"], rows)


def standard_table(name: str) -> str:
    """Sizes and error rates alone: the rungs shared their cores, so that their times say little."""
    rows = [
        [
            row["name"],
            f"{row['parameters']:,}",
            f"{row['updates']:,}",
            f"{row['per'][0]:.1f}",
            f"{row['wer'][0]:.1f}",
        ]
        for row in read_results(name)["models"]
    ]
    return markdown_table(["model", "parameters", "updates", "PER %", "WER %"], rows)


def experiments_table() -> str:
    """A row for each file that ``transformer-jax evaluate --json`` wrote."""
    rows = []
    for path in sorted(EXPERIMENTS.glob("*.json")):
        document = json.loads(path.read_text())
        if document["task"] not in ("pronunciation", "translation"):
            continue
        training = document["training"]
        machine = training.get("machine") or document["environment"]
        names = ("per", "wer") if document["task"] == "pronunciation" else ("bleu", "chrf", "ter")
        rows.append(
            [
                path.stem,
                f"{training['parameters']:,}",
                f"{training['updates']:,}{' (truncated)' if training.get('truncated') else ''}",
                f"{training['train_seconds']:,.0f}",
                "greedy"
                if document["search"]["kind"] == "greedy"
                else f"beam {document['search']['num_beams']}",
                ", ".join(f"{name.upper()} {document[name]:.2f}" for name in names),
                f"{machine['cores']} cores, {machine['device'].removesuffix(' (cpu)')}",
            ]
        )
    titles = ["run", "parameters", "updates", "training s", "search", "test scores"]
    return markdown_table([*titles, "hardware"], rows)


def language_table() -> str:
    """A row for each language model that was evaluated; files that differ by ``-seedN`` alone are one row.

    Losses of several seeds are their mean and half of their range, seconds are the mean.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(EXPERIMENTS.glob("*.json")):
        document = json.loads(path.read_text())
        if document["task"] == "language_modelling":
            groups.setdefault(re.sub(r"-seed\d+$", "", path.stem), []).append(document)
    rows = []
    for name, documents in groups.items():
        first = documents[0]["training"]
        machine = first.get("machine") or documents[0]["environment"]

        def scores(key: str, documents: list[dict[str, Any]] = documents) -> str:
            values = [document[key] for document in documents]
            spread = f" ± {(max(values) - min(values)) / 2:.4f}" if len(values) > 1 else ""
            return f"{statistics.mean(values):.4f}{spread}"

        seconds = statistics.mean(document["training"]["train_seconds"] for document in documents)
        rows.append(
            [
                name,
                f"{first['parameters']:,}",
                f"{first['updates']:,}{' (truncated)' if first.get('truncated') else ''}",
                f"{len(documents)}",
                f"{seconds:,.0f}",
                scores("nats"),
                scores("bits_per_character"),
                f"{machine['cores']} cores, {machine['device'].removesuffix(' (cpu)')}",
            ]
        )
    titles = ["run", "parameters", "updates", "seeds", "training s", "nats a token", "bits a character"]
    return markdown_table([*titles, "hardware"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "compare-quick": lambda: compare_table("compare-quick-cpu.json"),
    "compare-standard": lambda: standard_table("compare-standard-cpu.json"),
    "experiments": experiments_table,
    "language": language_table,
}
