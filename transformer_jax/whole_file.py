"""Text files that are either whole or not there."""

import os
import secrets
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader, or an interruption, sees the old one or the new one, never a half.

    Args:
      path: Where; its folder must be there.
      text: All of it, written as UTF-8.

    Raises:
      OSError: If it cannot be written; what was there before is left, and nothing beside it.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with partial.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # or the power could go between the name and the content
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
