"""Every rung of the ladder from the vanilla RNN to the Transformer, in JAX.

``functional`` holds the mathematics (arrays in, arrays out), ``nn`` thin Flax NNX modules over it, ``models``
whole models, ``decode`` the searches, ``data`` the data sets, ``train`` the trainer, ``cli`` the command line.
Importing this package, ``functional``, ``nn``, ``models`` or ``decode`` needs no extra.
"""

from importlib import metadata

try:
    __version__ = metadata.version("transformer-jax")
except metadata.PackageNotFoundError:  # a source tree on the path, not installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
