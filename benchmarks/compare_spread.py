"""Put the reports of one comparison over several seeds together: how far the error rates move by chance.

    for seed in 0 1 2; do transformer-jax compare --seed $seed --run-dir runs/seed-$seed; done
    python benchmarks/compare_spread.py runs/seed-*/report.json --json benchmarks/results/compare-quick-cpu.json

Prints each rung's error rates by seed, their mean and spread, and whether every attention rung stands below every
rung without attention in each seed. Speeds are those of the first report.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.table import Table

PLAIN_RUNGS = ("rnn", "lstm", "gru")


def put_together(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """One document: the first report's header and speeds, the error rates of every seed.

    Raises:
      SystemExit: If the reports do not belong to one comparison.
    """
    first = reports[0]
    names = [row["name"] for row in first["models"]]
    for report in reports[1:]:
        same = [report["preset"], report["scored_words"], [row["name"] for row in report["models"]]]
        if same != [first["preset"], first["scored_words"], names]:
            raise SystemExit(f"error: the reports differ in preset, scored words or rungs: {same}")
        if [row["updates"] for row in report["models"]] != [row["updates"] for row in first["models"]]:
            raise SystemExit("error: the reports differ in updates")
    seeds = [report["seed"] for report in reports]
    if len(set(seeds)) != len(seeds):
        raise SystemExit(f"error: each report must have a seed of its own; got {seeds}")
    models = []
    for place, row in enumerate(first["models"]):
        own = {key: value for key, value in row.items() if key not in ("per", "wer", "curve")}
        for metric in ("per", "wer"):
            own[metric] = [report["models"][place][metric] for report in reports]
        models.append(own)
    header = (
        "environment",
        "preset",
        "dataset",
        "batch_words",
        "development_words",
        "scored_words",
        "search",
    )
    return {**{key: first[key] for key in header}, "seeds": seeds, "models": models}


def attention_is_below(document: dict[str, Any]) -> list[bool]:
    """For each seed: is the PER of every rung with attention below that of every rung without?"""
    rows = document["models"]
    plain = [row["per"] for row in rows if row["name"] in PLAIN_RUNGS]
    attending = [row["per"] for row in rows if row["name"] not in PLAIN_RUNGS]
    return [
        max(per[seed] for per in attending) < min(per[seed] for per in plain)
        for seed in range(len(document["seeds"]))
    ]


def main() -> None:
    """Parse the command line, print the table, write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reports", nargs="+", type=Path, help="report.json files, the timed one first")
    parser.add_argument("--json", type=Path, help="write the document here")
    arguments = parser.parse_args()
    try:
        document = put_together([json.loads(path.read_text()) for path in arguments.reports])
    except (OSError, json.JSONDecodeError) as error:
        raise SystemExit(f"error: {error}") from None
    table = Table(title=f"{document['preset']}, seeds {document['seeds']}: error rates, %")
    table.add_column("model")
    for title in ("PER by seed", "mean", "spread", "WER, mean"):
        table.add_column(title, justify="right")
    for row in document["models"]:
        per = row["per"]
        table.add_row(
            row["name"],
            ", ".join(f"{value:.2f}" for value in per),
            f"{statistics.mean(per):.2f}",
            f"{max(per) - min(per):.2f}",
            f"{statistics.mean(row['wer']):.1f}",
        )
    Console().print(table)
    for seed, below in zip(document["seeds"], attention_is_below(document)):
        print(f"seed {seed}: every attention rung below every plain one: {'yes' if below else 'NO'}")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
        print(f"wrote {arguments.json}", file=sys.stderr)


if __name__ == "__main__":
    main()
