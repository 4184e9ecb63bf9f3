"""Labels of a trained model in a file of their own: how they are read back, and a fingerprint of their contents."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from transformer_jax.errors import DataError

MAX_FILE_BYTES = 16_000_000

_Artifact = TypeVar("_Artifact")


def load_artifact(
    path: str | os.PathLike[str], make: Callable[[Any], _Artifact], *, what: str, noun: str
) -> _Artifact:
    """What a JSON file holds.

    Args:
      path: The file.
      make: From the document to the artifact; it may raise ``KeyError``, ``TypeError`` or ``ValueError`` where the
        document is another one, and ``DataError`` where its contents are not possible.
      what: The contents in messages, such as ``"the label set"``.
      noun: What the file should be, such as ``"a label set"``.

    Raises:
      DataError: If it is missing or damaged.
    """
    try:
        if os.path.getsize(path) > MAX_FILE_BYTES:
            raise DataError(f"larger than {MAX_FILE_BYTES:,} bytes; not {noun}")
        return make(json.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"{path}: cannot read {what}: {error.strerror}") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DataError(
            f"{path}: not {noun} that this library saved, or damaged; take a copy that is whole"
        ) from None


def fingerprint_of(document: Any) -> str:
    """Twelve hexadecimal digits that change when any part of a document of plain values does.

    Example:
      >>> fingerprint_of(["a"]) == fingerprint_of(["b"])
      False
    """
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()[:12]
