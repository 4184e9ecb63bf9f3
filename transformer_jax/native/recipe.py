"""What the native library is made from: sources, headers, flags; and the name that follows from them."""

import functools
import hashlib
import platform
from pathlib import Path

SOURCES = Path(__file__).with_name("sources")

KERNELS = ("attention_kernels.cpp", "recurrence_kernels.cpp")
"""Compiled once for each vector unit of the architecture; the processor that runs it chooses."""

COMMON = ("tasks.cpp", "variants.cpp", "attention_tasks.cpp", "attention_ffi.cpp", "recurrence_ffi.cpp")
"""Compiled once, for any processor of the architecture."""

FLAGS = (
    "-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast", "-fno-math-errno",
    "-fno-trapping-math",
)  # fmt: skip

_X86_VARIANTS = {
    "plain": (),
    "avx2": ("-mavx2", "-mfma"),
    "avx512": ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma"),
}


def architecture() -> str:
    """The kind of processor, as the platform names it."""
    return platform.machine() or "unknown"


def variants() -> dict[str, tuple[str, ...]]:
    """For each vector unit of the architecture the flags that its kernels are compiled with."""
    return _X86_VARIANTS if architecture() in ("x86_64", "AMD64") else {"plain": ()}


def common_flags() -> tuple[str, ...]:
    """Which variants the library holds, as definitions for the preprocessor."""
    return tuple(f"-DTJ_WITH_{name.upper()}" for name in variants() if name != "plain")


def header_folder() -> Path:
    """Headers of XLA's foreign-function interface, which come with JAX."""
    import jax.ffi

    return Path(jax.ffi.include_dir())


@functools.cache
def fingerprint() -> str:
    """Hash of sources, headers, flags and architecture: a library of another one is not loaded.

    Example:
      >>> len(fingerprint())
      16
    """
    digest = hashlib.sha256()
    files = sorted(SOURCES.iterdir()) + sorted(header_folder().rglob("*.h"))
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(repr((FLAGS, variants(), common_flags(), architecture())).encode())
    return digest.hexdigest()[:16]
