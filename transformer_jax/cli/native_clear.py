"""``transformer-jax native clear``: remove compiled kernels."""

import dataclasses

DESCRIPTION = """Remove the native libraries that were compiled for you, of all versions.

Example:
  transformer-jax native clear"""


@dataclasses.dataclass(frozen=True)
class Command:
    def run(self) -> int:
        from transformer_jax import native

        print(f"removed {native.clear()}")
        return 0
