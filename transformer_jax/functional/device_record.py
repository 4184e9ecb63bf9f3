"""Read what runs on accelerators have shown: which implementations passed their contract there, which was fastest.

``device_record.json`` beside this file is written by ``python -m benchmarks.device.commit`` from the results of
``python -m benchmarks.device`` and committed. An implementation that was written for an accelerator is experimental,
and never chosen by ``implementation=None``, until a device's entry lists it as passed; among those that passed, the
times of the entry choose. Without an entry for the device of the process nothing changes: the rules measured on CPUs
hold.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

PATH = Path(__file__).with_name("device_record.json")
FORMAT = 1

OUT_OF_RANGE = 4.0
"""How many times fewer or more pairs than any measured case a call may have and still be chosen for by it."""


@dataclasses.dataclass(frozen=True)
class DeviceEntry:
    """Recorded results of one kind of device.

    Attributes:
      device: As ``jax.Device.device_kind`` names it.
      platform: As ``jax.Device.platform`` names it.
      passed: By family (``"attention"``, ``"recurrence"``) and implementation, the names of the checks refused;
        an implementation that failed a check is not listed.
      times: By family, the measured cases, each a mapping with ``milliseconds`` by implementation.
      block_sizes: By padded width as a text, sizes of the ``mosaic_gpu`` kernels.
    """

    device: str
    platform: str
    passed: Mapping[str, Mapping[str, Sequence[str]]]
    times: Mapping[str, Sequence[Mapping[str, Any]]]
    block_sizes: Mapping[str, Sequence[int]]


def parse(document: Mapping[str, Any]) -> tuple[DeviceEntry, ...]:
    """The entries of a document.

    Raises:
      ValueError: If it is of another format.

    Example:
      >>> parse({"format": 1, "devices": []})
      ()
    """
    if document.get("format") != FORMAT:
        raise ValueError(f"the device record must have format {FORMAT}, got {document.get('format')!r}")
    names = [field.name for field in dataclasses.fields(DeviceEntry)]
    return tuple(DeviceEntry(**{name: entry[name] for name in names}) for entry in document["devices"])


@functools.cache
def entries() -> tuple[DeviceEntry, ...]:
    """The committed entries; none where no run on an accelerator was committed."""
    return parse(json.loads(PATH.read_text("utf-8"))) if PATH.exists() else ()


def has_passed(family: str, implementation: str) -> bool:
    """Whether the contract of an implementation was passed on any device.

    Example:
      >>> has_passed("attention", "no such implementation")
      False
    """
    return any(implementation in entry.passed.get(family, {}) for entry in entries())


def default_device() -> Any:
    """The ``jax.Device`` that computes what is on no device yet: ``jax.default_device``, or else the first device.

    Example:
      >>> with jax.default_device(jax.devices("cpu")[0]):
      ...   default_device().platform
      'cpu'
    """
    config: Any = jax.config
    chosen = config.jax_default_device
    if isinstance(chosen, str):
        return jax.devices(chosen)[0]
    return jax.devices()[0] if chosen is None else chosen


def entry_here() -> DeviceEntry | None:
    """The entry of the default device, else the first one of its platform; ``None`` on a CPU."""
    if not entries():
        return None
    device = default_device()
    if device.platform == "cpu":
        return None
    own = [entry for entry in entries() if entry.platform == device.platform]
    return next((entry for entry in own if entry.device == device.device_kind), own[0] if own else None)


def nearest(
    rows: Sequence[Mapping[str, Any]], same: Mapping[str, Any], near: Mapping[str, float]
) -> Mapping[str, Any] | None:
    """The measured case that is nearest to a call by the logarithms of its sizes.

    Args:
      rows: Measured cases.
      same: What must be equal.
      near: Sizes, all positive; the first one must lie within :data:`OUT_OF_RANGE` times of a measured case.

    Returns:
      The case, or ``None`` where none is near.

    Example:
      >>> rows = [{"mask": "causal", "pairs": 100.0}, {"mask": "causal", "pairs": 10_000.0}]
      >>> nearest(rows, {"mask": "causal"}, {"pairs": 5000.0})["pairs"]
      10000.0
      >>> nearest(rows, {"mask": "causal"}, {"pairs": 1.0}) is None
      True
    """
    first = next(iter(near))

    def distance(row: Mapping[str, Any], name: str) -> float:
        return abs(math.log(near[name] / row[name]))

    fitting = [
        row
        for row in rows
        if all(row[name] == value for name, value in same.items())
        and distance(row, first) <= math.log(OUT_OF_RANGE)
    ]
    return min(fitting, key=lambda row: sum(distance(row, name) for name in near), default=None)
