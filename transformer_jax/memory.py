"""How much memory the machine has: what needs more is refused before it is built or compiled."""

import contextlib
import os

import jax

__all__ = ["machine_memory"]


def machine_memory() -> int | None:
    """Bytes of the machine's or of the first device's memory, whichever is more; None where neither is known."""
    found = []
    with contextlib.suppress(AttributeError, OSError, ValueError):  # not every system tells
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    found.append((jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0))
    return max(found) or None
