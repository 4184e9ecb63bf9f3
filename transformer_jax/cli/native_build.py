"""``transformer-jax native build``: compile the kernels in C++."""

import dataclasses

DESCRIPTION = """Compile the native library, unless that of this version is there; `transformer-jax native --help` says
what it is.

The compiler is that of the environment variable CXX, or else c++, g++ or clang++. The library goes into a folder of
your cache that only you can write to, whole or not at all; processes that begin later use it.

Examples:
  transformer-jax native build
  CXX=clang++ transformer-jax native build --force"""


@dataclasses.dataclass(frozen=True)
class Command:
    force: bool = False
    """Compile although it is there."""

    def run(self) -> int:
        from transformer_jax import native
        from transformer_jax.native.trusted_folder import NativeError

        path = native.build(force=self.force)
        found = native.library()
        if found is None:
            raise NativeError(f"{path} was built, and is not in use: {native.why_missing()}")
        print(f"in use: {found.path}, {found.variant} on this processor")
        return 0
