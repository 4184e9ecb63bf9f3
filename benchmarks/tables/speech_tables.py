"""Table of transcribers."""

import json

from benchmarks.tables.result_files import EXPERIMENTS, markdown_table


def speech_table() -> str:
    """A row for each transcriber: error rates of characters and words, and recordings without any error, in percent."""
    rows = []
    for path in sorted(EXPERIMENTS.glob("speech-*.json")):
        document = json.loads(path.read_text())
        training = document["training"]
        machine = training.get("machine") or document["environment"]
        cores = int(machine["cores"])
        search = document["search"]
        rows.append(
            [
                path.stem,
                f"{training['parameters']:,}",
                f"{training['updates']:,}" + (" (stopped)" if training.get("truncated") else ""),
                f"{training['train_seconds']:,.0f}",
                f"beam {search['num_beams']}" if search["kind"] == "beam" else search["kind"],
                *(f"{document[score]:.2f}" for score in ("cer", "wer", "exact")),
                f"{cores} core{'s' if cores > 1 else ''}, {machine['device'].removesuffix(' (cpu)')}",
            ]
        )
    titles = ["run", "parameters", "updates", "training s", "search", "CER", "WER", "exact", "hardware"]
    return markdown_table(titles, rows) if rows else ""


TABLES = {"speech": speech_table}
"""Each table of the documents by its name."""
