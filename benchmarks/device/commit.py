"""Take the results of a device run into the repository: results, the record that ``None`` chooses by, and the tables.

    python -m benchmarks.device.commit FOLDER

Copies ``FOLDER/device-STAGE.json`` to ``benchmarks/results/device-STAGE-DEVICE.json``, writes the device's entry of
``transformer_jax/functional/device_record.json`` anew (parts whose stage is not in the folder stay as they were),
copies each score of ``FOLDER/training-results.json`` to ``experiments/results/NAME.json``, and rewrites the documents'
tables. Nothing is committed: it prints what to look at and to add.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.device.contract import verdicts
from benchmarks.device.run import SECONDS
from benchmarks.device.train import RESULTS as TRAINING
from transformer_jax.files import write_whole

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
SCORES = ROOT / "experiments" / "results"
RECORD = ROOT / "transformer_jax" / "functional" / "device_record.json"
FORMAT = 1

RIGHT = 2e-2
"""The largest difference from the reference with which a time counts: what the contract allows in 16 bits."""

BOTH, FORWARD = "forward and backward", "forward"
CELLS = {
    "lstm": "LSTMCell",
    "gru": "GRUCell",
    "min_gru": "MinGRUCell",
    "min_lstm": "MinLSTMCell",
    "diagonal": "DiagonalCell",
}


def slug(device: str) -> str:
    """A device's name for a file.

    Example:
      >>> slug("NVIDIA H100 80GB HBM3")
      'nvidia-h100-80gb-hbm3'
    """
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def passed_of(document: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    """By family and implementation what was refused, of those that passed."""
    found = verdicts([*document["records"], *document["lost"]])
    return {
        family: {name: sorted(one["refused"]) for name, one in implementations.items() if one["passed"]}
        for family, implementations in found.items()
    }


def attention_times(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each case the milliseconds of forward and backward, of implementations that were right."""
    rows: dict[str, dict[str, Any]] = {}
    for one in document["records"]:
        if one["mode"] != BOTH or one["median_ms"] is None or "blocks" in one:
            continue
        if one["implementation"].startswith("torch") or not one["difference"] <= RIGHT:
            continue
        same = {name: one[name] for name in ("case", "mask", "dtype", "grouped", "head_dim")}
        row = rows.setdefault(one["case"], {**same, "pairs": one["length"] ** 2, "milliseconds": {}})
        row["milliseconds"][one["implementation"]] = round(one["median_ms"], 4)
    return list(rows.values())


def block_sizes(document: Mapping[str, Any]) -> dict[str, list[int]]:
    """By width the fastest sizes of the ``mosaic_gpu`` kernels: of the forward one, and of the backward two."""
    best: dict[tuple[int, str], tuple[float, list[int]]] = {}
    for one in document["records"]:
        if "blocks" not in one or one["median_ms"] is None or not one["difference"] <= RIGHT:
            continue
        key = (one["head_dim"], one["mode"])
        best[key] = min(best.get(key, (float("inf"), [])), (one["median_ms"], one["blocks"]))
    widths = {width for width, _ in best}
    return {
        str(width): [best[width, FORWARD][1][0], *best[width, BOTH][1][1:]]
        for width in sorted(widths)
        if {(width, FORWARD), (width, BOTH)} <= set(best)
    }


