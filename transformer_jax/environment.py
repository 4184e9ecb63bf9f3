"""The machine and the versions that a measurement or a run was made with."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from transformer_jax.allocator import num_cores

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "transformer-jax")


def environment() -> dict[str, Any]:
    """Versions, device, cores and flags as a JSON document: the header of every measurement.

    Example:
      >>> environment()["platform"] in ("cpu", "gpu", "tpu")
      True
    """
    import jax

    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "versions": versions,
        "platform": device.platform,
        "device": device.device_kind,
        "num_devices": jax.device_count(),
        "processor": _processor_name(),
        "cores": num_cores(),
        "load": _load(),
        "native": _native(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "matmul_precision": str(getattr(jax.config, "jax_default_matmul_precision", None)),
    }


def environment_table() -> dict[str, Any]:
    """The same by name, one value each, for reports and ``run.lock``; the device with its count and platform.

    Example:
      >>> sorted(environment_table())[:3]
      ['cores', 'device', 'flax']
    """
    import transformer_jax

    found = environment()
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "transformer_jax": transformer_jax.__version__,
        "python": found["python"],
        **{name: found["versions"][name] for name in packages},
        "platform": platform.platform(),
        "processor": found["processor"],
        "cores": found["cores"],
        "native": found["native"],
        "device": f"{found['num_devices']} x {found['platform']} ({found['device']})",
        "xla_flags": found["xla_flags"],
    }


def _native() -> str:
    """The native library that is in use here, or ``none``."""
    from transformer_jax import native

    library = native.library()
    return "none" if library is None else f"{library.fingerprint} ({library.variant})"


def _load() -> float | None:
    """Mean number of processes that wanted a core in the last minute."""
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        return None


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
