"""Keep the memory that each step gives back, where the C library is glibc."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # from glibc's malloc.h


def keep_freed_memory() -> bool:
    """Have glibc keep freed blocks for the next allocation instead of returning them to the kernel.

    XLA allocates a program's temporary memory anew at every call on the CPU. glibc maps and unmaps blocks of that
    size, and the kernel clears each page when it is touched first: about a fifth of a training step. With one
    arena, no mapping and no trimming, the pages are there from the second call on. The process then holds the
    most memory that it ever had; so this is for programs, which call it before they compute, and never done on
    import.

    Returns:
      Whether it took effect; False where the C library is another one.

    Source: mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_ARENA_MAX, 1))
    results = [mallopt(parameter, value) for parameter, value in settings]
    return results == [1, 1, 1]
