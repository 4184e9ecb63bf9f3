"""Environments of processes that tests start: the CPU as one device or as several virtual ones."""

import os
from pathlib import Path


def cpu_environment(
    devices: int = 1, *, fast_compile: bool = False, compiled: Path | None = None
) -> dict[str, str]:
    """This process's environment, for one that computes on CPU devices.

    Args:
      devices: How many JAX shall see.
      fast_compile: Without LLVM's optimisations; for processes that mostly compile. Sums may round otherwise, so
        processes whose numbers are compared bit for bit must agree on it.
      compiled: Folder of compiled programs that processes one after the other share.

    Example:
      >>> cpu_environment(8, fast_compile=True)["XLA_FLAGS"]
      '--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0'
    """
    flags = [f"--xla_force_host_platform_device_count={devices}"]
    if fast_compile:
        flags.append("--xla_backend_optimization_level=0")
    found = {**os.environ, "XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
    if compiled is not None:
        found |= {
            "JAX_COMPILATION_CACHE_DIR": str(compiled),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
    return found
