"""How much memory the machine has, and how much a compiled program takes of it."""

import contextlib
import os
from typing import Any

import jax

__all__ = ["machine_memory", "program_bytes"]


def machine_memory() -> int | None:
    """Bytes of the machine's memory or of its devices' together, whichever is more; None where neither is known."""
    found = []
    with contextlib.suppress(AttributeError, OSError, ValueError):  # not every system tells
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    found.append(sum((device.memory_stats() or {}).get("bytes_limit", 0) for device in jax.local_devices()))
    return max(found) or None


def program_bytes(executable: Any) -> int | None:
    """Bytes of a compiled program's arguments, results and temporary arrays together, if XLA tells."""
    try:
        analysis: Any = executable.memory_analysis()
        return int(
            analysis.temp_size_in_bytes
            + analysis.argument_size_in_bytes
            + analysis.output_size_in_bytes
            - analysis.alias_size_in_bytes
        )
    except (AttributeError, NotImplementedError, RuntimeError):
        return None
