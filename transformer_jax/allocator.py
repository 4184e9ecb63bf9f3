"""Keep the memory that each step gives back, where the C library is glibc."""

import contextlib
import ctypes
import os

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8  # from glibc's malloc.h
_HEAP_BYTES = 2**26
"""The most that an arena of another thread than the first takes at one time; given back when empty, but for the pad."""


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> bool:
    """Have glibc keep freed blocks for the next allocation instead of returning them to the kernel.

    XLA allocates a program's temporary memory anew at every call on the CPU. glibc maps and unmaps blocks of that
    size, and the kernel clears each page when it is touched first: about a fifth of a training step. With no
    mapping and no trimming the pages are there from the second call on. One arena more than there are cores: the
    threads of a matmul take their scratch at each step of a loop over time, and with one arena they wait for
    each other; and not the eight for each core that glibc would make, because a block is kept only for the
    threads of its arena. Blocks above 64 MiB are kept for the first thread alone: see `run_in_calling_thread`. The
    process then holds the most memory that it ever had; so this is for programs, which call it before they
    compute, and never done on import.

    Returns:
      Whether it took effect; False where the C library is another one.

    Source: mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    settings = (
        (_M_MMAP_THRESHOLD, 2**30),
        (_M_TRIM_THRESHOLD, -1),
        (_M_TOP_PAD, _HEAP_BYTES),
        (_M_ARENA_MAX, num_cores() + 1),
    )
    results = [mallopt(parameter, value) for parameter, value in settings]
    return all(result == 1 for result in results)


def run_in_calling_thread() -> None:
    """Have JAX run a CPU's programs in the thread that calls them; before the first array is made.

    Otherwise threads of its own take turns, whose arenas map and unmap blocks above 64 MiB at every call whatever
    mallopt says, and the memory of one update is still held when the next takes its own. A training step of the
    Multi30k Transformer spent a sixth of its processor time on clearing pages.
    """
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)


def give_back() -> None:
    """Return to the kernel what is free in every arena, where the C library is glibc: malloc_trim(3)."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
