"""The native library: kernels in C++ for the CPU, compiled on the machine once, by `build`, when its user asks for it.

Without it everything works, by XLA's own operations. Nothing is compiled unasked.
"""

from transformer_jax.native.compiler import build, clear
from transformer_jax.native.loader import Library, library, why_missing

__all__ = ["Library", "build", "clear", "library", "why_missing"]
