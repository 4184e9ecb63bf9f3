"""Every rung of the ladder from the vanilla RNN to the Transformer, in JAX.

::

    import transformer_jax as tj

    t = tj.load_pretrained("g2p-en")            # or tj.load("runs/words")
    t.translate(["attention"], search=tj.BeamSearch(num_beams=4))[0].text
    run = tj.train("experiments/pronunciation_lstm.py", "runs/words")
    run.evaluate(split="test")

``functional`` holds the mathematics (arrays in, arrays out), ``nn`` thin Flax NNX modules over it, ``models`` whole
models, ``decode`` the searches, ``data`` the data sets, ``training`` the trainer, ``tasks`` what models are used for,
``runs`` experiments on disk, ``cli`` the command line. The names below are loaded when they are first used: importing
this package is light, and importing ``functional``, ``nn``, ``models`` or ``decode`` needs no extra.
"""

from importlib import metadata
from typing import TYPE_CHECKING

from transformer_jax.lazy_names import lazy_names

if TYPE_CHECKING:
    from transformer_jax.errors import ConfigError as ConfigError
    from transformer_jax.errors import DataError as DataError
    from transformer_jax.errors import RunError as RunError
    from transformer_jax.errors import ShapeError as ShapeError
    from transformer_jax.errors import TransformerJaxError as TransformerJaxError
    from transformer_jax.inference.requested_search import BeamSearch as BeamSearch
    from transformer_jax.inference.requested_search import GreedySearch as GreedySearch
    from transformer_jax.inference.requested_search import Sampling as Sampling
    from transformer_jax.runs.experiment import ExperimentConfig as ExperimentConfig
    from transformer_jax.runs.hub import load as load
    from transformer_jax.runs.hub import load_pretrained as load_pretrained
    from transformer_jax.runs.hub import pretrained_names as pretrained_names
    from transformer_jax.runs.hub import train as train
    from transformer_jax.runs.loading import LoadedRun as LoadedRun

try:
    __version__ = metadata.version("transformer-jax")
except metadata.PackageNotFoundError:  # a source tree on the path, not installed
    __version__ = "0+unknown"

_MODULES = {
    "BeamSearch": "inference.requested_search",
    "ConfigError": "errors",
    "DataError": "errors",
    "ExperimentConfig": "runs.experiment",
    "GreedySearch": "inference.requested_search",
    "LoadedRun": "runs.loading",
    "RunError": "errors",
    "Sampling": "inference.requested_search",
    "ShapeError": "errors",
    "TransformerJaxError": "errors",
    "load": "runs.hub",
    "load_pretrained": "runs.hub",
    "pretrained_names": "runs.hub",
    "train": "runs.hub",
}
"""Where each public name is defined."""

__all__ = ["__version__", *_MODULES]


__getattr__, __dir__ = lazy_names(__name__, _MODULES)
