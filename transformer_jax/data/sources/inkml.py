"""InkML files: the strokes of a drawing, and what it says where the file tells."""

import dataclasses
import os
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from transformer_jax.data.ink import Ink
from transformer_jax.errors import DataError, shortened

MAX_FILE_BYTES = 64_000_000
"""A larger file is no drawing by hand."""

_LATEX_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\S", re.DOTALL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InkFile:
    """A drawing, and what it says.

    Attributes:
      ink: The strokes.
      truth: The file's annotation ``truth``, without dollar signs; None where it has none.
    """

    ink: Ink
    truth: str | None


def read_inkml(path: str | os.PathLike[str]) -> InkFile:
    """Read an InkML file, such as those of CROHME.

    Traces of a ``traceFormat`` with other channels beside X and Y are read by its order; without one the first two
    numbers of a point are X and Y. Trace groups change nothing: strokes are taken in the order of the file.

    Args:
      path: The file.

    Raises:
      DataError: If it is missing, too large, no InkML, declares entities, holds no stroke, or a point is not numbers.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DataError(f"{path}: larger than {MAX_FILE_BYTES:,} bytes; not a drawing")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read the drawing: {error.strerror}") from None
    if b"<!DOCTYPE" in content[:100_000] or b"<!ENTITY" in content:
        raise DataError(f"{path}: declares a document type or entities, which a drawing does not need")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path}: no InkML: {shortened(str(error), 80)}") from None
    if _name(root) != "ink":
        raise DataError(f"{path}: no InkML: the outer element is <{shortened(_name(root), 30)}>, not <ink>")
    channels = [
        one.get("name", "").upper() for one in root.iter() if _name(one) == "channel" and one.get("name")
    ]
    places = (0, 1)
    if channels:
        if not {"X", "Y"} <= set(channels):
            raise DataError(f"{path}: its traces have no X and Y, but {', '.join(channels[:6])}")
        places = (channels.index("X"), channels.index("Y"))
    traces = [one for one in root.iter() if _name(one) == "trace"]
    try:
        strokes = [_points(one.text or "", places) for one in traces]
        return InkFile(ink=Ink(tuple(one for one in strokes if len(one))), truth=_truth(root))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def latex_tokens(text: str) -> str:
    r"""A formula as tokens between spaces: commands, and single characters.

    Example:
      >>> latex_tokens(r"\frac{1}{2}+x_{10}")
      '\\frac { 1 } { 2 } + x _ { 1 0 }'
    """
    return " ".join(_LATEX_TOKEN.findall(text))


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _truth(root: ElementTree.Element) -> str | None:
    for one in root:  # of the whole drawing, not of its groups
        if _name(one) == "annotation" and one.get("type") == "truth" and (one.text or "").strip():
            return (one.text or "").strip().strip("$").strip()
    return None


def _points(text: str, places: tuple[int, int]) -> "np.ndarray":
    rows = [row.split() for row in text.strip().split(",") if row.strip()]
    try:
        return np.array([[float(row[place]) for place in places] for row in rows], np.float32).reshape(-1, 2)
    except (ValueError, IndexError):
        bad = next((row for row in rows if not _is_point(row, places)), [])
        raise DataError(
            f"wanted points as numbers 'x y' with commas between, got {shortened(' '.join(bad), 40)!r}"
        ) from None


def _is_point(row: list[str], places: tuple[int, int]) -> bool:
    try:
        return all(np.isfinite(float(row[place])) for place in places)
    except (ValueError, IndexError):
        return False
