"""Shared test set-up: runtime shape checks, strict rank promotion, exact matmuls, tiers, compiled programs."""

import gc
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from transformer_jax.testing.processes import fast_compile_flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["TRANSFORMER_JAX_NATIVE"] = "0"  # what a user has compiled changes no test; those of it ask for it
os.environ["TRANSFORMER_JAX_COMPILED"] = ""  # commands that tests start keep no programs in the user's cache
if "XLA_FLAGS" not in os.environ:  # child processes of tests have them, too
    os.environ["XLA_FLAGS"] = " ".join(fast_compile_flags())
os.environ.pop("PYTHONUNBUFFERED", None)  # it hides faults of ordinary buffering in child processes

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts us in the background has Ctrl-C ignored, and every process that we start inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

from jaxtyping import install_import_hook

CHECKED_PACKAGES = ["functional", "nn", "models", "decode", "training"]
install_import_hook([f"transformer_jax.{name}" for name in CHECKED_PACKAGES], "beartype.beartype")

import hypothesis
import jax
import numpy as np
import pytest
from jax._src.interpreters import mlir

from transformer_jax import compile_cache

pytest_plugins = ["command_fixtures", "native_fixtures", "tiny_training_fixtures"]

# How long an example takes says how busy the machine is, and nothing about the code.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")
jax.config.update(
    "jax_traceback_in_locations_limit", 0
)  # no test reads where in Python an operation was made

MAX_KEPT_BYTES = 2**30
MIN_SECONDS_KEPT = 0.2  # to write and read a smaller program takes as long as to compile it
MAX_RESIDENT_BYTES = 2 * 10**9
PROGRAMS_A_CONTEXT = 200


def _kept_for_some_programs(make_context: Callable[[], Any]) -> Callable[[], Any]:
    """JAX makes an MLIR context for each program, dialects and all: a sixth of the time of tests of small models."""
    kept = threading.local()

    def make() -> Any:
        if getattr(kept, "left", 0) == 0:
            kept.context, kept.left = make_context(), PROGRAMS_A_CONTEXT
        kept.left -= 1
        return kept.context

    return make


if hasattr(mlir, "make_ir_context"):
    mlir.make_ir_context = _kept_for_some_programs(mlir.make_ir_context)


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled programs in pytest's own cache folder, where the next run and child processes find them.

    A folder for each worker: JAX writes entries in place, and a second process could read half of one. Child
    processes, which tests may kill while they write, have another one.
    """
    cache = getattr(config, "cache", None)
    if cache is None:
        return
    root = cache.mkdir("compiled") / compile_cache.processor()
    if not hasattr(config, "workerinput") and _size(root) > MAX_KEPT_BYTES:
        shutil.rmtree(root)
    folder = root / os.environ.get("PYTEST_XDIST_WORKER", "alone")
    jax.config.update("jax_compilation_cache_dir", str(folder / "tests"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS_KEPT)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "children")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = str(MIN_SECONDS_KEPT)


def pytest_collection_finish() -> None:
    """What has been imported and collected stays: the collector of garbage need not look through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def random_generator() -> np.random.Generator:
    """A NumPy generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_programs() -> Iterator[None]:
    """Thousands of small programs would otherwise stay in memory until the worker ends."""
    yield
    statm = Path("/proc/self/statm")  # of Linux
    if (
        not statm.exists()
        or int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") > MAX_RESIDENT_BYTES
    ):
        jax.clear_caches()
