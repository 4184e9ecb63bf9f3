"""Two races side by side."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from transformer_jax.errors import DataError

MACHINE = ("platform", "device", "num_devices", "processor", "cores", "xla_flags", "matmul_precision")
"""What must be equal for times to be comparable; versions may differ, they are often what is compared."""


@dataclasses.dataclass(frozen=True)
class Change:
    """One contestant in one case: new time over old, with the 95 % interval of its bootstrap."""

    case: str
    implementation: str
    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.low > 1.0:
            return "slower"
        return "faster" if self.high < 1.0 else "level"


def read_race(path: Path) -> dict[str, Any]:
    """The document of a race.

    Raises:
      DataError: If the file is not one.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({str(error)[:80]})") from None
    if not isinstance(document, dict) or document.get("benchmark") != "race" or "format" not in document:
        raise DataError(f"{path}: not the results of a race (transformer-jax race writes race.json)")
    if not isinstance(document.get("environment"), dict) or not isinstance(document.get("records"), list):
        raise DataError(f"{path}: the results of a race lack their environment or their records")
    return document


def unlike(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between the machines."""
    pairs = ((key, old["environment"].get(key), new["environment"].get(key)) for key in MACHINE)
    return [f"{key}: {a} and {b}" for key, a, b in pairs if a != b]


def compare(old: dict[str, Any], new: dict[str, Any], *, draws: int = 2000, seed: int = 0) -> list[Change]:
    """The cases that both have.

    The two ran apart, so that rounds are no pairs: each side is drawn by itself.

    Raises:
      DataError: If a record lacks its times, or no case is common.
    """
    generator = np.random.default_rng(seed)
    sides = []
    for document in (old, new):
        try:
            sides.append(
                {
                    (one["case"], one["implementation"], one["extra"]["width"]): one["extra"]["milliseconds"]
                    for one in document["records"]
                    if one["median_ms"] is not None
                }
            )
        except (KeyError, TypeError) as error:
            raise DataError(f"a record of a race is not whole: {error}") from None
    changes = []
    for key in (key for key in sides[0] if key in sides[1]):
        before, after = (np.asarray(side[key], float) for side in sides)
        medians = [
            np.median(generator.choice(values, size=(draws, len(values))), axis=1)
            for values in (after, before)
        ]
        low, high = np.quantile(medians[0] / medians[1], [0.025, 0.975])
        ratio = float(np.median(after) / np.median(before))
        changes.append(Change(key[0], key[1], ratio, float(low), float(high)))
    if not changes:
        raise DataError("the two races have no case of one contestant and width in common")
    return changes
