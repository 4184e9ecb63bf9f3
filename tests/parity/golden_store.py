"""Golden arrays: what another program computed, kept so that parity is tested where it is not installed.

A *family* is one generator script, one test module and one manifest ``golden/<family>.json``, which names for
each case the program and version that made it and the SHA-256 of ``golden/<family>/<case>.npz``. Inputs,
weights, outputs and gradients of a case are all in its file, so a golden test draws no random numbers of its
own.

A family's test module exposes ``CASES`` (a list of case names) and ``test_golden(case)``, parametrized over
it; ``test_coverage.py`` holds the three (list, manifest, files) to one another. Add the family there.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

GOLDEN_DIR = Path(__file__).parent / "golden"


class GoldenError(AssertionError):
    """A golden file is missing, unlisted, or not the one that the manifest names."""


def manifest_path(family: str) -> Path:
    """Where the family's manifest lies."""
    return GOLDEN_DIR / f"{family}.json"


def case_path(family: str, case: str) -> Path:
    """Where the arrays of one case lie."""
    return GOLDEN_DIR / family / f"{case}.npz"


def load_manifest(family: str) -> dict[str, dict[str, str]]:
    """The manifest's ``cases``: name to ``{"file", "sha256", "program", "version"}``."""
    path = manifest_path(family)
    if not path.is_file():
        raise GoldenError(
            f"no manifest {path.name}: run tests/parity/make_golden_{family}.py where PyTorch is installed"
        )
    return json.loads(path.read_text())["cases"]


def save_case(
    family: str, case: str, arrays: Mapping[str, np.ndarray], version: str, *, program: str = "torch"
) -> None:
    """Write the arrays of one case and enter them in the family's manifest.

    Args:
      family: Name of the family.
      case: Name of the case; also the file's name.
      arrays: Name to array; numbers and booleans only. Float64 is stored as float32.
      version: Version of the program that computed them.
      program: Its name.
    """
    path = case_path(family, case)
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {}
    for name, array in arrays.items():
        array = np.asarray(array)
        if array.dtype.kind not in "biuf":
            raise GoldenError(
                f"{family}/{case}: '{name}' is of dtype {array.dtype}; golden arrays are numbers"
            )
        plain[name] = array.astype(np.float32) if array.dtype == np.float64 else array
    np.savez(path, **plain)
    manifest = manifest_path(family)
    cases = json.loads(manifest.read_text())["cases"] if manifest.is_file() else {}
    cases[case] = {
        "file": f"{family}/{case}.npz",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "program": program,
        "version": version,
    }
    manifest.write_text(json.dumps({"family": family, "cases": dict(sorted(cases.items()))}, indent=1) + "\n")


def load_case(family: str, case: str) -> dict[str, np.ndarray]:
    """Read the arrays of one case, after holding the file to the manifest's hash.

    Raises:
      GoldenError: If the case is not listed, the file is missing, or its hash is another.
    """
    entry = load_manifest(family).get(case)
    if entry is None:
        raise GoldenError(f"golden case '{case}' is not in {manifest_path(family).name}")
    path = GOLDEN_DIR / entry["file"]
    if not path.is_file():
        raise GoldenError(f"golden file {entry['file']} is listed and missing")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != entry["sha256"]:
        raise GoldenError(
            f"golden file {entry['file']} has SHA-256 {digest}; the manifest says {entry['sha256']}"
        )
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def remove_family(family: str) -> None:
    """Delete a family's files and manifest; a generator calls this first, so that no stale case stays."""
    for path in sorted((GOLDEN_DIR / family).glob("*.npz")):
        path.unlink()
    manifest_path(family).unlink(missing_ok=True)
