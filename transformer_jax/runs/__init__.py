"""Experiments on disk: run folders, model folders, and what is done with them."""

from typing import TYPE_CHECKING

from transformer_jax.lazy_names import lazy_names

if TYPE_CHECKING:
    from transformer_jax.runs.averaging import average_run as average_run
    from transformer_jax.runs.evaluation import evaluate_run as evaluate_run
    from transformer_jax.runs.experiment import ExperimentConfig as ExperimentConfig
    from transformer_jax.runs.experiment import resume_config as resume_config
    from transformer_jax.runs.experiment import saved_config as saved_config
    from transformer_jax.runs.experiment import start_config as start_config
    from transformer_jax.runs.experiment import with_overrides as with_overrides
    from transformer_jax.runs.experiment_runner import ExperimentResult as ExperimentResult
    from transformer_jax.runs.experiment_runner import RunOptions as RunOptions
    from transformer_jax.runs.experiment_runner import run_experiment as run_experiment
    from transformer_jax.runs.figures import plot_run as plot_run
    from transformer_jax.runs.hub import load as load
    from transformer_jax.runs.hub import load_pretrained as load_pretrained
    from transformer_jax.runs.hub import train as train
    from transformer_jax.runs.loading import LoadedRun as LoadedRun
    from transformer_jax.runs.loading import load_run as load_run
    from transformer_jax.runs.model_folder import export_model as export_model
    from transformer_jax.runs.model_folder import pretrained_folder as pretrained_folder
    from transformer_jax.runs.model_folder import pretrained_names as pretrained_names
    from transformer_jax.runs.reproduction import Comparison as Comparison
    from transformer_jax.runs.reproduction import reproduce_run as reproduce_run
    from transformer_jax.runs.vector_start import VectorStart as VectorStart
    from transformer_jax.runs.vector_start import start_from_vectors as start_from_vectors
    from transformer_jax.runs.vector_start import start_of as start_of
    from transformer_jax.runs.warm_start import Start as Start
    from transformer_jax.runs.warm_start import start_from as start_from

_MODULES = {
    "Comparison": "reproduction",
    "ExperimentConfig": "experiment",
    "ExperimentResult": "experiment_runner",
    "LoadedRun": "loading",
    "RunOptions": "experiment_runner",
    "Start": "warm_start",
    "VectorStart": "vector_start",
    "average_run": "averaging",
    "evaluate_run": "evaluation",
    "export_model": "model_folder",
    "load": "hub",
    "load_pretrained": "hub",
    "load_run": "loading",
    "plot_run": "figures",
    "pretrained_folder": "model_folder",
    "pretrained_names": "model_folder",
    "reproduce_run": "reproduction",
    "resume_config": "experiment",
    "run_experiment": "experiment_runner",
    "saved_config": "experiment",
    "start_config": "experiment",
    "start_from": "warm_start",
    "start_from_vectors": "vector_start",
    "start_of": "vector_start",
    "train": "hub",
    "with_overrides": "experiment",
}
"""Where each public name is defined."""

__all__ = [
    "Comparison",
    "ExperimentConfig",
    "ExperimentResult",
    "LoadedRun",
    "RunOptions",
    "Start",
    "VectorStart",
    "average_run",
    "evaluate_run",
    "export_model",
    "load",
    "load_pretrained",
    "load_run",
    "plot_run",
    "pretrained_folder",
    "pretrained_names",
    "reproduce_run",
    "resume_config",
    "run_experiment",
    "saved_config",
    "start_config",
    "start_from",
    "start_from_vectors",
    "start_of",
    "train",
    "with_overrides",
]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
