"""``transformer-jax native``: whether the kernels in C++ are there."""

import dataclasses

DESCRIPTION = """Say whether the native library is there: kernels in C++ that make attention on a CPU faster.

It is compiled once for a version of transformer-jax and JAX, by a compiler for C++17, into your cache; without it
everything works, by XLA's own operations, only slower. TRANSFORMER_JAX_NATIVE=0 leaves it aside; set to a folder,
it is kept there.

Examples:
  transformer-jax native                  is it there, where, for which processor
  transformer-jax native build            compile it, some 10 to 30 seconds
  CXX=clang++ transformer-jax native build --force
  transformer-jax native clear            remove all that were compiled"""


@dataclasses.dataclass(frozen=True)
class Command:
    def run(self) -> int:
        # Loaded here, not above: it brings jax, and --help does without.
        from transformer_jax import native

        found = native.library()
        if found is None:
            print(f"not in use: {native.why_missing()}")
            return 0
        print(f"in use: {found.path}, {found.variant} on this processor")
        return 0
