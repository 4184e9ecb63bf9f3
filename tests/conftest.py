"""Shared test set-up: runtime shape checks, strict rank promotion and exact matmuls."""

import os
import signal
from collections import Counter
from collections.abc import Iterator

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["TRANSFORMER_JAX_COMPILED"] = ""  # commands that tests start keep no programs in the user's cache

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts us in the background has Ctrl-C ignored, and every process that we start inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

from jaxtyping import install_import_hook

CHECKED_PACKAGES = ["functional", "nn", "models", "decode", "train"]
install_import_hook([f"transformer_jax.{name}" for name in CHECKED_PACKAGES], "beartype.beartype")

import hypothesis
import jax
import numpy as np
import pytest

# How long an example takes says how busy the machine is, and nothing about the code.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--share",
        type=int,
        default=1,
        metavar="N",
        help="of the cases of each test the first and every N-th after it: for a second Python after all on a first",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    share = config.getoption("--share")
    cases_so_far: Counter[str] = Counter()
    kept, left_out = [], []
    for item in items:
        test = item.nodeid.partition("[")[0]
        (left_out if cases_so_far[test] % share else kept).append(item)
        cases_so_far[test] += 1
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


@pytest.fixture
def random_generator() -> np.random.Generator:
    """A NumPy generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_programs() -> Iterator[None]:
    """Thousands of small programs would otherwise stay in memory until the worker ends."""
    yield
    jax.clear_caches()
