"""Sections of documents on runs of a lent device; empty where no run is committed."""

import json
from collections.abc import Callable

from benchmarks.device import tables as device_tables
from benchmarks.tables import result_files


def device_section(stage: str, heading: str, text: str) -> str:
    """What a stage of ``benchmarks/device`` found, a part for each device; nothing where none is committed."""
    parts = []
    for path in sorted(result_files.RESULTS.glob(f"device-{stage}-*.json")):
        document = json.loads(path.read_text())
        source = f"[all of it](../benchmarks/results/{path.name})"
        table = device_tables.markdown(*device_tables.TABLES[stage](document))
        parts += [f"{heading}: {device_tables.machine(document)}", f"{text} ({source}).", table]
        if stage == "attention":
            titles, rows = device_tables.blocks(document)
            if rows:
                parts += [
                    "The `mosaic_gpu` kernels by their block sizes:",
                    device_tables.markdown(titles, rows),
                ]
    return "\n" + "\n\n".join(parts) + "\n" if parts else ""


TABLES: dict[str, Callable[[], str]] = {
    "device-contract": lambda: device_section(
        "contract", "### The contract on a GPU", "Checks of the contract suite by how they ended"
    ),
    "device-attention": lambda: device_section(
        "attention",
        "### On a GPU",
        "bfloat16, batch x length x heads x width; milliseconds, in brackets the greatest difference from the "
        "reference in float32 as a share of the greatest entry; PyTorch's backends ran in a process of their own",
    ),
    "device-recurrence": lambda: device_section(
        "recurrence",
        "### On a GPU",
        "Batch x time x hidden; milliseconds, in brackets the time over that of `scan`",
    ),
    "device-race": lambda: device_section(
        "race",
        "### The race on a GPU",
        "Next-token models of one number of parameters; training and generation",
    ),
    "device-training": lambda: device_section(
        "training",
        "### On a GPU",
        "A training step and a beam search of the base Transformer beside PyTorch's",
    ),
}
