"""Every example in a docstring of the library runs and gives what it says."""

import doctest
import importlib
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import transformer_jax
from transformer_jax import functional

# What a reader of an example may take as imported.
NAMES = {"jax": jax, "jnp": jnp, "np": np, "nnx": nnx}
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(transformer_jax.__path__, prefix="transformer_jax.")
)
# What people import first must be shown by example; a module of these with none fails.
SHOWN_BY_EXAMPLE = [
    "transformer_jax.functional.attention.attend",
    "transformer_jax.functional.losses",
    "transformer_jax.functional.masks",
    "transformer_jax.functional.normalization",
    "transformer_jax.functional.positions",
    "transformer_jax.functional.recurrent.run_cells",
    "transformer_jax.functional.scores",
    "transformer_jax.decode.beam",
    "transformer_jax.decode.greedy",
    "transformer_jax.decode.sampling",
    "transformer_jax.models.encoder_decoder",
    "transformer_jax.models.recurrent_seq2seq",
    "transformer_jax.nn.multi_head",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    results = doctest.testmod(module, extraglobs=NAMES, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0, f"{results.failed} of {results.attempted} examples of {name} fail"
    if name in SHOWN_BY_EXAMPLE:
        assert results.attempted > 0, f"{name} shows no example"


# Plumbing that no paper describes.
WITHOUT_SOURCE = {"recurrence", "seed_key", "split_key", "step_once"}


def test_every_function_of_the_mathematics_names_its_source() -> None:
    functions = {name for name in functional.__all__ if inspect.isfunction(getattr(functional, name))}
    assert functions >= WITHOUT_SOURCE
    unsourced = {name for name in functions if "Source: " not in (getattr(functional, name).__doc__ or "")}
    assert unsourced == WITHOUT_SOURCE
