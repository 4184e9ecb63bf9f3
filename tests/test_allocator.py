"""Kept memory: whether pages are faulted in anew shows in the kernel's count of faults."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from transformer_jax.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(3):
    np.ones(2**23)  # 64 MiB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

JAX_PROGRAM = """
import resource
from transformer_jax.allocator import keep_freed_memory, run_in_calling_thread

assert keep_freed_memory()
run_in_calling_thread()
import jax, jax.numpy as jnp

function = jax.jit(lambda column: jnp.outer(column, column + 1) @ column)  # 95 MiB between the two products

def compute(column, calls):
    for _ in range(calls):
        column = function(column) * 1e-9
    return column.block_until_ready()

column = compute(jnp.ones(5000), 40)  # until every place where a block may lie was used
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
compute(column, 10)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / (5000 * 5000 * 4))
"""

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


@needs_glibc
def test_pages_are_faulted_in_once() -> None:
    def faults(mode: str) -> int:
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True
        )
        return int(run.stdout)

    returned, kept = faults("return"), faults("keep")
    assert kept < 100
    assert returned > 100  # else this test says nothing


@needs_glibc
def test_large_blocks_of_a_program_are_faulted_in_once() -> None:
    run = subprocess.run([sys.executable, "-c", JAX_PROGRAM], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 1.5  # blocks in ten calls; three to six where other threads take turns
