"""Tables of captioners."""

import json

from benchmarks.tables.result_files import EXPERIMENTS, markdown_table


def caption_table(prefix: str) -> str:
    """A row for each captioner on a data set; empty without results."""
    rows = []
    for path in sorted(EXPERIMENTS.glob(f"{prefix}-*.json")):
        document = json.loads(path.read_text())
        training = document["training"]
        machine = training.get("machine") or document["environment"]
        cores = int(machine["cores"])
        rows.append(
            [
                path.stem,
                f"{training['parameters']:,}",
                f"{training.get('best_update', training['updates']):,}",
                f"{training['train_seconds']:,.0f}",
                f"{training['development']['exact']:.1f}" if "development" in training else "",
                f"{document['exact']:.2f}",
                f"{document['token_error_rate']:.2f}",
                f"{cores} core{'s' if cores > 1 else ''}, {machine['device'].removesuffix(' (cpu)')}",
            ]
        )
    if not rows:
        return ""
    titles = ["run", "parameters", "update", "training s", "development exact %", "exact %", "token errors %"]
    return markdown_table([*titles, "hardware"], rows)


TABLES = {
    "captions-crohme": lambda: caption_table("crohme"),
    "captions-digits": lambda: caption_table("digit-strips"),
}
"""Each table of the documents by its name."""