def recurrence_times(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each case the milliseconds of forward and backward, of implementations that can be chosen."""
    rows: dict[str, dict[str, Any]] = {}
    for one in document["records"]:
        extra = one["extra"]
        if extra["mode"] != BOTH or one["median_ms"] is None:
            continue
        if one["implementation"] not in ("scan", "associative", "reference", "cudnn"):
            continue
        sizes = {
            "case": one["case"], "cell": CELLS[extra["cell"]], "dtype": extra["dtype"], "time": extra["time"],
            "batch": extra["batch"], "hidden_dim": extra["hidden"],
        }  # fmt: skip
        row = rows.setdefault(one["case"], {**sizes, "milliseconds": {}})
        row["milliseconds"][one["implementation"]] = round(one["median_ms"], 4)
    return list(rows.values())


def entry_of(documents: Mapping[str, Mapping[str, Any]], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """The device's entry, from the stages that there are and from the entry before.

    Raises:
      ValueError: If the documents are of a dry run, of no known device, or of several.
    """
    environments = [one["environment"] for one in documents.values() if "environment" in one]
    devices = {one["device"] for one in environments}
    if any(one["dry_run"] for one in documents.values()):
        raise ValueError("these are the results of a dry run: there is nothing to take from them")
    if len(devices) != 1:
        raise ValueError(f"the results must be of one device, got {sorted(devices) or 'none'}")
    empty: dict[str, Any] = {"passed": {}, "times": {}, "block_sizes": {}}
    entry = json.loads(json.dumps({**empty, **(before or {})}))
    found = environments[0]
    entry |= {"device": found["device"], "platform": found["platform"], "jax": found["versions"]["jax"]}
    if "contract" in documents:
        entry["passed"] = passed_of(documents["contract"])
    if "attention" in documents:
        entry["times"]["attention"] = attention_times(documents["attention"])
        entry["block_sizes"] = block_sizes(documents["attention"])
    if "recurrence" in documents:
        entry["times"]["recurrence"] = recurrence_times(documents["recurrence"])
    return entry


def take(
    folder: Path, *, results: Path = RESULTS, record: Path = RECORD
) -> tuple[dict[str, Any], list[Path]]:
    """Copy the results and write the record; the entry, and the files written.

    Raises:
      ValueError: If the folder has no results, or unfit ones; nothing is written then.
    """
    documents = {
        stage: json.loads(path.read_text("utf-8"))
        for stage in SECONDS
        if (path := folder / f"device-{stage}.json").exists()
    }
    if not documents:
        raise ValueError(f"{folder} holds no device-STAGE.json")
    old = json.loads(record.read_text("utf-8")) if record.exists() else {"format": FORMAT, "devices": []}
    environment = next((one["environment"] for one in documents.values() if "environment" in one), {})
    device = environment.get("device", "")
    entry = entry_of(documents, next((one for one in old["devices"] if one["device"] == device), None))
    written = []
    for stage in documents:
        path = results / f"device-{stage}-{slug(device)}.json"
        write_whole(path, json.dumps(documents[stage], indent=1) + "\n")
        written.append(path)
    others = [one for one in old["devices"] if one["device"] != device]
    write_whole(record, json.dumps({"format": FORMAT, "devices": [*others, entry]}, indent=1) + "\n")
    return entry, [*written, record]


def take_scores(folder: Path, *, scores: Path = SCORES) -> list[Path]:
    """Copy the scores of trained models; the files written, none where nothing was trained."""
    path = folder / TRAINING
    if not path.exists():
        return []
    written = []
    for name, found in json.loads(path.read_text("utf-8")).items():
        if "error" not in found:
            write_whole(scores / f"{name}.json", json.dumps(found, indent=2) + "\n")
            written.append(scores / f"{name}.json")
    return written


def main(words: Sequence[str] | None = None) -> int:
    """Parse the command line; take the results, rewrite the tables, say what to do."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(words).folder
    written = take_scores(folder)
    entry: dict[str, Any] = {"passed": {}}
    try:
        if not written or any(folder.glob("device-*.json")):
            entry, results = take(folder)
            written += results
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    from benchmarks import document_tables

    document_tables.rewrite()
    for family, passed in entry["passed"].items():
        print(f"{family}, passed on {entry['device']}: {', '.join(passed) or 'none'}")
    print("look at the pages' changes, run the tests, then commit:")
    print(
        "  git add README.md docs experiments/RESULTS.md "
        + " ".join(str(path.relative_to(ROOT)) for path in written)
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
