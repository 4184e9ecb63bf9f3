"""Tables of forecasters."""

import json
import re
import statistics
from typing import Any

from benchmarks.tables.result_files import EXPERIMENTS, markdown_table

_TITLES = {"mse": "MSE", "mae": "MAE", "smape": "sMAPE", "mase": "MASE", "owa": "OWA"}
_NAIVE = ("seasonal naive", "repeat last", "Naive 2")


def _hardware(machine: dict[str, Any]) -> str:
    cores = f"{machine['cores']} core{'s' if int(machine['cores']) > 1 else ''}"
    return f"{cores}, {machine['device'].removesuffix(' (cpu)')}"


def series_table(prefix: str, scores: tuple[str, ...]) -> str:
    """A row for each forecaster on a data set, and below them naive forecasts; ``-seedN`` files are one row.

    Scores of several seeds are their mean and their standard deviation, seconds are the mean.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(EXPERIMENTS.glob(f"{prefix}-*.json")):
        name = re.sub(r"-seed\d+$", "", path.stem)
        groups.setdefault(name, []).append(json.loads(path.read_text()))
    rows = []
    for name, documents in groups.items():
        training = [document["training"] for document in documents]
        machine = training[0].get("machine") or documents[0]["environment"]
        rows.append(
            [
                name,
                f"{training[0]['parameters']:,}",
                f"{training[0]['updates']:,}",
                str(len(documents)),
                f"{statistics.mean(one['train_seconds'] for one in training):,.0f}",
                *(_spread([document[score] for document in documents]) for score in scores),
                _hardware(machine),
            ]
        )
    if not groups:
        return ""
    first = next(iter(groups.values()))[0]
    for name in _NAIVE:
        found = first["naive"][name]
        rows.append([name, "", "", "", "", *(f"{found[score]:.3f}" for score in scores), ""])
    titles = ["run", "parameters", "updates", "seeds", "training s", *(_TITLES[score] for score in scores)]
    return markdown_table([*titles, "hardware"], rows)


def _spread(values: list[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{deviation}"


TABLES = {
    "series-etth1": lambda: series_table("series-etth1", ("mse", "mae")),
    "series-etth1h96": lambda: series_table("series-etth1h96", ("mse", "mae")),
    "series-m4": lambda: series_table("series-m4", ("smape", "mase", "owa")),
}
"""Each table of the documents by its name."""
