"""Environments of processes that tests start: the CPU as one device or as several virtual ones."""

import os
from importlib.metadata import version
from pathlib import Path


def fast_compile_flags() -> tuple[str, ...]:
    """Flags of XLA for processes that compile many programs and run each a few times; compiling takes a fourth.

    Without LLVM's optimisations, in one piece, and by the older emitters of fusions where jaxlib still has them
    (an unknown flag would end the process). Sums may round otherwise than with the defaults.
    """
    flags = ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
    if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):
        flags.append("--xla_cpu_use_fusion_emitters=false")
    return tuple(flags)


def cpu_environment(
    devices: int = 1, *, fast_compile: bool = False, compiled: Path | None = None
) -> dict[str, str]:
    """This process's environment, for one that computes on CPU devices and writes through buffers as users' do.

    Args:
      devices: How many JAX shall see.
      fast_compile: With :func:`fast_compile_flags`, for processes that mostly compile. Processes whose numbers are
        compared bit for bit must agree on it.
      compiled: Folder of compiled programs that processes one after the other share.

    Example:
      >>> cpu_environment(8)["XLA_FLAGS"]
      '--xla_force_host_platform_device_count=8'
    """
    flags = [f"--xla_force_host_platform_device_count={devices}"]
    if fast_compile:
        flags += fast_compile_flags()
    found = {**os.environ, "XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
    found.pop("PYTHONUNBUFFERED", None)  # set, it hides what a failing flush does
    if compiled is not None:
        found |= {
            "JAX_COMPILATION_CACHE_DIR": str(compiled),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
    return found
