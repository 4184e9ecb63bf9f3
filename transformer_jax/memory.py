"""How much memory the machine has: what needs more is refused before it is built or compiled."""

import contextlib
import os

import jax

__all__ = ["machine_memory"]


def machine_memory() -> int | None:
    """Bytes of the machine's memory or of its devices' together, whichever is more; None where neither is known."""
    found = []
    with contextlib.suppress(AttributeError, OSError, ValueError):  # not every system tells
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    found.append(sum((device.memory_stats() or {}).get("bytes_limit", 0) for device in jax.local_devices()))
    return max(found) or None
