"""Arrays of a data set's ``.npz`` files."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from transformer_jax.errors import DataError


def read_arrays(path: Path, names: Sequence[str], *, what: str) -> list[npt.NDArray[Any]]:
    """The named arrays of a ``.npz`` file.

    Args:
      path: The file.
      names: Names of the arrays.
      what: What they are of, for messages.

    Raises:
      DataError: If the file is missing or damaged, or an array is missing or holds objects.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return [stored[name] for name in names]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: no arrays of {what}, or damaged: {error}") from None
