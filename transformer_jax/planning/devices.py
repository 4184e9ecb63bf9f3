"""Devices as their makers' data sheets describe them.

Peaks are of dense products (without the data sheets' factor of two for sparsity). ``float32`` is what JAX multiplies
float32 with by default: TF32 on NVIDIA's GPUs, one pass of bfloat16 on TPUs. Bandwidths of links are of one direction,
half of what the data sheets print.
"""

import dataclasses
from collections.abc import Mapping

from transformer_jax.errors import ConfigError, nearest_hint


@dataclasses.dataclass(frozen=True, kw_only=True)
class Device:
    """One device and its links.

    Args:
      name: Its short name.
      title: What the maker calls it.
      peak_flops: Floating-point operations a second of products, by dtype.
      memory_bytes: Of its own memory.
      memory_bandwidth: Bytes a second, reads and writes together.
      link_bandwidth: Bytes a second that a device sends to those of its node.
      node_size: Devices that such links join.
      network_bandwidth: Bytes a second that a device sends to other nodes; None where the source says nothing.
      source: Where these numbers are from.
    """

    name: str
    title: str
    peak_flops: Mapping[str, float]
    memory_bytes: float
    memory_bandwidth: float
    link_bandwidth: float
    node_size: int
    network_bandwidth: float | None
    source: str

    def peak(self, dtype: str) -> float:
        """Operations a second for products of a dtype; of float32 where the sheet has no number of its own."""
        return self.peak_flops.get(dtype, self.peak_flops["float32"])

    def bandwidth(self, span: int) -> float:
        """Bytes a second that a device sends round a ring which lies in ``span`` consecutive devices.

        Raises:
          ConfigError: If that is more than a node and no network is known.

        Example:
          >>> find_device("h100").bandwidth(8) / 1e9, find_device("h100").bandwidth(16) / 1e9
          (450.0, 50.0)
        """
        if span <= self.node_size:
            return self.link_bandwidth
        if self.network_bandwidth is None:
            raise ConfigError(
                f"`mesh` wants {span:,} devices in a ring, but at most {self.node_size:,} of '{self.name}' are joined"
            )
        return self.network_bandwidth


def _gpu(name: str, title: str, tf32: float, half: float, **others: float | int | str) -> Device:
    peaks = {"float32": tf32, "bfloat16": half, "float16": half}
    return Device(name=name, title=title, peak_flops=peaks, **others)  # type: ignore[arg-type]  # of several types by name


def _tpu(name: str, title: str, peak: float, **others: float | int | str | None) -> Device:
    peaks = {"float32": peak, "bfloat16": peak}
    return Device(name=name, title=title, peak_flops=peaks, **others)  # type: ignore[arg-type]  # of several types by name


DEVICES: dict[str, Device] = {
    one.name: one
    for one in (
        # Eight joined by NVSwitch, a 400 Gb/s network adapter for each.
        _gpu(
            "h100", "NVIDIA H100 SXM, 80 GB", 494.7e12, 989.4e12, memory_bytes=80e9, memory_bandwidth=3.35e12,
            link_bandwidth=450e9, node_size=8, network_bandwidth=50e9,
            source="NVIDIA H100 Tensor Core GPU data sheet and architecture paper (2022); NVIDIA DGX H100 data sheet",
        ),
        _gpu(
            "h200", "NVIDIA H200 SXM, 141 GB", 494.7e12, 989.4e12, memory_bytes=141e9, memory_bandwidth=4.8e12,
            link_bandwidth=450e9, node_size=8, network_bandwidth=50e9,
            source="NVIDIA H200 Tensor Core GPU data sheet; NVIDIA DGX H200 data sheet",
        ),
        # Eight joined by NVSwitch, a 200 Gb/s network adapter for each.
        _gpu(
            "a100", "NVIDIA A100 SXM, 80 GB", 156e12, 312e12, memory_bytes=80e9, memory_bandwidth=2.039e12,
            link_bandwidth=300e9, node_size=8, network_bandwidth=25e9,
            source="NVIDIA A100 Tensor Core GPU data sheet; NVIDIA DGX A100 data sheet",
        ),
        # 400 GB/s in both directions; the data centre's 6.4 Tb/s a pod shared by its 256 chips.
        _tpu(
            "v5e", "Google TPU v5e", 197e12, memory_bytes=16e9, memory_bandwidth=819e9, link_bandwidth=200e9,
            node_size=256, network_bandwidth=6.4e12 / 8 / 256, source="Google Cloud, TPU v5e, system architecture",
        ),
        # 4,800 Gb/s a chip; a pod has 8,960 of them.
        _tpu(
            "v5p", "Google TPU v5p", 459e12, memory_bytes=95e9, memory_bandwidth=2.765e12, link_bandwidth=600e9,
            node_size=8960, network_bandwidth=None, source="Google Cloud, TPU v5p, system architecture",
        ),
        # 40 cores at the base clock of 2.3 GHz, 2 units of 16 multiply-adds each; 8 channels of DDR4-3200 with 32 GB;
        # three UPI links of 11.2 GT/s and 2 bytes; a 100 Gb/s network adapter is assumed.
        Device(
            name="cpu", title="Intel Xeon Platinum 8380, one socket, 256 GB",
            peak_flops={"float32": 40 * 2.3e9 * 2 * 16 * 2, "float64": 40 * 2.3e9 * 2 * 8 * 2},
            memory_bytes=256e9, memory_bandwidth=8 * 3200e6 * 8, link_bandwidth=3 * 11.2e9 * 2, node_size=2,
            network_bandwidth=12.5e9, source="Intel, Xeon Platinum 8380 processor, specifications (ark.intel.com)",
        ),
    )
}  # fmt: skip


def find_device(name: str) -> Device:
    """The device of a name.

    Args:
      name: Such as ``"h100"``; upper case too.

    Raises:
      ConfigError: If none is called so.

    Example:
      >>> find_device("H100").title
      'NVIDIA H100 SXM, 80 GB'
    """
    if name.lower() in DEVICES:
        return DEVICES[name.lower()]
    raise ConfigError(
        f"unknown device '{name}'{nearest_hint(name.lower(), DEVICES) or '; known: ' + ', '.join(DEVICES)}"
    )
